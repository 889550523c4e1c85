package segment

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestIndexesThatDoNotFitTheRecordsAreMadeAnew: a broken index on disk is not what is uploaded (KAFKA-15401). The
// second segment ends a transaction that began in the first.
func TestIndexesThatDoNotFitTheRecordsAreMadeAnew(t *testing.T) {
	for _, c := range []struct {
		name, file string
		damage     func([]byte) []byte
		silent     bool
		snapshot   bool // that of the segment's start is gone as well
		fails      bool // and the segment before it
	}{
		{name: "nothing", file: indexSuffix, silent: true, damage: func(b []byte) []byte { return b }},
		{name: "nothing, no snapshot", file: indexSuffix, silent: true, snapshot: true, damage: func(b []byte) []byte { return b }},
		{name: "position", file: indexSuffix, damage: func(b []byte) []byte { b[7]++; return b }},
		{name: "offset", file: indexSuffix, damage: func(b []byte) []byte { b[3]++; return b }},
		{name: "half an entry", file: indexSuffix, damage: func(b []byte) []byte { return b[:len(b)-3] }},
		{name: "behind the end", file: indexSuffix, damage: func(b []byte) []byte { return append(b, 0, 0, 9, 9, 0, 9, 9, 9) }},
		{name: "time", file: timeSuffix, damage: func(b []byte) []byte { b[6] ^= 1; return b }},
		{name: "time's offset", file: timeSuffix, damage: func(b []byte) []byte { b[11] += 9; return b }},
		{name: "first offset of a transaction", file: txnSuffix, damage: func(b []byte) []byte { b[17]++; return b }},
		{name: "transaction that is not there", file: txnSuffix, damage: func([]byte) []byte { return nil }},
		{name: "transactions cut", file: txnSuffix, damage: func(b []byte) []byte { return b[:20] }},
		{name: "transactions cut, no snapshot", file: txnSuffix, snapshot: true, damage: func(b []byte) []byte { return b[:20] }},
		{name: "transactions cut, nothing before", file: txnSuffix, snapshot: true, fails: true, damage: func(b []byte) []byte { return b[:20] }},
		{name: "a marker that is not there, nothing before", file: txnSuffix, snapshot: true, fails: true, damage: func(b []byte) []byte { b[25]++; return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			var said bytes.Buffer
			d, err := OpenDir(DirOptions{FS: mem, Path: "/data", Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			l := openLog(t, d, Config{IndexIntervalBytes: 1, RemoteEnabled: true})
			mustAppend(t, l, 0, plain(5, "a"))
			mustAppend(t, l, 0, inTxn(7, 1, 0, "x"))
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, 0, plain(10, "b"))
			mustAppend(t, l, 0, plain(20, "c"))
			endTxn(t, l, 7, 1, false)
			mustAppend(t, l, 0, plain(300, "d"))
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
			base := l.Sealed(0)[1].BaseOffset
			name := "/data/orders-3/" + fileName(base, c.file)
			want := sealedIndexes(t, l, base)
			b, err := vfs.ReadFile(mem, name, 1<<20)
			if err == nil {
				err = vfs.WriteFileAtomic(mem, name, c.damage(b))
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.snapshot {
				if err := mem.Remove("/data/orders-3/" + fileName(base, snapshotSuffix)); err != nil {
					t.Fatal(err)
				}
			}
			if c.fails {
				l.SetHighWatermark(base)
				if err := l.SetLogStart(base); err != nil {
					t.Fatal(err)
				}
				s, err := l.OpenSealed(base)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Release()
				if _, err := s.TxnIndex(); !errors.Is(err, ErrCorrupt) {
					t.Errorf("got %v", err)
				}
				return
			}
			if diff := cmp.Diff(want, sealedIndexes(t, l, base)); diff != "" {
				t.Errorf("(-before +after damage):\n%s", diff)
			}
			if told := strings.Contains(said.String(), "does not fit the records") && strings.Contains(said.String(), c.file); told == c.silent {
				t.Errorf("logged: %s", said.String())
			}
		})
	}
}

func sealedIndexes(t *testing.T, l *Log, base int64) map[string][]byte {
	t.Helper()
	s, err := l.OpenSealed(base)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	out := map[string][]byte{}
	for suffix, get := range map[string]func() ([]byte, error){indexSuffix: s.OffsetIndex, timeSuffix: s.TimeIndex, txnSuffix: s.TxnIndex} {
		if out[suffix], err = get(); err != nil || len(out[suffix]) == 0 {
			t.Fatalf("%s: %d bytes, %v", suffix, len(out[suffix]), err)
		}
	}
	return out
}

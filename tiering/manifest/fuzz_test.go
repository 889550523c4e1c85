package manifest

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Decoders may allocate this much whatever the input, and this often its size.
const (
	fuzzFixed  = 4 << 20
	fuzzFactor = 16
)

// bounded fails when fn allocates more than a decoder may for n bytes of input.
func bounded(t *testing.T, n int, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(fuzzFixed+fuzzFactor*n); got > most {
		t.Fatalf("%d bytes allocated for %d bytes of input, want at most %d", got, n, most)
	}
}

// resealed gives b the right checksum, so that what lies behind it is reached.
func resealed(format string, b []byte) []byte {
	h := `{"format":"` + format + `","version":1,"crc32c":"`
	if len(b) < len(h)+8 {
		return b
	}
	b = bytes.Clone(b)
	copy(b, h)
	copy(b[len(h):], "00000000")
	copy(b[len(h):], fmt.Appendf(nil, "%08x", crc32.Checksum(b, castagnoli)))
	return b
}

func fuzzRoot(f *testing.F) []byte {
	forest := newForest()
	var b []byte
	e := NewEdit(forest.root, forest.load, time.UnixMilli(1), time.Hour)
	for range 1003 {
		if err := e.Add(f.Context(), testEntry(e.Next.EndOffset)); err != nil {
			f.Fatal(err)
		}
	}
	_, _ = e.DropBefore(f.Context(), 50)
	e.buryRoots(DeadRoots{LeaderEpoch: 1, From: 2, To: 3})
	b, err := e.Next.Encode()
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func FuzzDecodeRoot(f *testing.F) {
	b := fuzzRoot(f)
	f.Add(b)
	h := header(rootFormat, formatVersion)
	f.Add([]byte(h + `00000000","tail":[` + string(bytes.Repeat([]byte("{},"), 50000)) + `{}]}`))
	f.Add([]byte(h + `00000000","epochs":[` + string(bytes.Repeat([]byte("[],"), 50000)) + `[]]}`))
	f.Add([]byte(h + `00000000","garbage":[{"segments":["` + string(bytes.Repeat([]byte(`","`), 50000)) + `"]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() {
			if _, err := DecodeRoot(b); err == nil && !bytes.HasPrefix(b, []byte(h)) {
				t.Fatal("no header, no error")
			}
		})
		b = resealed(rootFormat, b)
		var r *Root
		var err error
		bounded(t, len(b), func() { r, err = DecodeRoot(b) })
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		r2, err := DecodeRoot(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, r2, equateEmpty); diff != "" {
			t.Fatal(diff)
		}
	})
}

// equateEmpty: a list that is written as empty may be read as absent.
var equateEmpty = cmp.FilterPath(func(p cmp.Path) bool {
	a, b := p.Last().Values()
	return a.IsValid() && b.IsValid() && (a.Kind().String() == "slice" || a.Kind().String() == "map") && a.Len() == 0 && b.Len() == 0
}, cmp.Ignore())

func FuzzDecodeNode(f *testing.F) {
	n := &Node{TopicID: testTip.Topic, Partition: testTip.Partition, Level: 1}
	for i := range int64(3) {
		n.Entries = append(n.Entries, testEntry(i*10))
	}
	b, ref, err := n.Encode("leaf-1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	h := header(nodeFormat, formatVersion)
	f.Add([]byte(h + `00000000","entries":[` + string(bytes.Repeat([]byte("{},"), 50000)) + `{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() {
			_, _ = DecodeNode(b, ref)
			_, _ = DecodeNode(resealed(nodeFormat, b), ref)
		})
	})
}

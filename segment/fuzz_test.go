package segment

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"runtime"
	"testing"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

func newRand(seed int64) *rand.Rand { return rand.New(rand.NewSource(seed)) }

// bounded fails if fn allocates more than factor times the input and a constant:
// ARCHITECTURE.md §4, invariant 9.
func bounded(t *testing.T, input []byte, factor uint64, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > factor*uint64(len(input))+64<<10 {
		t.Fatalf("%d bytes of input allocate %d", len(input), got)
	}
}

func FuzzOffsetCheckpoint(f *testing.F) {
	f.Add(EncodeOffsetCheckpoint(map[metadata.TopicPartition]int64{testTP: 12, {Topic: "b", Partition: 0}: 0}))
	f.Add([]byte("0\n99999999\n"))
	f.Add([]byte("0\n-1\n"))
	f.Add([]byte("1\n0\n"))
	f.Add([]byte("0\n2\na 0 1\na 0 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, 200, func() {
			offsets, err := DecodeOffsetCheckpoint(b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				return
			}
			again, err := DecodeOffsetCheckpoint(EncodeOffsetCheckpoint(offsets))
			if err != nil || len(again) != len(offsets) {
				t.Fatalf("%v becomes %v, %v", offsets, again, err)
			}
			for tp, o := range offsets {
				if again[tp] != o {
					t.Fatalf("%v becomes %v", offsets, again)
				}
			}
		})
	})
}

func FuzzEpochs(f *testing.F) {
	f.Add(EncodeEpochs([]EpochEntry{{0, 0}, {3, 10}}))
	f.Add([]byte("0\n1\n-1 5\n"))
	f.Add([]byte("0\n2\n1 5\n0 6\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, 200, func() {
			epochs, err := DecodeEpochs(b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				return
			}
			for i, e := range epochs {
				if e.Epoch < 0 || e.StartOffset < 0 || i > 0 && e.Epoch <= epochs[i-1].Epoch {
					t.Fatalf("accepted %v", epochs)
				}
			}
		})
	})
}

func FuzzTxnIndex(f *testing.F) {
	f.Add(EncodeTxnIndex([]AbortedTxn{{1, 2, 3, 4}, {5, 4, 9, 9}}))
	f.Add(bytes.Repeat([]byte{0}, 68))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, 10, func() {
			txns, err := DecodeTxnIndex(b)
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			if len(txns)*txnEntryLen > len(b) {
				t.Fatalf("%d entries of %d bytes", len(txns), len(b))
			}
			again, err := DecodeTxnIndex(EncodeTxnIndex(txns))
			if err != nil || len(again) != len(txns) {
				t.Fatalf("%v becomes %v, %v", txns, again, err)
			}
		})
	})
}

func FuzzMeta(f *testing.F) {
	f.Add(EncodeMeta(Meta{"c", 1, "d"}))
	f.Add([]byte("version=1\nnode.id=-4\n"))
	f.Add([]byte("version: 0\ntopic_id: " + testID.String()))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, 100, func() {
			if _, err := DecodeMeta(b); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			if _, err := decodeTopicID(b); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		})
	})
}

// FuzzIndexPrefix: whatever an index file holds, what recovery keeps of it grows
// and lies within the log.
func FuzzIndexPrefix(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 20}, int64(100), int64(1000))
	f.Add(make([]byte, 64), int64(1), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, point, size int64) {
		const base = 50
		n, last := soundOffsets(b, base, point, size)
		if n*offsetEntryLen > len(b) || n > 0 && (last.offset >= point || last.position >= size) {
			t.Fatalf("%d entries up to %+v", n, last)
		}
		for i := 1; i < n; i++ {
			a, b := parseOffsetEntry(b[(i-1)*offsetEntryLen:], base), parseOffsetEntry(b[i*offsetEntryLen:], base)
			if b.offset <= a.offset || b.position <= a.position {
				t.Fatalf("%+v after %+v", b, a)
			}
		}
		if m := soundTimes(b, base, last.offset); m*timeEntryLen > len(b) {
			t.Fatalf("%d time entries of %d bytes", m, len(b))
		}
	})
}

// FuzzScan: a log file of any bytes is walked without a panic and without
// allocating what the bytes claim.
func FuzzScan(f *testing.F) {
	one := plain(1, "a", "b")
	f.Add([]byte(one), true)
	f.Add(append(bytes.Clone(one), one[:20]...), false)
	huge := bytes.Clone(one)
	huge[8], huge[9] = 0x7f, 0xff
	f.Add([]byte(huge), true)
	f.Fuzz(func(t *testing.T, b []byte, verify bool) {
		mem := vfs.NewMem()
		file, err := mem.Create("/log")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		bounded(t, b, 20, func() {
			var s scanner
			var buf [512]byte
			s.over(file, 0, int64(len(b)), buf[:])
			s.verify = verify
			err := s.replay(func(batch record.Batch, pos, size int64) error {
				if pos+size > int64(len(b)) || size < record.HeaderSize {
					t.Fatalf("batch of %d bytes at %d of %d", size, pos, len(b))
				}
				return nil
			})
			var d *damage
			if err != nil && err != io.EOF && !errors.As(err, &d) {
				t.Fatal(err)
			}
		})
	})
}

// FuzzOpen: a partition directory with any active segment and index can be opened
// or is refused as corrupt, and what is opened can be appended to.
func FuzzOpen(f *testing.F) {
	one := plain(1, "a", "b")
	f.Add([]byte(one), []byte{0, 0, 0, 1, 0, 0, 0, 0}, []byte("0\n1\n0 0\n"), int64(2))
	f.Add([]byte(one[:50]), []byte{}, []byte("0\n0\n"), int64(0))
	f.Add(append(bytes.Clone(one), make([]byte, 100)...), []byte{}, []byte{}, int64(0))
	f.Fuzz(func(t *testing.T, log, index, epochs []byte, point int64) {
		mem := vfs.NewMem()
		d := openDir(t, mem)
		openLog(t, d, Config{})
		for name, b := range map[string][]byte{
			"orders-3/00000000000000000000.log":   log,
			"orders-3/00000000000000000000.index": index,
			"orders-3/leader-epoch-checkpoint":    epochs,
			"recovery-point-offset-checkpoint":    EncodeOffsetCheckpoint(map[metadata.TopicPartition]int64{testTP: max(point, 0)}),
		} {
			if err := vfs.WriteFileAtomic(mem, "/data/"+name, b); err != nil {
				t.Fatal(err)
			}
		}
		d = openDir(t, mem.Crash(newRand(1), 100))
		l, err := d.OpenLog(LogOptions{TopicPartition: testTP})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if _, err := l.AppendAsLeader(plain(1, "x"), AppendOptions{LeaderEpoch: max(l.LatestEpoch(), 0)}); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
	})
}

package index

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"testing"

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

// equateEmpty: a list that is written as empty may be read as absent.
var equateEmpty = cmp.FilterPath(func(p cmp.Path) bool {
	a, b := p.Last().Values()
	return a.IsValid() && b.IsValid() && (a.Kind().String() == "slice" || a.Kind().String() == "map") && a.Len() == 0 && b.Len() == 0
}, cmp.Ignore())

func FuzzDecode(f *testing.F) {
	b, _, err := testIndex().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:fixedBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() { _, _ = Decode(b) })
		b = resealIndex(b)
		var x *Index
		var err error
		bounded(t, len(b), func() { x, err = Decode(b) })
		if err != nil {
			return
		}
		again, _, err := x.Encode()
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		x2, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x, x2, equateEmpty); diff != "" {
			t.Fatal(diff)
		}
	})
}

// resealIndex gives the table and the sections it names the right checksums.
func resealIndex(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < fixedBytes {
		return b
	}
	n := int(binary.BigEndian.Uint16(b[10:]))
	table := fixedBytes + tableItem*n
	if n > maxSections || len(b) < table+4 {
		return b
	}
	for i := range n {
		item := b[fixedBytes+tableItem*i:]
		pos, size := binary.BigEndian.Uint64(item[8:]), binary.BigEndian.Uint64(item[16:])
		if pos <= uint64(len(b)) && size <= uint64(len(b))-pos {
			binary.BigEndian.PutUint32(item[4:], crc32.Checksum(b[pos:pos+size], castagnoli))
		}
	}
	binary.BigEndian.PutUint32(b[table:], crc32.Checksum(b[:table], castagnoli))
	return b
}

package tiering

import (
	"bytes"
	"fmt"
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

// equateEmpty: a list that is written as empty may be read as absent.
var equateEmpty = cmp.FilterPath(func(p cmp.Path) bool {
	a, b := p.Last().Values()
	return a.IsValid() && b.IsValid() && (a.Kind().String() == "slice" || a.Kind().String() == "map") && a.Len() == 0 && b.Len() == 0
}, cmp.Ignore())

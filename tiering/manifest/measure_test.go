package manifest

import (
	"context"
	"testing"
)

func TestMeasureAddsUpAllThatComesAfter(t *testing.T) {
	// Six segments of ten offsets, and of 1, 2, 4, 8, 16 and 32 bytes: two leaves of two below a node, a leaf, a tail.
	entry := func(n int) Entry {
		return Entry{BaseOffset: int64(10 * n), LastOffset: int64(10*n + 9), Bytes: 1 << n, MaxTimestamp: int64(100 + n)}
	}
	ref := func(name string, level, first, last int) Ref {
		r := Ref{Level: level, Object: name, BaseOffset: int64(10 * first), LastOffset: int64(10*last + 9), MaxTimestamp: int64(100 + last)}
		for n := first; n <= last; n++ {
			r.Bytes += 1 << n
		}
		return r
	}
	nodes := map[string]*Node{
		"a": {Entries: []Entry{entry(0), entry(1)}}, "b": {Entries: []Entry{entry(2)}}, "c": {Entries: []Entry{entry(3)}},
		"n": {Refs: []Ref{ref("a", 1, 0, 1), ref("b", 1, 2, 2)}},
	}
	tr := Tree{
		Root: &Root{EndOffset: 60, Refs: []Ref{ref("n", 2, 0, 2), ref("c", 1, 3, 3)}, Tail: []Entry{entry(4), entry(5)}},
		Load: func(_ context.Context, r Ref) (*Node, error) { return nodes[r.Object], nil },
	}
	for n := range 6 {
		e, after, before, err := tr.Measure(t.Context(), int64(10*n+5))
		wantBefore := int64(99 + n)
		if n == 0 {
			wantBefore = -1
		}
		if want := int64(63 - (2<<n - 1)); err != nil || e.BaseOffset != int64(10*n) || after != want || before != wantBefore {
			t.Errorf("segment %d: %+v, %d bytes after, time before %d, %v; want %d and %d", n, e, after, before, err, want, wantBefore)
		}
	}
}

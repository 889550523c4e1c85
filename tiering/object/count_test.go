package object_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// What a store asks money for is told once, with the key that it was for.
func TestEveryRequestIsCountedWithItsKey(t *testing.T) {
	type told struct{ Requests, Bytes int64 }
	got := map[string]told{}
	var mu sync.Mutex
	mem := object.NewMem()
	for n := range 2500 {
		put(t, mem, fmt.Sprintf("many/%04d", n), nil)
	}
	s, err := object.WithCount(mem, noop.Meter{}, func(op object.OpKind, key string, requests, bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		at := op.String() + " " + key
		got[at] = told{got[at].Requests + requests, got[at].Bytes + bytes}
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", make([]byte, 1000))
	get(t, s, "a")
	if _, err := object.ReadFull(t.Context(), s, "a", 10, make([]byte, 20)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "missing", 0, -1); err == nil {
		t.Error("no error")
	}
	if _, err := s.Head(t.Context(), "b"); err == nil {
		t.Error("no error")
	}
	list(t, s, "many/", "")
	list(t, s, "none/", "")
	if err := s.Delete(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	want := map[string]told{
		"put a": {1, 1000}, "get a": {2, 0}, "read a": {0, 1020}, "get missing": {1, 0}, "head b": {1, 0},
		"list many/": {3, 0}, "list none/": {1, 0}, "delete a": {1, 0}, "delete b": {1, 0},
	}
	if !maps.Equal(got, want) {
		t.Errorf("-want +got:\n%s", cmp.Diff(want, got))
	}
}

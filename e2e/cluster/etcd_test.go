package cluster

import (
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// What is kept is there after a stop, at the same address, and each write counts.
func TestEtcdCountsWritesAndKeepsThemOverAStop(t *testing.T) {
	e, err := NewEtcd(t.TempDir(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		store, err := kv.Dial(t.Context(), kv.DialOptions{Endpoints: []string{e.Endpoint()}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Range(t.Context(), kv.RangeRequest{Key: "k"})
		if err != nil || len(got.KVs) != round {
			t.Errorf("round %d: %d keys, %v", round, len(got.KVs), err)
		}
		before := e.Writes()
		const puts = 3
		for range puts {
			if _, err := store.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("k", nil, 0)}}); err != nil {
				t.Fatal(err)
			}
		}
		// A write is answered just before it is counted.
		for end := time.Now().Add(10 * time.Second); e.Writes()-before < puts; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d puts are %d writes", puts, e.Writes()-before)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}
}

package api

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TestProducerIDsAreGivenOutOnceInTheCluster has producers ask three brokers at
// once, while etcd fails before or after it did what it was asked.
func TestProducerIDsAreGivenOutOnceInTheCluster(t *testing.T) {
	const brokers, producers, each = 3, 8, 1500
	store := kv.NewMem()
	var mu sync.Mutex
	seen := make(map[int64]bool)
	failed := 0
	var wg sync.WaitGroup
	for b := range brokers {
		faults := rand.New(rand.NewPCG(7, uint64(b)))
		var turn sync.Mutex
		md, err := metadata.Open(t.Context(), metadata.Options{KV: store.Client(func(_ context.Context, c kv.Call) error {
			turn.Lock()
			defer turn.Unlock()
			if c.Kind == kv.CallTxn && faults.IntN(4) == 0 {
				return kv.ErrUnavailable
			}
			return nil
		})})
		if err != nil {
			// The cluster's id may not have been made; a broker starts again then.
			md, err = metadata.Open(t.Context(), metadata.Options{KV: store.Client(nil)})
		}
		if err != nil {
			t.Fatal(err)
		}
		ids := newProducerIDs()
		for range producers {
			wg.Go(func() {
				for range each {
					id, err := ids.allocate(t.Context(), md.AllocateProducerIDs)
					mu.Lock()
					switch {
					case err != nil:
						failed++
					case seen[id]:
						t.Errorf("producer id %d was given out twice", id)
					}
					seen[id] = true
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if n := len(seen); n < brokers*producerIDBlock*2 || failed == 0 {
		t.Errorf("%d ids, %d failures: want several blocks a broker and some failures", n, failed)
	}
}

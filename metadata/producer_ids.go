package metadata

import (
	"context"
	"fmt"
	"math"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// AllocateProducerIDs reserves n producer ids that were never given out before
// and returns the first. Ids of a call that fails may be lost.
func (s *Store) AllocateProducerIDs(ctx context.Context, n int64) (first int64, err error) {
	first, err = s.allocateProducerIDs(ctx, n)
	if err != nil {
		return 0, fmt.Errorf("allocate %d producer ids: %w", n, err)
	}
	return first, nil
}

func (s *Store) allocateProducerIDs(ctx context.Context, n int64) (int64, error) {
	if n <= 0 {
		return 0, fmt.Errorf("want more than 0")
	}
	key := s.keys.producerIDs()
	resp, err := s.txn(ctx, "read-producer-ids", kv.Txn{Then: []kv.Op{kv.Get(key, "")}})
	for {
		if err != nil {
			return 0, err
		}
		var v producerIDsValue
		held := kv.Absent(key)
		if len(resp.Gets[0]) > 0 {
			have := resp.Gets[0][0]
			held = kv.Unchanged(key, have.ModRevision)
			if v, err = decode[producerIDsValue](kv.Event{KV: have}); err != nil {
				return 0, fmt.Errorf("key %q: %w", key, err)
			}
		}
		if v.Next < 0 || v.Next > math.MaxInt64-n {
			return 0, fmt.Errorf("key %q: next id %d leaves no %d", key, v.Next, n)
		}
		resp, err = s.txn(ctx, "allocate-producer-ids", kv.Txn{
			If:   []kv.Cmp{held},
			Then: []kv.Op{kv.Put(key, encode(producerIDsValue{Next: v.Next + n, Kept: v.Kept}), 0)},
			Else: []kv.Op{kv.Get(key, "")},
		})
		if err == nil && resp.Succeeded {
			return v.Next, nil
		}
	}
}

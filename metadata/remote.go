package metadata

import (
	"context"
	"fmt"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// RemotePointer reads a partition's pointer from the store, not from the image.
func (s *Store) RemotePointer(ctx context.Context, tip TopicIDPartition) (RemotePointer, bool, error) {
	resp, err := s.kv.Range(ctx, kv.RangeRequest{Key: s.keys.remote(tip)})
	if err != nil {
		return RemotePointer{}, false, fmt.Errorf("read remote pointer of %s: %w", tip, err)
	}
	if len(resp.KVs) == 0 {
		return RemotePointer{}, false, nil
	}
	p, err := decodePointer(resp.KVs[0])
	if err != nil {
		return RemotePointer{}, false, err
	}
	return p, true, nil
}

// RemotePointers reads all pointers with one range, those of topics under a
// tombstone too.
func (s *Store) RemotePointers(ctx context.Context) (map[TopicIDPartition]RemotePointer, error) {
	prefix := s.keys.remotes()
	resp, err := s.kv.Range(ctx, kv.RangeRequest{Key: prefix, End: kv.PrefixEnd(prefix)})
	if err != nil {
		return nil, fmt.Errorf("read remote pointers: %w", err)
	}
	out := make(map[TopicIDPartition]RemotePointer, len(resp.KVs))
	for _, have := range resp.KVs {
		tip, err := parsePartition(have.Key[len(prefix):])
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", have.Key, err)
		}
		if out[tip], err = decodePointer(have); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func decodePointer(have kv.KeyValue) (RemotePointer, error) {
	p, err := decode[RemotePointer](kv.Event{KV: have})
	if err != nil {
		return RemotePointer{}, fmt.Errorf("key %q: %w", have.Key, err)
	}
	p.ModRevision = have.ModRevision
	return p, nil
}

// SwapRemotePointer replaces old, the zero pointer if there is none, by next and
// returns next with its ModRevision, in one transaction that holds only while the
// pointer is old and the partition's leader epoch is leaderEpoch.
//
// Errors: ErrFenced if the leader epoch is another or the topic was deleted,
// ErrConflict if the pointer is neither old nor next. A call that is repeated
// because its answer was lost succeeds.
func (s *Store) SwapRemotePointer(ctx context.Context, tip TopicIDPartition, old RemotePointer, leaderEpoch int32, next RemotePointer) (RemotePointer, error) {
	out, err := s.swapPointer(ctx, tip, old, leaderEpoch, next)
	if err != nil {
		return RemotePointer{}, fmt.Errorf("swap remote pointer of %s: %w", tip, err)
	}
	return out, nil
}

func (s *Store) swapPointer(ctx context.Context, tip TopicIDPartition, old RemotePointer, leaderEpoch int32, next RemotePointer) (RemotePointer, error) {
	pointer, partition, grave := s.keys.remote(tip), s.keys.partition(tip), s.keys.tombstone(tip.Topic)
	// The transaction compares the revision of a state that has the leader epoch:
	// the image's, or, if the partition changed since, what the failed attempt read.
	known, _ := s.Image().PartitionByID(tip)
	if known.LeaderEpoch != leaderEpoch {
		known.ModRevision = 0 // equals no partition's that exists
	}
	next.Kept = old.Kept
	for {
		resp, err := s.txn(ctx, "swap-remote-pointer", kv.Txn{
			If:   []kv.Cmp{kv.Unchanged(pointer, old.ModRevision), kv.Unchanged(partition, known.ModRevision), kv.Exists(partition), kv.Absent(grave)},
			Then: []kv.Op{kv.Put(pointer, encode(next), 0)},
			Else: []kv.Op{kv.Get(pointer, ""), kv.Get(partition, ""), kv.Get(grave, "")},
		})
		if err != nil {
			return RemotePointer{}, err
		}
		if resp.Succeeded {
			next.ModRevision = resp.Revision
			return next, nil
		}
		var have RemotePointer
		if len(resp.Gets[0]) > 0 {
			if have, err = decodePointer(resp.Gets[0][0]); err != nil {
				return RemotePointer{}, err
			}
		}
		mine := next
		mine.ModRevision = have.ModRevision
		switch {
		case have == mine && have.ModRevision > old.ModRevision:
			return have, nil
		case len(resp.Gets[1]) == 0 || len(resp.Gets[2]) > 0:
			return RemotePointer{}, fmt.Errorf("%w: the topic was deleted", ErrFenced)
		}
		p, err := decode[Partition](kv.Event{KV: resp.Gets[1][0]})
		switch {
		case err != nil:
			return RemotePointer{}, fmt.Errorf("key %q: %w", partition, err)
		case p.LeaderEpoch != leaderEpoch:
			return RemotePointer{}, fmt.Errorf("%w: leader epoch is %d, the caller's %d", ErrFenced, p.LeaderEpoch, leaderEpoch)
		case have.ModRevision != old.ModRevision:
			return RemotePointer{}, fmt.Errorf("%w: it names %q", ErrConflict, have.Manifest)
		}
		known.ModRevision = resp.Gets[1][0].ModRevision
	}
}

// DeleteRemotePointer removes the pointer if it is still old. ErrConflict if not;
// one that is gone is no error.
func (s *Store) DeleteRemotePointer(ctx context.Context, tip TopicIDPartition, old RemotePointer) error {
	key := s.keys.remote(tip)
	resp, err := s.txn(ctx, "delete-remote-pointer", kv.Txn{
		If:   []kv.Cmp{kv.Unchanged(key, old.ModRevision)},
		Then: []kv.Op{kv.Delete(key, "")},
		Else: []kv.Op{kv.Get(key, "")},
	})
	if err == nil && !resp.Succeeded && len(resp.Gets[0]) > 0 {
		err = ErrConflict
	}
	if err != nil {
		return fmt.Errorf("delete remote pointer of %s: %w", tip, err)
	}
	return nil
}

package metadata

import (
	"context"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// PartitionChange is a decision about one partition.
type PartitionChange struct {
	TopicIDPartition
	From Partition // as the decider saw it, with its ModRevision
	To   Partition // its Epoch and ModRevision are set by the Store
}

// AlterPartitions makes the changes, many in one transaction, each only if its
// partition is as it was in From. The result has an error per change, nil where
// it was made: ErrConflict if the partition had changed, ErrUnknownPartition if
// it is gone.
func (s *Store) AlterPartitions(ctx context.Context, changes []PartitionChange) []error {
	return s.alterPartitions(ctx, changes, nil)
}

// alterPartitions also wants fence to hold, else all errors are ErrFenced.
func (s *Store) alterPartitions(ctx context.Context, changes []PartitionChange, fence *kv.Cmp) []error {
	errs := make([]error, len(changes))
	todo := make([]int, 0, len(changes))
	for i, c := range changes {
		if c.From.ModRevision == 0 { // else an absent key would look unchanged
			errs[i] = fmt.Errorf("alter partition %s: %w", c.TopicIDPartition, ErrUnknownPartition)
			continue
		}
		todo = append(todo, i)
	}
	var rev int64
	for len(todo) > 0 {
		n := s.chunk(len(todo), 1)
		left, at, err := s.alterChunk(ctx, changes, todo[:n], fence, errs)
		if err != nil {
			for _, i := range todo {
				errs[i] = fmt.Errorf("alter partition %s: %w", changes[i].TopicIDPartition, err)
			}
			break
		}
		rev = max(rev, at)
		todo = append(left, todo[n:]...)
	}
	if rev > 0 {
		s.settle(ctx, rev)
	}
	return errs
}

// alterChunk makes one attempt at the changes batch names. It returns what is
// still to be done: all but those it found to be outdated.
func (s *Store) alterChunk(ctx context.Context, changes []PartitionChange, batch []int, fence *kv.Cmp, errs []error) (left []int, rev int64, err error) {
	var t kv.Txn
	for _, i := range batch {
		c := changes[i]
		key := s.keys.partition(c.TopicIDPartition)
		t.If = append(t.If, kv.Unchanged(key, c.From.ModRevision))
		t.Then = append(t.Then, kv.Put(key, encode(c.next()), 0))
		t.Else = append(t.Else, kv.Get(key, ""))
	}
	if fence != nil {
		t.If = append(t.If, *fence)
	}
	resp, err := s.txn(ctx, "alter-partitions", t)
	if err != nil {
		return nil, 0, err
	}
	if resp.Succeeded {
		return nil, resp.Revision, nil
	}
	for n, i := range batch {
		c := changes[i]
		if len(resp.Gets[n]) == 0 {
			errs[i] = fmt.Errorf("alter partition %s: %w", c.TopicIDPartition, ErrUnknownPartition)
			continue
		}
		have := resp.Gets[n][0]
		if have.ModRevision == c.From.ModRevision {
			left = append(left, i)
			continue
		}
		p, err := decode[Partition](kv.Event{KV: have})
		if err != nil || !p.Equal(c.next()) { // equal: it was made, but its answer was lost
			errs[i] = fmt.Errorf("alter partition %s: %w", c.TopicIDPartition, ErrConflict)
		}
	}
	if len(left) == len(batch) { // all are as they were: what failed is the fence
		return nil, 0, ErrFenced
	}
	return left, 0, nil
}

// next is the value to be written.
func (c PartitionChange) next() Partition {
	p := c.To
	p.Epoch, p.ModRevision = c.From.Epoch+1, 0
	return p
}

// Equal compares all but ModRevision.
func (p Partition) Equal(q Partition) bool {
	return p.Leader == q.Leader && p.LeaderEpoch == q.LeaderEpoch && p.Epoch == q.Epoch && p.LeaderBrokerEpoch == q.LeaderBrokerEpoch &&
		p.Recovering == q.Recovering &&
		slices.Equal(p.Replicas, q.Replicas) && slices.Equal(p.ISR, q.ISR) &&
		slices.Equal(p.Adding, q.Adding) && slices.Equal(p.Removing, q.Removing)
}

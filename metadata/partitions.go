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
	// Joins are the registrations of the brokers that are in To.ISR and not in
	// From.ISR, under which they were found to have all (KIP-903); a broker that
	// is not named here joins under the one that the Store's image shows. The
	// change is made only while these registrations last, so that a broker that
	// comes back without its data is not taken for what it was.
	Joins map[BrokerID]int64
	// Dead are brokers that were not registered when this was decided. The change
	// is made only while they are not: a leader is elected that lacks what they have.
	Dead []BrokerID
}

// Partition reads a partition's state from the store, not from the image.
func (s *Store) Partition(ctx context.Context, tip TopicIDPartition) (Partition, bool, error) {
	resp, err := s.kv.Range(ctx, kv.RangeRequest{Key: s.keys.partition(tip)})
	if err != nil {
		return Partition{}, false, fmt.Errorf("read partition %s: %w", tip, err)
	}
	if len(resp.KVs) == 0 {
		return Partition{}, false, nil
	}
	p, err := decode[Partition](kv.Event{KV: resp.KVs[0]})
	if err != nil {
		return Partition{}, false, fmt.Errorf("read partition %s: %w", tip, err)
	}
	p.ModRevision = resp.KVs[0].ModRevision
	return p, true, nil
}

// AlterPartitions makes the changes, many in one transaction, each only if its
// partition is as it was in From. The result has an error per change, nil where
// it was made or changes nothing: ErrConflict if the partition had changed or a
// broker that joins is not registered as it was, ErrUnknownPartition if it is gone.
func (s *Store) AlterPartitions(ctx context.Context, changes []PartitionChange) []error {
	return s.alterPartitions(ctx, changes)
}

// alterPartitions also wants fences to hold, else all errors are ErrFenced.
func (s *Store) alterPartitions(ctx context.Context, changes []PartitionChange, fences ...kv.Cmp) []error {
	errs := make([]error, len(changes))
	todo := make([]*alteration, 0, len(changes))
	for i, c := range changes {
		switch joins, ok := s.joins(c); {
		case c.From.ModRevision == 0: // else an absent key would look unchanged
			errs[i] = fmt.Errorf("alter partition %s: %w", c.TopicIDPartition, ErrUnknownPartition)
		case c.To.Equal(c.From):
		case !ok:
			errs[i] = fmt.Errorf("alter partition %s: %w: a broker that joins the in-sync replicas %v is not registered", c.TopicIDPartition, ErrConflict, c.To.ISR)
		default:
			todo = append(todo, &alteration{PartitionChange: c, key: s.keys.partition(c.TopicIDPartition), joins: joins, err: &errs[i]})
		}
	}
	var rev int64
	for len(todo) > 0 {
		left, at, err := s.alterSome(ctx, todo, fences)
		if err != nil {
			for _, a := range todo {
				*a.err = fmt.Errorf("alter partition %s: %w", a.TopicIDPartition, err)
			}
			break
		}
		rev, todo = max(rev, at), left
	}
	if rev > 0 {
		s.settle(ctx, rev)
	}
	return errs
}

// alteration is a PartitionChange on its way.
type alteration struct {
	PartitionChange
	key    string
	joins  []kv.Cmp
	answer int // of its key in Else
	err    *error
}

// joins returns what must hold of brokers that join the in-sync replicas, and of
// those that are dead; not ok if one that joins is unknown.
func (s *Store) joins(c PartitionChange) (out []kv.Cmp, ok bool) {
	for _, id := range c.To.ISR {
		if slices.Contains(c.From.ISR, id) {
			continue
		}
		epoch := c.Joins[id]
		if epoch == 0 {
			b, _ := s.Image().Broker(id)
			epoch = b.Epoch
		}
		if epoch == 0 {
			return nil, false
		}
		out = append(out, kv.CreatedAt(s.keys.broker(id), epoch))
	}
	for _, id := range c.Dead {
		out = append(out, kv.Absent(s.keys.broker(id)))
	}
	return out, true
}

// alterSome makes one attempt at the first changes of todo, as many as fit into a
// transaction. It returns what is still to be done: all but those that were made
// or that it found to be outdated.
func (s *Store) alterSome(ctx context.Context, todo []*alteration, fences []kv.Cmp) (left []*alteration, rev int64, err error) {
	t := kv.Txn{If: slices.Clone(fences)}
	joins := map[kv.Cmp]int{} // their answers in Else
	n := 0
	for ; n < len(todo); n++ {
		a := todo[n]
		more := slices.DeleteFunc(slices.Clone(a.joins), func(c kv.Cmp) bool { _, had := joins[c]; return had })
		if n > 0 && len(t.If)+1+len(more) > s.kv.MaxTxnOps() {
			break
		}
		a.answer = len(t.Else)
		t.If = append(t.If, kv.Unchanged(a.key, a.From.ModRevision))
		t.Then = append(t.Then, kv.Put(a.key, encode(a.next()), 0))
		t.Else = append(t.Else, kv.Get(a.key, ""))
		for _, c := range more {
			joins[c] = len(t.Else)
			t.If, t.Else = append(t.If, c), append(t.Else, kv.Get(c.Key, ""))
		}
	}
	resp, err := s.txn(ctx, "alter-partitions", t)
	if err != nil {
		return nil, 0, err
	}
	if resp.Succeeded {
		return todo[n:], resp.Revision, nil
	}
	for _, a := range todo[:n] {
		lost := slices.ContainsFunc(a.joins, func(c kv.Cmp) bool {
			created := int64(0)
			for _, have := range resp.Gets[joins[c]] {
				created = have.CreateRevision
			}
			return created != c.Revision
		})
		if !a.outdated(resp.Gets[a.answer], lost) {
			left = append(left, a)
		}
	}
	if len(left) == n { // all are as they were: what failed is a fence
		return nil, 0, ErrFenced
	}
	return append(left, todo[n:]...), 0, nil
}

// outdated looks at why the change was not made, where the partition is as in
// have. It says whether it never will be and sets its error.
func (a *alteration) outdated(have []kv.KeyValue, lostJoin bool) bool {
	switch {
	case len(have) == 0:
		*a.err = fmt.Errorf("alter partition %s: %w", a.TopicIDPartition, ErrUnknownPartition)
	case have[0].ModRevision != a.From.ModRevision:
		p, err := decode[Partition](kv.Event{KV: have[0]})
		if err != nil || !p.Equal(a.next()) { // equal: it was made, but its answer was lost
			*a.err = fmt.Errorf("alter partition %s: %w", a.TopicIDPartition, ErrConflict)
		}
	case lostJoin:
		*a.err = fmt.Errorf("alter partition %s: %w: a broker that joins the in-sync replicas %v registered anew or is gone, or one that was dead is back", a.TopicIDPartition, ErrConflict, a.To.ISR)
	default:
		return false
	}
	return true
}

// next is the value to be written.
func (c PartitionChange) next() Partition {
	p := c.To
	p.Epoch, p.ModRevision, p.Kept = c.From.Epoch+1, 0, c.From.Kept
	return p
}

// Equal compares all that this release knows, but for ModRevision.
func (p Partition) Equal(q Partition) bool {
	return p.Leader == q.Leader && p.LeaderEpoch == q.LeaderEpoch && p.Epoch == q.Epoch && p.LeaderBrokerEpoch == q.LeaderBrokerEpoch &&
		p.Recovering == q.Recovering &&
		slices.Equal(p.Replicas, q.Replicas) && slices.Equal(p.ISR, q.ISR) &&
		slices.Equal(p.Adding, q.Adding) && slices.Equal(p.Removing, q.Removing) &&
		slices.Equal(p.Offline, q.Offline) && slices.Equal(p.Found, q.Found)
}

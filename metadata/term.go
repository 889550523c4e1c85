package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// Term is one broker's time as controller. Its operations are made only while it
// lasts: each is fenced by the revision of the election.
type Term struct {
	// Epoch is the controller epoch, the revision of the election.
	Epoch int64
	store *Store
	fence kv.Cmp
}

// Campaign makes the session's broker the controller if there is none. It
// returns nil without an error while another broker is. The term ends with the
// session, or with Resign.
func (s *Store) Campaign(ctx context.Context, session *Session) (*Term, error) {
	key := s.keys.controller()
	resp, err := s.txn(ctx, "campaign", kv.Txn{
		If:   []kv.Cmp{kv.Absent(key), kv.CreatedAt(s.keys.broker(session.broker.ID), session.Epoch)},
		Then: []kv.Op{kv.Put(key, encode(controllerValue{Broker: session.broker.ID}), session.lease.ID())},
		Else: []kv.Op{kv.Get(key, "")},
	})
	if err != nil {
		return nil, fmt.Errorf("campaign for controller: %w", err)
	}
	epoch := resp.Revision
	if !resp.Succeeded {
		// Ours if an answer was lost: the lease is this session's alone.
		if len(resp.Gets[0]) == 0 || resp.Gets[0][0].Lease != session.lease.ID() {
			return nil, nil
		}
		epoch = resp.Gets[0][0].CreateRevision
	}
	s.settle(ctx, epoch)
	return &Term{Epoch: epoch, store: s, fence: kv.CreatedAt(key, epoch)}, nil
}

// AlterPartitions is Store.AlterPartitions, and ErrFenced when the term is over.
func (t *Term) AlterPartitions(ctx context.Context, changes []PartitionChange) []error {
	return t.store.alterPartitions(ctx, changes, t.fence)
}

// FinishTombstone is Store.FinishTombstone of a tombstone as it was seen, and
// does nothing if it changed or the term is over.
func (t *Term) FinishTombstone(ctx context.Context, grave Tombstone) error {
	id := grave.Topic.ID
	err := t.store.finishTombstone(ctx, id, kv.Unchanged(t.store.keys.tombstone(id), grave.ModRevision), t.fence)
	if err != nil {
		return fmt.Errorf("finish tombstone of topic %s: %w", id, err)
	}
	return nil
}

// Resign ends the term, so that another broker can be elected at once.
func (t *Term) Resign(ctx context.Context) error {
	_, err := t.store.txn(ctx, "resign", kv.Txn{If: []kv.Cmp{t.fence}, Then: []kv.Op{kv.Delete(t.fence.Key, "")}})
	if err != nil {
		return fmt.Errorf("resign as controller: %w", err)
	}
	return nil
}

// Retriable says whether an operation may succeed if it is simply tried again.
func Retriable(err error) bool {
	return errors.Is(err, kv.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

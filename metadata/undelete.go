package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// ErrPurging means that a deleted topic's data is being removed: it cannot come back.
var ErrPurging = errors.New("the deleted topic's data is being removed")

// UndeleteTopic brings a deleted topic back under its name and id, with its configuration, partitions and remote
// pointers. Each partition gets one in-sync replica, the first live one, as its leader under a new epoch, marked as
// Recovering: local files may be gone, so it begins with what the tier has, and the other replicas follow it. It
// returns the topic as it is now.
//
// Errors: ErrUnknownTopic without a tombstone of the id, ErrTopicExists where another topic took the name,
// ErrPurging once [Store.BeginPurge] was called, ErrConflict.
func (s *Store) UndeleteTopic(ctx context.Context, id TopicID) (*Topic, error) {
	t, err := s.undeleteTopic(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("undelete topic with id %s: %w", id, err)
	}
	return t, nil
}

func (s *Store) undeleteTopic(ctx context.Context, id TopicID) (*Topic, error) {
	parts := s.keys.partitions(id)
	resp, err := s.txn(ctx, "read-tombstone", kv.Txn{Then: []kv.Op{
		kv.Get(s.keys.tombstone(id), ""), kv.Get(parts, kv.PrefixEnd(parts)),
	}})
	if err != nil {
		return nil, err
	}
	if len(resp.Gets[0]) == 0 {
		return nil, ErrUnknownTopic
	}
	grave := resp.Gets[0][0]
	v, err := decode[tombstoneValue](kv.Event{KV: grave})
	switch {
	case err != nil:
		return nil, err
	case v.Creating:
		return nil, ErrUnknownTopic
	case v.Purging:
		return nil, ErrPurging
	}
	t := &Topic{Name: v.Name, ID: id, Created: v.Created}
	var puts []kv.Op
	if t.Partitions, puts, err = s.revive(id, v.Partitions, resp.Gets[1]); err != nil {
		return nil, err
	}
	held := kv.Unchanged(grave.Key, grave.ModRevision)
	topicKey := s.keys.topic(t.Name)
	last := kv.Txn{
		If: []kv.Cmp{held, kv.Absent(topicKey)},
		Then: []kv.Op{
			kv.Put(topicKey, encode(topicValue{ID: id, Partitions: v.Partitions, Created: v.Created, Kept: v.Kept}), 0), kv.Delete(grave.Key, ""),
		},
		Else: []kv.Op{kv.Get(topicKey, "")},
	}
	if len(v.Configs) > 0 {
		last.Then = append(last.Then, kv.Put(s.keys.topicConfig(t.Name), encode(v.Configs), 0))
	}
	// What does not fit into the transaction that makes the topic visible is written before it, under the tombstone.
	room := max(s.kv.MaxTxnOps()-len(last.Then), 0)
	if len(puts) > room {
		for part := range slices.Chunk(puts[room:], s.chunk(len(puts), 0)) {
			resp, err := s.txn(ctx, "undelete-topic-partitions", kv.Txn{If: []kv.Cmp{held}, Then: part})
			if err == nil && !resp.Succeeded {
				err = ErrConflict
			}
			if err != nil {
				return nil, err
			}
		}
		puts = puts[:room]
	}
	last.Then = append(last.Then, puts...)
	resp, err = s.txn(ctx, "undelete-topic", last)
	switch {
	case err != nil:
		return nil, err
	case !resp.Succeeded && len(resp.Gets[0]) > 0:
		return nil, fmt.Errorf("%w: another topic has the name %q now", ErrTopicExists, t.Name)
	case !resp.Succeeded:
		return nil, ErrConflict
	}
	s.settle(ctx, resp.Revision)
	if now, ok := s.Image().TopicByID(id); ok {
		return now, nil
	}
	return t, nil
}

// revive returns the states that the partitions of a deleted topic come back with, and what writes them. The leader
// epoch grows, so that who led before the deletion is fenced.
func (s *Store) revive(id TopicID, n int32, have []kv.KeyValue) ([]Partition, []kv.Op, error) {
	im := s.Image()
	prefix := s.keys.allPartitions()
	states, puts := make([]Partition, n), make([]kv.Op, 0, n)
	for _, key := range have {
		tip, err := parsePartition(key.Key[len(prefix):])
		if err != nil {
			return nil, nil, fmt.Errorf("key %q: %w", key.Key, err)
		}
		if tip.Partition >= n {
			continue
		}
		p, err := decode[Partition](kv.Event{KV: key})
		if err != nil {
			return nil, nil, fmt.Errorf("key %q: %w", key.Key, err)
		}
		p.Replicas = slices.DeleteFunc(p.Replicas, func(b BrokerID) bool { return slices.Contains(p.Adding, b) })
		p.Adding, p.Removing = nil, nil
		p.LeaderEpoch, p.Epoch = p.LeaderEpoch+1, p.Epoch+1
		p.Leader, p.LeaderBrokerEpoch, p.Recovering = NoBroker, 0, true
		p.Offline, p.Found = nil, nil
		if len(p.Replicas) > 0 {
			p.ISR = p.Replicas[:1:1]
		}
		for _, id := range p.Replicas {
			if b, live := im.Broker(id); live && b.Holds() && !b.Draining {
				p.Leader, p.LeaderBrokerEpoch, p.ISR = id, b.Epoch, []BrokerID{id}
				break
			}
		}
		states[tip.Partition] = p
		puts = append(puts, kv.Put(key.Key, encode(p), 0))
	}
	if len(puts) != int(n) {
		return nil, nil, fmt.Errorf("%w: %d of topic %s's %d partitions are left", ErrUnknownPartition, len(puts), id, n)
	}
	return states, puts, nil
}

// BeginPurge marks a tombstone, as it was seen, as one whose data is about to be removed: from here on UndeleteTopic
// refuses. Marking it twice is no error. ErrConflict means that the tombstone changed or is gone: the data must stay.
func (s *Store) BeginPurge(ctx context.Context, grave Tombstone) error {
	if grave.Purging {
		return nil
	}
	key := s.keys.tombstone(grave.Topic.ID)
	v := tombstoneValue{
		Name: grave.Topic.Name, Partitions: int32(len(grave.Topic.Partitions)), Created: grave.Topic.Created,
		Configs: grave.Configs, Deleted: grave.Deleted, Creating: grave.Creating, Purging: true, Kept: grave.Topic.Kept,
	}
	resp, err := s.txn(ctx, "begin-purge", kv.Txn{
		If:   []kv.Cmp{kv.Unchanged(key, grave.ModRevision), kv.Exists(key)},
		Then: []kv.Op{kv.Put(key, encode(v), 0)},
		Else: []kv.Op{kv.Get(key, "")},
	})
	if err == nil && !resp.Succeeded {
		err = ErrConflict
		if len(resp.Gets[0]) > 0 {
			if have, derr := decode[tombstoneValue](kv.Event{KV: resp.Gets[0][0]}); derr == nil && have.Purging {
				return nil // by an attempt whose answer was lost
			}
		}
	}
	if err != nil {
		return fmt.Errorf("begin to purge topic %s: %w", grave.Topic.ID, err)
	}
	s.settle(ctx, resp.Revision)
	return nil
}

// Fresh reads everything anew with one range: an image that shows all that was written before the call, by anybody.
// It costs what Open costs, so it is for rare decisions that must not rest on an image that is late. A value that
// cannot be read is an error here: what it stands for would look deleted.
func (s *Store) Fresh(ctx context.Context) (*Image, error) {
	resp, err := s.kv.Range(ctx, kv.RangeRequest{Key: string(s.keys), End: kv.PrefixEnd(string(s.keys))})
	if err != nil {
		return nil, fmt.Errorf("read metadata anew: %w", err)
	}
	b := newBuilder(s.keys, newImage())
	if errs := b.sync(resp.KVs); len(errs) > 0 {
		return nil, fmt.Errorf("read metadata anew: %w", errors.Join(errs...))
	}
	return b.build(resp.Revision), nil
}

package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// Why a broker is not unregistered.
var (
	ErrBrokerLive        = errors.New("broker is live")
	ErrUnknownBroker     = errors.New("unknown broker")
	ErrBrokerHasReplicas = errors.New("broker has replicas")
)

// heldPartition is a partition's key as one scan of the store found it.
type heldPartition struct {
	TopicIDPartition
	Partition
}

// scanPartitions returns those partitions, also of topics under a tombstone, of
// which is holds now.
func (s *Store) scanPartitions(ctx context.Context, is func(Partition) bool) ([]heldPartition, error) {
	prefix := s.keys.allPartitions()
	resp, err := s.kv.Range(ctx, kv.RangeRequest{Key: prefix, End: kv.PrefixEnd(prefix)})
	if err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	var out []heldPartition
	for _, have := range resp.KVs {
		tip, err := parsePartition(have.Key[len(prefix):])
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", have.Key, err)
		}
		p, err := decode[Partition](kv.Event{KV: have})
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", have.Key, err)
		}
		p.ModRevision = have.ModRevision
		if is(p) {
			out = append(out, heldPartition{tip, p})
		}
	}
	return out, nil
}

// loseReplicas takes a broker that came back without its data out of all in-sync
// replicas, so that nobody counts on what it had. It holds only while fences do,
// else the error is ErrFenced. It may be called again at any time, and is done
// when a scan of all partitions finds nothing: nobody joins the in-sync replicas
// under a registration that is gone, see PartitionChange.Joins.
func (s *Store) loseReplicas(ctx context.Context, id BrokerID, fences []kv.Cmp) error {
	for {
		held, err := s.scanPartitions(ctx, func(p Partition) bool { return p.Leader == id || slices.Contains(p.ISR, id) })
		if err != nil || len(held) == 0 {
			return err
		}
		changes := make([]PartitionChange, len(held))
		for i, h := range held {
			changes[i] = PartitionChange{TopicIDPartition: h.TopicIDPartition, From: h.Partition, To: h.lose(id)}
		}
		for _, err := range s.alterPartitions(ctx, changes, fences...) {
			if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrUnknownPartition) {
				return err
			}
		}
		s.log.Warn("broker lost its data directory and is out of sync", "broker", id, "partitions", len(held))
	}
}

// lose is the partition without what a broker had of it. Its in-sync replicas may
// be none: then nobody is known to have all that was committed.
func (p Partition) lose(id BrokerID) Partition {
	p.ISR = slices.DeleteFunc(slices.Clone(p.ISR), func(other BrokerID) bool { return other == id })
	if p.Leader == id {
		p.Leader, p.LeaderBrokerEpoch = NoBroker, 0
		p.LeaderEpoch++
	}
	return p
}

// UnregisterBroker forgets a broker that is gone for good, so that its id is as
// one that never was. Errors: ErrBrokerLive, ErrUnknownBroker, and
// ErrBrokerHasReplicas while a partition has the id among its replicas.
func (s *Store) UnregisterBroker(ctx context.Context, id BrokerID) error {
	if err := s.unregister(ctx, id); err != nil {
		return fmt.Errorf("unregister broker %d: %w", id, err)
	}
	return nil
}

func (s *Store) unregister(ctx context.Context, id BrokerID) error {
	node, broker, graves := s.keys.node(id), s.keys.broker(id), s.keys.tombstones()
	for {
		resp, err := s.txn(ctx, "read-node", kv.Txn{Then: []kv.Op{kv.Get(broker, ""), kv.Get(node, ""), kv.Get(graves, kv.PrefixEnd(graves))}})
		switch {
		case err != nil:
			return err
		case len(resp.Gets[0]) > 0:
			return ErrBrokerLive
		case len(resp.Gets[1]) == 0:
			return ErrUnknownBroker
		}
		dead := map[string]bool{} // topics whose replicas are only to be removed
		for _, grave := range resp.Gets[2] {
			dead[grave.Key[len(graves):]] = true
		}
		held, err := s.scanPartitions(ctx, func(p Partition) bool { return slices.Contains(p.Replicas, id) })
		if err != nil {
			return err
		}
		held = slices.DeleteFunc(held, func(h heldPartition) bool { return dead[h.Topic.String()] })
		if len(held) > 0 {
			return fmt.Errorf("%w: %d, the first of %s: move them away first", ErrBrokerHasReplicas, len(held), held[0].TopicIDPartition)
		}
		resp, err = s.txn(ctx, "unregister-broker", kv.Txn{
			If:   []kv.Cmp{kv.Unchanged(node, resp.Gets[1][0].ModRevision), kv.Absent(broker)},
			Then: []kv.Op{kv.Delete(node, "")},
		})
		if err != nil {
			return err
		}
		if resp.Succeeded {
			s.settle(ctx, resp.Revision)
			return nil
		}
	}
}

package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TopicSpec is a topic to be created.
type TopicSpec struct {
	Name        string
	ID          TopicID      // zero = a new one
	Assignments [][]BrokerID // replicas of each partition, the preferred leader first
	Configs     map[string]string
}

// MaxPartitionsPerTopic bounds one topic.
const MaxPartitionsPerTopic = maxPartitions

func checkAssignments(assignments [][]BrokerID) error {
	for n, replicas := range assignments {
		if len(replicas) == 0 {
			return fmt.Errorf("partition %d has no replicas", n)
		}
		sorted := slices.Sorted(slices.Values(replicas))
		if sorted[0] < 0 {
			return fmt.Errorf("partition %d: replica %d is no broker id", n, sorted[0])
		}
		if len(slices.Compact(sorted)) != len(replicas) {
			return fmt.Errorf("partition %d: replicas %v name a broker twice", n, replicas)
		}
	}
	return nil
}

// initial is a partition as it is created: led by its first replica under the
// registration that the image knows. If that one is gone, the controller decides.
func initial(im *Image, replicas []BrokerID) Partition {
	p := Partition{Replicas: replicas, ISR: replicas, Leader: replicas[0]}
	if b, ok := im.Broker(p.Leader); ok {
		p.LeaderBrokerEpoch = b.Epoch
	}
	return p
}

// chunks cuts n operations so that reserved more fit into each transaction.
func (s *Store) chunk(n, reserved int) int { return max(1, min(n, s.kv.MaxTxnOps()-reserved)) }

// CreateTopic makes a topic that no reader sees before it is complete.
// Errors: ErrInvalidTopicName, ErrTopicExists.
func (s *Store) CreateTopic(ctx context.Context, spec TopicSpec) (*Topic, error) {
	t, err := s.createTopic(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("create topic %q: %w", spec.Name, err)
	}
	return t, nil
}

func (s *Store) createTopic(ctx context.Context, spec TopicSpec) (*Topic, error) {
	if err := ValidTopicName(spec.Name); err != nil {
		return nil, err
	}
	if n := len(spec.Assignments); n == 0 || n > MaxPartitionsPerTopic {
		return nil, fmt.Errorf("%d partitions: want 1 to %d", n, MaxPartitionsPerTopic)
	}
	if err := checkAssignments(spec.Assignments); err != nil {
		return nil, err
	}
	if spec.ID.IsZero() {
		spec.ID = NewTopicID()
	}
	im := s.Image()
	if _, exists := im.Topic(spec.Name); exists {
		return nil, ErrTopicExists
	}
	t := &Topic{Name: spec.Name, ID: spec.ID, Created: time.Now().UTC().Truncate(time.Millisecond)}
	puts := make([]kv.Op, len(spec.Assignments))
	for n, replicas := range spec.Assignments {
		p := initial(im, replicas)
		t.Partitions = append(t.Partitions, p)
		puts[n] = kv.Put(s.keys.partition(TopicIDPartition{Topic: t.ID, Partition: int32(n)}), encode(p), 0)
	}
	create := kv.Txn{
		If:   []kv.Cmp{kv.Absent(s.keys.topic(t.Name))},
		Then: []kv.Op{kv.Put(s.keys.topic(t.Name), encode(topicValue{ID: t.ID, Partitions: int32(len(puts)), Created: t.Created}), 0)},
		Else: []kv.Op{kv.Get(s.keys.topic(t.Name), "")},
	}
	if len(spec.Configs) > 0 {
		create.Then = append(create.Then, kv.Put(s.keys.topicConfig(t.Name), encode(spec.Configs), 0))
	}
	if len(create.Then)+len(puts) > s.kv.MaxTxnOps() {
		return s.createLarge(ctx, t, create, puts)
	}
	create.If = append(create.If, kv.Absent(s.keys.tombstone(t.ID)))
	create.Then = append(create.Then, puts...)
	rev, err := s.commitTopic(ctx, t, create)
	if err != nil {
		return nil, err
	}
	for n := range t.Partitions {
		t.Partitions[n].ModRevision = rev
	}
	return t, nil
}

// commitTopic runs the transaction that makes the topic visible.
func (s *Store) commitTopic(ctx context.Context, t *Topic, create kv.Txn) (int64, error) {
	resp, err := s.txn(ctx, "create-topic", create)
	switch {
	case err != nil:
		return 0, err
	case resp.Succeeded:
		t.ModRevision = resp.Revision
		s.settle(ctx, resp.Revision)
		return resp.Revision, nil
	case len(resp.Gets[0]) > 0:
		return 0, ErrTopicExists
	}
	return 0, fmt.Errorf("%w: the creation was given up meanwhile, or its id is of a deleted topic", ErrConflict)
}

// createLarge writes a topic in several transactions, see the package comment.
func (s *Store) createLarge(ctx context.Context, t *Topic, create kv.Txn, puts []kv.Op) (*Topic, error) {
	grave := s.keys.tombstone(t.ID)
	begin, err := s.txn(ctx, "create-topic-begin", kv.Txn{
		If: []kv.Cmp{kv.Absent(grave), kv.Absent(s.keys.topic(t.Name))},
		Then: []kv.Op{kv.Put(grave, encode(tombstoneValue{
			Name: t.Name, Partitions: int32(len(t.Partitions)), Created: t.Created, Deleted: time.Now().UTC(), Creating: true,
		}), 0)},
		Else: []kv.Op{kv.Get(s.keys.topic(t.Name), "")},
	})
	switch {
	case err != nil:
		return nil, err
	case !begin.Succeeded && len(begin.Gets[0]) > 0:
		return nil, ErrTopicExists
	case !begin.Succeeded:
		return nil, fmt.Errorf("%w: id %s is of a deleted topic", ErrConflict, t.ID)
	}
	held := kv.Unchanged(grave, begin.Revision)
	n := 0
	for part := range slices.Chunk(puts, s.chunk(len(puts), 0)) {
		resp, err := s.txn(ctx, "create-topic-partitions", kv.Txn{If: []kv.Cmp{held}, Then: part})
		if err == nil && !resp.Succeeded {
			err = fmt.Errorf("%w: the creation was given up meanwhile", ErrConflict)
		}
		if err != nil {
			return nil, err // what is written goes with the tombstone
		}
		for range part {
			if n < len(t.Partitions) { // behind them come others, see RecoverTopic
				t.Partitions[n].ModRevision = resp.Revision
			}
			n++
		}
	}
	create.If = append(create.If, held)
	create.Then = append(create.Then, kv.Delete(grave, ""))
	if _, err := s.commitTopic(ctx, t, create); err != nil {
		if errors.Is(err, ErrTopicExists) { // else its outcome is not known
			s.giveUp(ctx, t.ID, begin.Revision)
		}
		return nil, err
	}
	return t, nil
}

// giveUp removes what a creation that lost wrote. If it does not, the controller
// will.
func (s *Store) giveUp(ctx context.Context, id TopicID, mod int64) {
	if err := s.finishTombstone(ctx, id, kv.Unchanged(s.keys.tombstone(id), mod)); err != nil {
		s.log.Debug("unfinished topic left to the controller", "topic", id, "err", err)
	}
}

// AddPartitions grows a topic by the given partitions.
// Errors: ErrUnknownTopic, ErrConflict if it was changed at the same time.
func (s *Store) AddPartitions(ctx context.Context, name string, assignments [][]BrokerID) error {
	if err := s.addPartitions(ctx, name, assignments); err != nil {
		return fmt.Errorf("add partitions to topic %q: %w", name, err)
	}
	return nil
}

func (s *Store) addPartitions(ctx context.Context, name string, assignments [][]BrokerID) error {
	if err := checkAssignments(assignments); err != nil {
		return err
	}
	im := s.Image()
	t, ok := im.Topic(name)
	if !ok {
		return ErrUnknownTopic
	}
	from, total := len(t.Partitions), len(t.Partitions)+len(assignments)
	if total > MaxPartitionsPerTopic {
		return fmt.Errorf("%d partitions: want at most %d", total, MaxPartitionsPerTopic)
	}
	// A topic that changes meanwhile fails each transaction, so nobody writes
	// over the state of partitions that came to count.
	held := kv.Unchanged(s.keys.topic(name), t.ModRevision)
	puts := make([]kv.Op, 0, len(assignments)+1)
	for i, replicas := range assignments {
		tip := TopicIDPartition{Topic: t.ID, Partition: int32(from + i)}
		puts = append(puts, kv.Put(s.keys.partition(tip), encode(initial(im, replicas)), 0))
	}
	puts = append(puts, kv.Put(s.keys.topic(name), encode(topicValue{ID: t.ID, Partitions: int32(total), Created: t.Created, Kept: t.Kept}), 0))
	var rev int64
	for part := range slices.Chunk(puts, s.chunk(len(puts), 0)) {
		resp, err := s.txn(ctx, "add-partitions", kv.Txn{If: []kv.Cmp{held}, Then: part})
		switch {
		case err != nil:
			return err
		case !resp.Succeeded:
			return ErrConflict
		}
		rev = resp.Revision
	}
	s.settle(ctx, rev)
	return nil
}

// DeleteTopic makes a topic disappear at once and leaves a tombstone with all its
// state, by which the controller removes its data. Errors: ErrUnknownTopic.
func (s *Store) DeleteTopic(ctx context.Context, name string) error {
	if err := s.deleteTopic(ctx, name, TopicID{}); err != nil {
		return fmt.Errorf("delete topic %q: %w", name, err)
	}
	return nil
}

// DeleteTopicByID is DeleteTopic of the topic that has the id, and never of one
// that was created under the same name since. Errors: ErrUnknownTopic, also where
// the image does not show the topic yet.
func (s *Store) DeleteTopicByID(ctx context.Context, id TopicID) error {
	err := ErrUnknownTopic
	if t, ok := s.Image().TopicByID(id); ok {
		err = s.deleteTopic(ctx, t.Name, id)
	}
	if err != nil {
		return fmt.Errorf("delete topic with id %s: %w", id, err)
	}
	return nil
}

// deleteTopic deletes the topic of that name, if it has the id where one is given.
func (s *Store) deleteTopic(ctx context.Context, name string, id TopicID) error {
	topicKey, configKey := s.keys.topic(name), s.keys.topicConfig(name)
	for {
		resp, err := s.txn(ctx, "read-topic", kv.Txn{Then: []kv.Op{kv.Get(topicKey, ""), kv.Get(configKey, "")}})
		if err != nil {
			return err
		}
		if len(resp.Gets[0]) == 0 {
			return ErrUnknownTopic
		}
		topic, ifs := resp.Gets[0][0], []kv.Cmp{kv.Absent(configKey)}
		v, err := decode[topicValue](kv.Event{KV: topic})
		if err != nil {
			return err
		}
		if !id.IsZero() && v.ID != id {
			return ErrUnknownTopic
		}
		grave := tombstoneValue{Name: name, Partitions: v.Partitions, Created: v.Created, Deleted: time.Now().UTC(), Kept: v.Kept}
		if len(resp.Gets[1]) > 0 {
			config := resp.Gets[1][0]
			ifs[0] = kv.Unchanged(configKey, config.ModRevision)
			if grave.Configs, err = decode[map[string]string](kv.Event{KV: config}); err != nil {
				return err
			}
		}
		resp, err = s.txn(ctx, "delete-topic", kv.Txn{
			If: append(ifs, kv.Unchanged(topicKey, topic.ModRevision)),
			Then: []kv.Op{
				kv.Delete(topicKey, ""), kv.Delete(configKey, ""),
				kv.Put(s.keys.tombstone(v.ID), encode(grave), 0),
			},
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

// FinishTombstone removes the last traces of a topic: call it when its data is
// gone. A tombstone that is gone is no error.
func (s *Store) FinishTombstone(ctx context.Context, id TopicID) error {
	if err := s.finishTombstone(ctx, id, kv.Exists(s.keys.tombstone(id))); err != nil {
		return fmt.Errorf("finish tombstone of topic %s: %w", id, err)
	}
	return nil
}

func (s *Store) finishTombstone(ctx context.Context, id TopicID, conditions ...kv.Cmp) error {
	parts, remote := s.keys.partitions(id), s.keys.remoteOf(id)
	resp, err := s.txn(ctx, "finish-tombstone", kv.Txn{
		If: conditions,
		Then: []kv.Op{
			kv.Delete(parts, kv.PrefixEnd(parts)), kv.Delete(remote, kv.PrefixEnd(remote)),
			kv.Delete(s.keys.tombstone(id), ""),
		},
	})
	if err != nil {
		return err
	}
	if resp.Succeeded {
		s.settle(ctx, resp.Revision)
	}
	return nil
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/restore"
)

// recoverTopic is `topic recover`: a topic whose objects are in the store, of this
// cluster or another one, becomes one of this cluster.
func (b *Broker) recoverTopic(ctx context.Context, q console.RecoverQuery, line func(console.TierLine)) error {
	own, objects := b.addresses.ClusterID, b.bucket()
	r := restore.TopicCopy{From: q.ClusterID, To: own}
	if r.From == "" {
		r.From = own
	}
	if _, exists := b.metadata.Image().Topic(q.Topic); exists {
		return fmt.Errorf("%w: there is a topic %s", console.ErrRefused, q.Topic)
	}
	found, err := objects.TopicsNamed(ctx, r.From, q.Topic)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(t bucket.Topic) bool { return t.Partitions == 0 })
	if len(found) == 0 {
		return fmt.Errorf("topic %s of cluster %s in the object store: %w", q.Topic, r.From, console.ErrNotFound)
	}
	r.Topic = slices.MaxFunc(found, func(x, y bucket.Topic) int { return x.Created.Compare(y.Created) })
	if r.ID, err = b.freeID(r); err != nil {
		return err
	}
	out := console.Recovered{Topic: q.Topic, TopicID: r.ID.String(), From: r.From}
	for _, err := range r.Topic.Problems {
		out.Problems = append(out.Problems, err.Error())
	}
	roots := r.Topic.Roots
	if r.From != own {
		var done atomic.Int64
		total := r.Topic.Bytes()
		r.Progress = func(n int64) {
			line(console.TierLine{Progress: console.CopyProgress{Bytes: done.Add(n), Total: total}})
		}
		if roots, err = restore.CopyTopic(ctx, objects, r); err != nil {
			return err
		}
		out.Copied = done.Load()
	}
	topic, err := b.placed(r, roots)
	if err != nil {
		return err
	}
	err = b.metadata.RecoverTopic(ctx, topic)
	switch {
	case errors.Is(err, metadata.ErrTopicExists), errors.Is(err, metadata.ErrTopicIDTaken), errors.Is(err, metadata.ErrConflict):
		return fmt.Errorf("%w: %w", console.ErrRefused, err)
	case err != nil:
		return err
	}
	b.log.Info("topic recovered", "topic", q.Topic, "topic_id", r.ID, "from", r.From)
	for n, p := range topic.Partitions {
		row := console.RecoveredPartition{Partition: int32(n), Replicas: numbers(p.Replicas), Newest: -1}
		if root := roots[int32(n)]; root.Root != nil {
			row.StartOffset, row.EndOffset = max(root.StartOffset, min(root.LogStartOffset, root.EndOffset)), root.EndOffset
			row.Bytes, row.Newest = root.Bytes, root.NewestTimestamp()
		}
		out.Partitions = append(out.Partitions, row)
	}
	line(console.TierLine{Summary: out})
	return nil
}

// freeID is the id that the topic had, or, where that is taken, a new one. Objects
// of this cluster can only be taken over under the id that they have.
func (b *Broker) freeID(r restore.TopicCopy) (metadata.TopicID, error) {
	im, id := b.metadata.Image(), r.Topic.TopicID
	buried := slices.ContainsFunc(im.Tombstones(), func(g metadata.Tombstone) bool { return g.Topic.ID == id })
	_, lives := im.TopicByID(id)
	switch {
	case !buried && !lives:
		return id, nil
	case r.From != r.To:
		return metadata.NewTopicID(), nil
	case buried:
		return id, fmt.Errorf("%w: topic %s was deleted a while ago: `coldbrook topic undelete` brings it back", console.ErrRefused, r.Topic.Topic)
	}
	return id, fmt.Errorf("%w: another topic has the id %s", console.ErrRefused, id)
}

// placed gives the partitions their replicas.
func (b *Broker) placed(r restore.TopicCopy, roots map[int32]bucket.Root) (metadata.RestoredTopic, error) {
	im := b.metadata.Image()
	brokers := slices.DeleteFunc(slices.Clone(im.Brokers()), func(b metadata.Broker) bool { return !b.Holds() })
	replicas := min(max(1, r.Topic.Replicas), len(brokers))
	places, err := controller.Place(brokers, r.Topic.Partitions, replicas, int(r.ID[0]))
	if err != nil {
		return metadata.RestoredTopic{}, fmt.Errorf("%w: %w", console.ErrRefused, err)
	}
	out := metadata.RestoredTopic{Name: r.Topic.Topic, ID: r.ID, Created: r.Topic.Created, Configs: r.Topic.Configs}
	for n, ids := range places {
		root := roots[int32(n)]
		p := metadata.RestoredPartition{Replicas: ids, LeaderEpoch: restore.EpochAbove(root)}
		if root.Root != nil {
			p.Remote = root.Pointer()
		}
		out.Partitions = append(out.Partitions, p)
	}
	return out, nil
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/gc"
)

// collector says whether this broker collects what no leader does: the controller's broker.
func (b *Broker) collector() bool {
	return b.metadata.Image().Controller() == metadata.BrokerID(b.settings.Load().Broker().NodeID)
}

// tierFsck is `tier fsck`.
func (b *Broker) tierFsck(ctx context.Context, q console.TierCheck, line func(console.TierLine)) error {
	sum, err := b.tier.Fsck(ctx, gc.FsckOptions{Topic: q.Topic, Repair: q.Repair, Quick: q.Quick},
		func(p gc.Problem) { line(console.TierLine{Problem: p}) },
		func(s gc.FsckSummary) { line(console.TierLine{Progress: s}) })
	return checked(sum, err, line)
}

// tierVerify is `tier verify`.
func (b *Broker) tierVerify(ctx context.Context, q console.TierCheck, line func(console.TierLine)) error {
	sum, err := b.tier.Verify(ctx, gc.VerifyOptions{Topic: q.Topic, Rate: q.Rate, Repair: q.Repair},
		func(p gc.Problem) { line(console.TierLine{Problem: p}) },
		func(s gc.VerifySummary) { line(console.TierLine{Progress: s}) })
	return checked(sum, err, line)
}

// checked ends a check: what could be looked at has a summary, also when something could not.
func checked(sum any, err error, line func(console.TierLine)) error {
	if errors.Is(err, metadata.ErrUnknownTopic) {
		return fmt.Errorf("%w: %w", console.ErrNotFound, err)
	}
	line(console.TierLine{Summary: sum})
	return err
}

// keepLog is `tier adopt`: those of a topic's partitions that this broker leads and that wait go on with their logs.
func (b *Broker) keepLog(_ context.Context, topic string, partitions []int32) (console.KeptLogs, error) {
	t, ok := b.metadata.Image().Topic(topic)
	if !ok {
		return console.KeptLogs{}, fmt.Errorf("topic %q: %w", topic, console.ErrNotFound)
	}
	out := console.KeptLogs{Topic: topic, Partitions: []int32{}}
	for i := range t.Partitions {
		n := int32(i)
		if len(partitions) > 0 && !slices.Contains(partitions, n) {
			continue
		}
		if b.tier.KeepLog(metadata.TopicIDPartition{Topic: t.ID, Partition: n}) {
			out.Partitions = append(out.Partitions, n)
		}
	}
	if len(out.Partitions) == 0 {
		return out, fmt.Errorf("%w: none of the partitions of topic %q that this broker leads waits for a decision", console.ErrRefused, topic)
	}
	b.log.Warn("partitions go on with their logs, as an operator has decided", "topic", topic, "partitions", out.Partitions)
	return out, nil
}

// undelete is `topic undelete`: the topic of a tombstone, by id or by a name that only one has.
func (b *Broker) undelete(ctx context.Context, topic string) (console.Undeleted, error) {
	grave, err := b.findGrave(topic)
	if err != nil {
		return console.Undeleted{}, err
	}
	t, err := b.metadata.UndeleteTopic(ctx, grave.Topic.ID)
	switch {
	case errors.Is(err, metadata.ErrUnknownTopic):
		return console.Undeleted{}, fmt.Errorf("%w: %w", console.ErrNotFound, err)
	case errors.Is(err, metadata.ErrTopicExists), errors.Is(err, metadata.ErrPurging), errors.Is(err, metadata.ErrConflict):
		return console.Undeleted{}, fmt.Errorf("%w: %w", console.ErrRefused, err)
	case err != nil:
		return console.Undeleted{}, err
	}
	b.log.Info("topic undeleted", "topic", t.Name, "topic_id", t.ID)
	out := console.Undeleted{Topic: t.Name, TopicID: t.ID.String(), Deleted: grave.Deleted}
	img := b.metadata.Image()
	for n, p := range t.Partitions {
		row := console.UndeletedPartition{Partition: int32(n), Leader: int32(p.Leader), StartOffset: -1}
		if pointer, ok := img.RemotePointer(metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}); ok {
			row.StartOffset, row.LostFrom = pointer.StartOffset, pointer.EndOffset
		}
		out.Partitions = append(out.Partitions, row)
	}
	return out, nil
}

// findGrave finds a deleted topic.
func (b *Broker) findGrave(topic string) (metadata.Tombstone, error) {
	var found []metadata.Tombstone
	for _, g := range b.metadata.Image().Tombstones() {
		if !g.Creating && (g.Topic.Name == topic || g.Topic.ID.String() == topic) {
			found = append(found, g)
		}
	}
	switch len(found) {
	case 0:
		return metadata.Tombstone{}, fmt.Errorf("%w: no deleted topic %q is left; `topic recover` looks in the bucket", console.ErrNotFound, topic)
	case 1:
		return found[0], nil
	}
	text := ""
	for _, g := range found {
		text += fmt.Sprintf("\n%s deleted %s", g.Topic.ID, g.Deleted.Format("2006-01-02 15:04:05 MST"))
	}
	return metadata.Tombstone{}, fmt.Errorf("%w: %d deleted topics had the name %q, name one by its id:%s", console.ErrRefused, len(found), topic, text)
}

package group

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// OffsetDelete handles OffsetDelete (key 47), version 0: offsets of topics that
// the group's members do not consume (KIP-496).
func (c *Coordinator) OffsetDelete(ctx context.Context, _ Client, req *kmsg.OffsetDeleteRequest) *kmsg.OffsetDeleteResponse {
	resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	if req.Group == "" {
		resp.ErrorCode = codeInvalidGroup
		return resp
	}
	topics, err := write(ctx, c, c.PartitionOf(req.Group), func(s *shard, u *coordinator.Update) ([]kmsg.OffsetDeleteResponseTopic, error) {
		topics, code := s.offsetDelete(req, u)
		return topics, refused(code)
	})
	if err != nil {
		resp.ErrorCode = codeOf(err)
		return resp
	}
	resp.Topics = topics
	return resp
}

func (s *shard) offsetDelete(req *kmsg.OffsetDeleteRequest, u *coordinator.Update) ([]kmsg.OffsetDeleteResponseTopic, int16) {
	g := s.groups[req.Group]
	switch {
	case g == nil:
		return nil, codeGroupNotFound
	case g.state != Empty && g.protocolType != consumerProtocol:
		return nil, kerr.NonEmptyGroup.Code // what its members consume is not known
	}
	out := make([]kmsg.OffsetDeleteResponseTopic, len(req.Topics))
	for i, t := range req.Topics {
		out[i].Topic = t.Topic
		subscribed := g.isSubscribed(t.Topic)
		for _, p := range t.Partitions {
			r := kmsg.NewOffsetDeleteResponseTopicPartition()
			r.Partition = p.Partition
			_, has := g.store.get(t.Topic, p.Partition)
			switch {
			case subscribed:
				r.ErrorCode = kerr.GroupSubscribedToTopic.Code
			case has || g.store.isOpen(t.Topic, p.Partition):
				s.deleteOffset(g, topicPartition{t.Topic, p.Partition}, u)
			}
			out[i].Partitions = append(out[i].Partitions, r)
		}
	}
	s.metrics.deletions.Add(int64(u.Records()))
	return out, 0
}

// DeleteGroups handles DeleteGroups (key 42), versions 0–2: groups without
// members go, with their offsets.
func (c *Coordinator) DeleteGroups(ctx context.Context, _ Client, req *kmsg.DeleteGroupsRequest) *kmsg.DeleteGroupsResponse {
	resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
	resp.Groups = make([]kmsg.DeleteGroupsResponseGroup, len(req.Groups))
	for i, group := range req.Groups {
		code, err := write(ctx, c, c.PartitionOf(group), func(s *shard, u *coordinator.Update) (int16, error) {
			return s.delete(group, u), nil
		})
		if err != nil {
			code = codeOf(err)
		}
		resp.Groups[i].Default()
		resp.Groups[i].Group, resp.Groups[i].ErrorCode = group, code
	}
	return resp
}

func (s *shard) delete(group string, u *coordinator.Update) int16 {
	g := s.groups[group]
	switch {
	case g == nil:
		return codeGroupNotFound
	case g.state != Empty:
		return kerr.NonEmptyGroup.Code
	}
	u.Split = true // the group's own tombstone comes last
	s.deleteGroup(g, u)
	s.metrics.deletions.Add(int64(u.Records() - 1))
	return 0
}

// DeletedTopic is a topic that does not exist any more.
type DeletedTopic struct {
	Name string
	ID   [16]byte
}

// OnTopicsDeleted deletes the offsets of deleted topics in all partitions this
// broker coordinates, and returns when that is committed; it waits for
// partitions that are loading. Offsets committed by the id of another topic of
// the same name stay. On an error it may be called again with the same topics.
func (c *Coordinator) OnTopicsDeleted(ctx context.Context, topics []DeletedTopic) error {
	_, err := each(c, func(partition int32) (int, error) {
		for {
			n, err := coordinator.Write(ctx, c.rt, partition, func(s *shard, u *coordinator.Update) (int, error) {
				s.deleteTopics(topics, u)
				return u.Records(), nil
			})
			if !errors.Is(err, coordinator.ErrLoading) {
				return n, err
			}
			select {
			case <-time.After(loadingPause):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	})
	return err
}

// loadingPause is how often a partition that is loading is asked again.
const loadingPause = 200 * time.Millisecond

func (s *shard) deleteTopics(topics []DeletedTopic, u *coordinator.Update) {
	u.Split = true
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		for _, t := range topics {
			for _, p := range slices.Sorted(maps.Keys(g.store.topics[t.Name])) {
				if o := g.store.topics[t.Name][p]; o.topicID == [16]byte{} || o.topicID == t.ID {
					s.deleteOffset(g, topicPartition{t.Name, p}, u)
				}
			}
			for tp := range g.store.open {
				if _, has := g.store.get(tp.topic, tp.partition); tp.topic == t.Name && !has {
					s.deleteOffset(g, tp, u)
				}
			}
		}
	}
	s.metrics.deletions.Add(int64(u.Records()))
}

package group

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// OffsetFetch handles OffsetFetch (key 9), versions 1–10. v2: null topics ask
// for all. v5: leader epochs. v7: require stable (KIP-447). v8: several groups.
// v10: topic ids. It waits until what it returns is committed, at most
// offsets.commit.timeout.ms.
func (c *Coordinator) OffsetFetch(ctx context.Context, _ Client, req *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	ctx, cancel := context.WithTimeout(ctx, c.o.Config.CommitTimeout)
	defer cancel()
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	if req.Version < 8 {
		one := fetchOne(req)
		fillOne(resp, req, c.fetch(ctx, &one, req.RequireStable, false))
		return resp
	}
	resp.Groups = make([]kmsg.OffsetFetchResponseGroup, len(req.Groups))
	for i := range req.Groups {
		resp.Groups[i] = c.fetch(ctx, &req.Groups[i], req.RequireStable, req.Version >= 10)
	}
	return resp
}

// fetchOne turns a request before v8 into one of a single group.
func fetchOne(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics != nil {
		g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(req.Topics))
		for i, t := range req.Topics {
			g.Topics[i].Topic, g.Topics[i].Partitions = t.Topic, t.Partitions
		}
	}
	return g
}

// fillOne turns a group's answer into one before v8; v1 has no error but those
// of partitions.
func fillOne(resp *kmsg.OffsetFetchResponse, req *kmsg.OffsetFetchRequest, g kmsg.OffsetFetchResponseGroup) {
	resp.ErrorCode = g.ErrorCode
	if g.ErrorCode != 0 && req.Version < 2 {
		one := fetchOne(req)
		g.Topics = failedTopics(one.Topics, g.ErrorCode)
	}
	for _, t := range g.Topics {
		out := kmsg.NewOffsetFetchResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			q := kmsg.NewOffsetFetchResponseTopicPartition()
			q.Partition, q.Offset, q.LeaderEpoch = p.Partition, p.Offset, p.LeaderEpoch
			q.Metadata, q.ErrorCode = p.Metadata, p.ErrorCode
			out.Partitions = append(out.Partitions, q)
		}
		resp.Topics = append(resp.Topics, out)
	}
}

func failedTopics(topics []kmsg.OffsetFetchRequestGroupTopic, code int16) []kmsg.OffsetFetchResponseGroupTopic {
	out := make([]kmsg.OffsetFetchResponseGroupTopic, len(topics))
	for i, t := range topics {
		out[i].Topic, out[i].TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			out[i].Partitions = append(out[i].Partitions, noOffset(p, code))
		}
	}
	return out
}

// noOffset is the answer for a partition without an offset.
func noOffset(partition int32, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	empty := ""
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = partition, -1, -1, &empty, code
	return p
}

// fetch answers for one group. With ids, topics are named by their ids.
func (c *Coordinator) fetch(ctx context.Context, req *kmsg.OffsetFetchRequestGroup, stable, ids bool) kmsg.OffsetFetchResponseGroup {
	names, all := c.fetchNames(req, ids), req.Topics == nil
	topics, err := coordinator.Read(ctx, c.rt, c.PartitionOf(req.Group), func(s *shard) ([]kmsg.OffsetFetchResponseGroupTopic, error) {
		if all {
			return s.fetchAll(req.Group, stable), nil
		}
		return s.fetch(req, names, stable), nil
	})
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group, resp.ErrorCode = req.Group, fetchCode(err)
	if err != nil {
		return resp
	}
	if all && ids {
		topics = slices.DeleteFunc(topics, func(t kmsg.OffsetFetchResponseGroupTopic) bool {
			_, known := c.o.TopicID(t.Topic)
			return !known // the topic is gone and its offsets will be
		})
		for i := range topics {
			topics[i].TopicID, _ = c.o.TopicID(topics[i].Topic)
		}
	}
	resp.Topics = topics
	return resp
}

// fetchCode is codeOf for OffsetFetch: consumers before Kafka 3.9 take
// COORDINATOR_NOT_AVAILABLE there for fatal. NOT_COORDINATOR makes all of them look
// for the coordinator and ask again: GroupCoordinatorService.fetchOffsets.
func fetchCode(err error) int16 {
	if code := codeOf(err); code != codeCoordinatorNotAvail {
		return code
	}
	return codeNotCoordinator
}

// fetchNames are the names of the topics asked for; "" if not known.
func (c *Coordinator) fetchNames(req *kmsg.OffsetFetchRequestGroup, ids bool) []string {
	names := make([]string, len(req.Topics))
	for i, t := range req.Topics {
		if names[i] = t.Topic; ids {
			names[i], _ = c.o.TopicName(t.TopicID)
		}
	}
	return names
}

func (s *shard) fetch(req *kmsg.OffsetFetchRequestGroup, names []string, stable bool) []kmsg.OffsetFetchResponseGroupTopic {
	out := make([]kmsg.OffsetFetchResponseGroupTopic, len(req.Topics))
	g := s.groups[req.Group]
	for i, t := range req.Topics {
		out[i].Topic, out[i].TopicID = t.Topic, t.TopicID
		out[i].Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, len(t.Partitions))
		for j, p := range t.Partitions {
			switch {
			case names[i] == "" && t.TopicID != [16]byte{}:
				out[i].Partitions[j] = noOffset(p, kerr.UnknownTopicID.Code)
			case g == nil:
				out[i].Partitions[j] = noOffset(p, 0)
			default:
				out[i].Partitions[j] = g.fetch(names[i], t.TopicID, p, stable)
			}
		}
	}
	return out
}

// fetch answers for one partition. An offset that was committed for another
// topic of the same name is none.
func (g *classicGroup) fetch(topic string, id [16]byte, partition int32, stable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	if stable && g.store.isOpen(topic, partition) {
		return noOffset(partition, kerr.UnstableOffsetCommit.Code)
	}
	o, ok := g.store.get(topic, partition)
	none := [16]byte{}
	if !ok || o.topicID != none && id != none && o.topicID != id {
		return noOffset(partition, 0)
	}
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, o.offset, o.leaderEpoch, &o.metadata
	return p
}

func (s *shard) fetchAll(group string, stable bool) []kmsg.OffsetFetchResponseGroupTopic {
	out := []kmsg.OffsetFetchResponseGroupTopic{}
	g := s.groups[group]
	if g == nil {
		return out
	}
	for _, topic := range slices.Sorted(maps.Keys(g.store.topics)) {
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic = topic
		for _, p := range slices.Sorted(maps.Keys(g.store.topics[topic])) {
			t.Partitions = append(t.Partitions, g.fetch(topic, t.TopicID, p, stable))
		}
		out = append(out, t)
	}
	return out
}

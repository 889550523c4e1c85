package group

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// OffsetCommit handles OffsetCommit (key 8), versions 2–10. It waits until the
// offsets are committed, at most offsets.commit.timeout.ms. v2–4: a retention
// of the request's own. v6: leader epochs. v7: static members. v9:
// GROUP_ID_NOT_FOUND. v10: topic ids. The empty group id is allowed, as in Kafka.
func (c *Coordinator) OffsetCommit(ctx context.Context, _ Client, req *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	commits := c.resolveCommits(req)
	_, err := write(ctx, c, c.PartitionOf(req.Group), func(s *shard, u *coordinator.Update) (struct{}, error) {
		return struct{}{}, refused(s.commit(req, commits, u))
	})
	code := codeOf(err)
	if errors.Is(err, record.ErrTooLarge) {
		code = kerr.InvalidCommitOffsetSize.Code
	}
	return commitResponse(req, commits, code)
}

// commitTopic is one topic of an OffsetCommit.
type commitTopic struct {
	name  string
	codes []int16 // by partition
}

// resolveCommits names the topics and finds what cannot be committed whatever
// the group says.
func (c *Coordinator) resolveCommits(req *kmsg.OffsetCommitRequest) []commitTopic {
	out := make([]commitTopic, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		out[i] = commitTopic{name: t.Topic, codes: make([]int16, len(t.Partitions))}
		known := true
		if req.Version >= 10 {
			out[i].name, known = c.o.TopicName(t.TopicID)
		}
		for j := range t.Partitions {
			switch {
			case !known:
				out[i].codes[j] = kerr.UnknownTopicID.Code
			case utf16Len(deref(t.Partitions[j].Metadata)) > c.o.Config.MaxMetadata:
				out[i].codes[j] = kerr.OffsetMetadataTooLarge.Code
			}
		}
	}
	return out
}

// utf16Len is Java's String.length, which Kafka's limit is on.
func utf16Len(s string) int {
	n := utf8.RuneCountInString(s)
	for _, r := range s {
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

func (s *shard) commit(req *kmsg.OffsetCommitRequest, topics []commitTopic, u *coordinator.Update) int16 {
	g := s.groups[req.Group]
	if code := g.checkCommit(req); code != 0 {
		return code
	}
	if g != nil && (g.state == Stable || g.state == PreparingRebalance) {
		// In the classic protocol a commit is a sign of life.
		if m := g.byID[req.MemberID]; m != nil {
			s.startSession(g, m, m.sessionTimeout)
		}
	}
	now := time.Now().UnixMilli()
	expires := int64(-1)
	if req.Version >= 2 && req.Version <= 4 && req.RetentionTimeMillis >= 0 {
		expires = now + req.RetentionTimeMillis
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			if topics[i].codes[j] != 0 {
				continue
			}
			p := &t.Partitions[j]
			o := offset{offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: deref(p.Metadata),
				committed: now, expires: expires, topicID: t.TopicID}
			s.storeOffset(req.Group, topics[i].name, p.Partition, o, u)
		}
	}
	s.metrics.commits.Add(int64(u.Records()))
	return 0
}

func (s *shard) storeOffset(group, topic string, partition int32, o offset, u *coordinator.Update) {
	u.Append(coordinator.Record{
		Key:   offsetKey(group, topic, partition),
		Value: o.encode(),
		Apply: func(at int64) {
			o.at = at
			s.putOffset(coordinator.NoProducer, group, topic, partition, o)
		},
	})
}

// checkCommit decides whether an OffsetCommit is accepted. A group that does
// not exist is made by a commit without a generation: such a "simple" consumer,
// or an administrator, may commit while the group has no members.
func (g *classicGroup) checkCommit(req *kmsg.OffsetCommitRequest) int16 {
	switch {
	case g == nil && req.Generation < 0:
		return 0
	case g == nil && req.Version >= 9:
		return codeGroupNotFound
	case g == nil:
		return codeIllegalGeneration
	case req.Generation < 0 && g.state == Empty:
		return 0
	case req.Generation < 0 && req.MemberID == "" && req.InstanceID == nil:
		return codeUnknownMember // only members may, while there are any
	}
	if code := g.check(req.MemberID, req.InstanceID); code != 0 {
		return code
	}
	switch {
	case req.Generation != g.generation:
		return codeIllegalGeneration
	case g.state == CompletingRebalance:
		return codeRebalance
	}
	return 0
}

func commitResponse(req *kmsg.OffsetCommitRequest, topics []commitTopic, code int16) *kmsg.OffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	for i := range req.Topics {
		t := &resp.Topics[i]
		t.Default()
		t.Topic, t.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		t.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(req.Topics[i].Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			p.Default()
			p.Partition, p.ErrorCode = req.Topics[i].Partitions[j].Partition, topics[i].codes[j]
			if code != 0 {
				p.ErrorCode = code
			}
		}
	}
	return resp
}

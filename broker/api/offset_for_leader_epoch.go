package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// offsetForLeaderEpoch is OffsetForLeaderEpoch (key 23), versions 2–4, which
// followers ask and, since KIP-320, consumers. Epochs that only the tier
// remembers are looked up there.
func (a *API) offsetForLeaderEpoch(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetForLeaderEpochRequest)
	resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	ctx, cancel := context.WithTimeout(ctx, remoteListOffsetsWait)
	defer cancel()
	follower := a.clusterAllowed(ctx, c, auth.ClusterAction)
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		denied := int16(0)
		if !follower {
			denied = a.topicAllowed(ctx, c, auth.Describe, t.Topic)
		}
		for j := range t.Partitions {
			q := &t.Partitions[j]
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.LeaderEpoch, rp.EndOffset = q.Partition, denied, -1, -1
			if denied == 0 {
				var err error
				tp := metadata.TopicPartition{Topic: t.Topic, Partition: q.Partition}
				rp.LeaderEpoch, rp.EndOffset, err = a.o.Replicas.EndOffsetForEpoch(ctx, tp, q.CurrentLeaderEpoch, q.LeaderEpoch)
				rp.ErrorCode = codeOf(err)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

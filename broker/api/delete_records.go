package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// deleteRecords is DeleteRecords (key 21), versions 0–2 (KIP-107). It is answered
// when all live replicas have deleted, so that no election brings records back.
func (a *API) deleteRecords(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DeleteRecordsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		denied := a.topicAllowed(ctx, c, auth.Delete, t.Topic)
		if denied == 0 && internalTopic(t.Topic) {
			denied = kerr.InvalidTopicException.Code
		}
		for _, q := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			rp.Partition, rp.LowWatermark, rp.ErrorCode = q.Partition, -1, denied
			if denied == 0 {
				tp := metadata.TopicPartition{Topic: t.Topic, Partition: q.Partition}
				start, err := a.o.Replicas.DeleteRecords(tp, q.Offset)
				rp.LowWatermark, rp.ErrorCode = start, codeOf(err)
				if rp.ErrorCode == kerr.UnknownServerError.Code {
					a.log.Error("delete records", "partition", tp, "offset", q.Offset, "err", err)
				}
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(req.TimeoutMillis)*time.Millisecond)
	defer cancel()
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			if rp.ErrorCode == 0 {
				tp := metadata.TopicPartition{Topic: rt.Topic, Partition: rp.Partition}
				rp.ErrorCode = codeOf(a.o.Replicas.WaitDeleted(ctx, tp, rp.LowWatermark))
			}
		}
	}
	return resp
}

package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// offsetDelete is OffsetDelete (key 47), version 0 (KIP-496).
func (a *API) offsetDelete(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetDeleteRequest)
	resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	if resp.ErrorCode = a.groupAllowed(ctx, c, auth.Delete, req.Group); resp.ErrorCode != 0 {
		return resp
	}
	served := *req
	served.Topics = nil
	for _, t := range req.Topics {
		code := a.topicAllowed(ctx, c, auth.Read, t.Topic)
		if _, ok := a.o.Metadata.Image().Topic(t.Topic); code == 0 && !ok {
			code = kerr.UnknownTopicOrPartition.Code
		}
		if code == 0 {
			served.Topics = append(served.Topics, t)
			continue
		}
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if len(served.Topics) == 0 && len(req.Topics) > 0 {
		return resp
	}
	deleted := a.o.Groups.OffsetDelete(ctx, clientOf(c), &served)
	resp.ErrorCode = deleted.ErrorCode
	resp.Topics = append(resp.Topics, deleted.Topics...)
	return resp
}

package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
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
	img := a.o.Metadata.Image()
	for _, t := range req.Topics {
		topic, code := (*metadata.Topic)(nil), a.topicAllowed(ctx, c, auth.Read, t.Topic)
		if code == 0 {
			if topic, _ = img.Topic(t.Topic); topic == nil {
				code = kerr.UnknownTopicOrPartition.Code
			}
		}
		known, refused := t, kmsg.NewOffsetDeleteResponseTopic()
		known.Partitions, refused.Topic = nil, t.Topic
		for _, p := range t.Partitions {
			if code == 0 && p.Partition >= 0 && int(p.Partition) < len(topic.Partitions) {
				known.Partitions = append(known.Partitions, p)
				continue
			}
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			if rp.Partition, rp.ErrorCode = p.Partition, code; code == 0 {
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			}
			refused.Partitions = append(refused.Partitions, rp)
		}
		if len(known.Partitions) > 0 {
			served.Topics = append(served.Topics, known)
		}
		if len(refused.Partitions) > 0 {
			resp.Topics = append(resp.Topics, refused)
		}
	}
	deleted := a.o.Groups.OffsetDelete(ctx, clientOf(c), &served)
	if resp.ErrorCode = deleted.ErrorCode; resp.ErrorCode != 0 {
		resp.Topics = nil
		return resp
	}
	resp.Topics = mergeDeleted(resp.Topics, deleted.Topics)
	return resp
}

// mergeDeleted puts the partitions of one topic together.
func mergeDeleted(topics, more []kmsg.OffsetDeleteResponseTopic) []kmsg.OffsetDeleteResponseTopic {
	at := make(map[string]int, len(topics))
	for i := range topics {
		at[topics[i].Topic] = i
	}
	for _, t := range more {
		if i, ok := at[t.Topic]; ok {
			topics[i].Partitions = append(topics[i].Partitions, t.Partitions...)
			continue
		}
		topics = append(topics, t)
	}
	return topics
}

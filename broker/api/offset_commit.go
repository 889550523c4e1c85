package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// offsetCommit is OffsetCommit (key 8), versions 2–10. Topics that may not be
// read or do not exist are answered here; the coordinator sees the others.
func (a *API) offsetCommit(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetCommitRequest)
	if code := a.groupAllowed(ctx, c, auth.Read, req.Group); code != 0 {
		return commitResponse(req, func(*kmsg.OffsetCommitRequestTopic) int16 { return code })
	}
	codes := make(map[*kmsg.OffsetCommitRequestTopic]int16)
	served := *req
	served.Topics = nil
	for i := range req.Topics {
		t := &req.Topics[i]
		if codes[t] = a.commitTopicCode(ctx, c, req.Version, t); codes[t] == 0 {
			served.Topics = append(served.Topics, *t)
		}
	}
	if len(served.Topics) == len(req.Topics) {
		return a.o.Groups.OffsetCommit(ctx, clientOf(c), req)
	}
	resp := commitResponse(req, func(t *kmsg.OffsetCommitRequestTopic) int16 { return codes[t] })
	if len(served.Topics) > 0 {
		committed := a.o.Groups.OffsetCommit(ctx, clientOf(c), &served).Topics
		for i := range req.Topics {
			if codes[&req.Topics[i]] == 0 {
				resp.Topics[i], committed = committed[0], committed[1:]
			}
		}
	}
	return resp
}

func (a *API) commitTopicCode(ctx context.Context, c *call, version int16, t *kmsg.OffsetCommitRequestTopic) int16 {
	if version >= 10 {
		topic, ok := a.o.Metadata.Image().TopicByID(t.TopicID)
		if !ok {
			return kerr.UnknownTopicID.Code
		}
		return a.topicAllowed(ctx, c, auth.Read, topic.Name)
	}
	if code := a.topicAllowed(ctx, c, auth.Read, t.Topic); code != 0 {
		return code
	}
	if _, ok := a.o.Metadata.Image().Topic(t.Topic); !ok {
		return kerr.UnknownTopicOrPartition.Code
	}
	return 0
}

// commitResponse answers every partition with its topic's code.
func commitResponse(req *kmsg.OffsetCommitRequest, code func(*kmsg.OffsetCommitRequestTopic) int16) *kmsg.OffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code(t)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// offsetCommit is OffsetCommit (key 8), versions 2–10. Partitions that may not
// be read or do not exist are answered here; the coordinator sees the others.
func (a *API) offsetCommit(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetCommitRequest)
	if code := a.groupAllowed(ctx, c, auth.Read, req.Group); code != 0 {
		return commitResponse(req, func(int, int) int16 { return code })
	}
	codes, refused := a.commitCodes(ctx, c, req)
	if !refused {
		return a.o.Groups.OffsetCommit(ctx, clientOf(c), req)
	}
	served := *req
	served.Topics = nil
	for i := range req.Topics {
		t := req.Topics[i]
		t.Partitions = nil
		for j := range req.Topics[i].Partitions {
			if codes[i][j] == 0 {
				t.Partitions = append(t.Partitions, req.Topics[i].Partitions[j])
			}
		}
		if len(t.Partitions) > 0 {
			served.Topics = append(served.Topics, t)
		}
	}
	var committed []kmsg.OffsetCommitResponseTopic
	if len(served.Topics) > 0 {
		committed = a.o.Groups.OffsetCommit(ctx, clientOf(c), &served).Topics
	}
	return commitResponse(req, func(i, j int) int16 {
		if codes[i][j] != 0 {
			return codes[i][j]
		}
		// The coordinator answers in the order of the request.
		code := committed[0].Partitions[0].ErrorCode
		if committed[0].Partitions = committed[0].Partitions[1:]; len(committed[0].Partitions) == 0 {
			committed = committed[1:]
		}
		return code
	})
}

// commitCodes is what keeps partitions of the request from being committed, by
// their positions in it.
func (a *API) commitCodes(ctx context.Context, c *call, req *kmsg.OffsetCommitRequest) (codes [][]int16, refused bool) {
	img := a.o.Metadata.Image()
	codes = make([][]int16, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		codes[i] = make([]int16, len(t.Partitions))
		topic, code := a.commitTopic(ctx, c, img, req.Version, t)
		for j := range t.Partitions {
			n := t.Partitions[j].Partition
			if codes[i][j] = code; code == 0 && (n < 0 || int(n) >= len(topic.Partitions)) {
				codes[i][j] = kerr.UnknownTopicOrPartition.Code
			}
			refused = refused || codes[i][j] != 0
		}
	}
	return codes, refused
}

func (a *API) commitTopic(ctx context.Context, c *call, img *metadata.Image, version int16, t *kmsg.OffsetCommitRequestTopic) (*metadata.Topic, int16) {
	if version >= 10 {
		topic, ok := img.TopicByID(t.TopicID)
		if !ok {
			return nil, kerr.UnknownTopicID.Code
		}
		return topic, a.topicAllowed(ctx, c, auth.Read, topic.Name)
	}
	if code := a.topicAllowed(ctx, c, auth.Read, t.Topic); code != 0 {
		return nil, code
	}
	topic, ok := img.Topic(t.Topic)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	return topic, 0
}

// commitResponse answers every partition of the request with its code.
func commitResponse(req *kmsg.OffsetCommitRequest, code func(topic, partition int) int16) *kmsg.OffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for j := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = t.Partitions[j].Partition, code(i, j)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

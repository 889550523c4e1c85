package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// offsetFetch is OffsetFetch (key 9), versions 1–10. v8: several groups
// (KIP-709). v10: topic ids. Topics that may not be described lose their
// offsets and get the error on the way out.
func (a *API) offsetFetch(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetFetchRequest)
	if req.Version < 8 {
		if code := a.groupAllowed(ctx, c, auth.Describe, req.Group); code != 0 {
			resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
			resp.ErrorCode = code
			return resp
		}
	}
	resp := a.o.Groups.OffsetFetch(ctx, clientOf(c), req)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		code := a.topicAllowed(ctx, c, auth.Describe, t.Topic)
		for j := range t.Partitions {
			if p := &t.Partitions[j]; code != 0 {
				p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = -1, -1, nil, code
			}
		}
	}
	for i := range resp.Groups {
		a.hideFetched(ctx, c, req.Version, &resp.Groups[i])
	}
	return resp
}

// hideFetched takes out of one group's answer what the caller may not see.
func (a *API) hideFetched(ctx context.Context, c *call, version int16, g *kmsg.OffsetFetchResponseGroup) {
	if code := a.groupAllowed(ctx, c, auth.Describe, g.Group); code != 0 {
		g.ErrorCode, g.Topics = code, nil
		return
	}
	for i := range g.Topics {
		t := &g.Topics[i]
		name := t.Topic
		if version >= 10 {
			topic, ok := a.o.Metadata.Image().TopicByID(t.TopicID)
			if !ok {
				continue // answered UNKNOWN_TOPIC_ID by the coordinator
			}
			name = topic.Name
		}
		if a.topicAllowed(ctx, c, auth.Describe, name) == 0 {
			continue
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = -1, -1, nil, kerr.TopicAuthorizationFailed.Code
		}
	}
}

package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// offsetFetch is OffsetFetch (key 9), versions 1–10. v2: all topics, and errors
// of the group at the top. v8: several groups (KIP-709). v10: topic ids. What
// the caller may not see is taken out on the way: of topics it named the offsets,
// of all topics those it may not describe.
func (a *API) offsetFetch(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetFetchRequest)
	if req.Version < 8 {
		return a.offsetFetchOne(ctx, c, req)
	}
	asked := req.Groups
	req.Groups = nil
	codes := make(map[string]int16, len(asked))
	for i := range asked {
		g := &asked[i]
		if _, again := codes[g.Group]; again {
			continue // answered: the offsets of a group may be many
		}
		if codes[g.Group] = a.groupAllowed(ctx, c, auth.Describe, g.Group); codes[g.Group] == 0 {
			req.Groups = append(req.Groups, *g)
		}
	}
	resp := a.o.Groups.OffsetFetch(ctx, clientOf(c), req)
	for i := range resp.Groups {
		a.hideFetched(ctx, c, req.Version, &resp.Groups[i], req.Groups[i].Topics == nil)
	}
	for name, code := range codes {
		if code != 0 {
			g := kmsg.NewOffsetFetchResponseGroup()
			g.Group, g.ErrorCode = name, code
			resp.Groups = append(resp.Groups, g)
		}
	}
	return resp
}

// offsetFetchOne answers a request for one group.
func (a *API) offsetFetchOne(ctx context.Context, c *call, req *kmsg.OffsetFetchRequest) kmsg.Response {
	if code := a.groupAllowed(ctx, c, auth.Describe, req.Group); code != 0 {
		return deniedOffsets(req, code)
	}
	resp := a.o.Groups.OffsetFetch(ctx, clientOf(c), req)
	denied := func(t *kmsg.OffsetFetchResponseTopic) bool {
		return a.topicAllowed(ctx, c, auth.Describe, t.Topic) != 0
	}
	if req.Topics == nil && req.Version >= 2 {
		resp.Topics = slices.DeleteFunc(resp.Topics, func(t kmsg.OffsetFetchResponseTopic) bool { return denied(&t) })
		return resp
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if !denied(t) {
			continue
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = -1, -1, kmsg.StringPtr(""), kerr.TopicAuthorizationFailed.Code
		}
	}
	return resp
}

// deniedOffsets puts the code where the version has a place for it.
func deniedOffsets(req *kmsg.OffsetFetchRequest, code int16) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	resp.ErrorCode = code
	if req.Version >= 2 {
		return resp
	}
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = n, -1, -1, kmsg.StringPtr(""), code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// hideFetched takes out of one group's answer what the caller may not see.
func (a *API) hideFetched(ctx context.Context, c *call, version int16, g *kmsg.OffsetFetchResponseGroup, all bool) {
	img := a.o.Metadata.Image()
	denied := func(t *kmsg.OffsetFetchResponseGroupTopic) bool {
		name := t.Topic
		if version >= 10 {
			topic, ok := img.TopicByID(t.TopicID)
			if !ok {
				return false // answered UNKNOWN_TOPIC_ID by the coordinator
			}
			name = topic.Name
		}
		return a.topicAllowed(ctx, c, auth.Describe, name) != 0
	}
	if all {
		g.Topics = slices.DeleteFunc(g.Topics, func(t kmsg.OffsetFetchResponseGroupTopic) bool { return denied(&t) })
		return
	}
	for i := range g.Topics {
		t := &g.Topics[i]
		if !denied(t) {
			continue
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = -1, -1, kmsg.StringPtr(""), kerr.TopicAuthorizationFailed.Code
		}
	}
}

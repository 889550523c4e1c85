package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// ElectLeaders' election types (KIP-460).
const (
	electPreferred = 0
	electUnclean   = 1
)

var errElectionType = errors.New("unknown election type")

// electLeaders is ElectLeaders (key 43), versions 0–2 (KIP-183). v1: the type of
// the election, and an error at the top. Null asks for all partitions; those
// that need no election are then left out of the answer.
func (a *API) electLeaders(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ElectLeadersRequest)
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	all := req.Topics == nil
	asked, err := a.electionsAsked(req)
	switch {
	case err != nil:
	case !a.clusterAllowed(ctx, c, auth.Alter):
		err = errClusterDenied
	case req.ElectionType != electPreferred && req.ElectionType != electUnclean:
		err = fmt.Errorf("%w %d", errElectionType, req.ElectionType)
	}
	switch {
	case err == nil:
		a.decide(ctx, asked)
	case all:
		asked = nil
	}
	if err != nil {
		resp.ErrorCode, _ = adminError(err)
	}
	for i := range asked {
		d := &asked[i]
		if err != nil {
			d.err = err // version 0 has no other place for it
		}
		if all && errors.Is(d.err, controller.ErrElectionNotNeeded) {
			continue
		}
		rp := kmsg.NewElectLeadersResponseTopicPartition()
		if rp.Partition = d.tp.Partition; d.err != nil {
			rp.ErrorCode, rp.ErrorMessage = adminError(d.err)
		}
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != d.tp.Topic {
			rt := kmsg.NewElectLeadersResponseTopic()
			rt.Topic = d.tp.Topic
			resp.Topics = append(resp.Topics, rt)
		}
		rt := &resp.Topics[len(resp.Topics)-1]
		rt.Partitions = append(rt.Partitions, rp)
	}
	return resp
}

// electionsAsked lists the partitions of the request in its order.
func (a *API) electionsAsked(req *kmsg.ElectLeadersRequest) ([]decision, error) {
	total := 0
	for i := range req.Topics {
		total += len(req.Topics[i].Partitions)
	}
	if total > maxDecisions {
		return nil, errTooMany
	}
	var asked []decision
	add := func(topic string, n int32) {
		asked = append(asked, decision{
			tp: metadata.TopicPartition{Topic: topic, Partition: n},
			plan: func(im *metadata.Image, t *metadata.Topic) (metadata.PartitionChange, error) {
				return controller.Elect(im, t, n, req.ElectionType == electUnclean)
			},
		})
	}
	if req.Topics == nil {
		for _, t := range a.o.Metadata.Image().Topics() {
			for n := range t.Partitions {
				add(t.Name, int32(n))
			}
		}
	}
	for i := range req.Topics {
		for _, n := range req.Topics[i].Partitions {
			add(req.Topics[i].Topic, n)
		}
	}
	return asked, nil
}

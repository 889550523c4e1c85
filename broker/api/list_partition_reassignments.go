package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// listPartitionReassignments is ListPartitionReassignments (key 46), version 0
// (KIP-455): the moves in progress, of all partitions or those named.
func (a *API) listPartitionReassignments(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ListPartitionReassignmentsRequest)
	resp := req.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	if !a.clusterAllowed(ctx, c, auth.Describe) {
		resp.ErrorCode, resp.ErrorMessage = adminError(errClusterDenied)
		return resp
	}
	img := a.o.Metadata.Image()
	add := func(t *metadata.Topic, asked func(partition int32) bool) {
		rt := kmsg.NewListPartitionReassignmentsResponseTopic()
		rt.Topic = t.Name
		for n := range t.Partitions {
			p := &t.Partitions[n]
			if !p.Reassigning() || !asked(int32(n)) {
				continue
			}
			rp := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			rp.Partition, rp.Replicas = int32(n), brokerIDs(p.Replicas)
			rp.AddingReplicas, rp.RemovingReplicas = brokerIDs(p.Adding), brokerIDs(p.Removing)
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			resp.Topics = append(resp.Topics, rt)
		}
	}
	if req.Topics == nil {
		for _, t := range img.Topics() {
			add(t, func(int32) bool { return true })
		}
		return resp
	}
	named := make(map[string]map[int32]bool)
	for i := range req.Topics {
		q := &req.Topics[i]
		t, ok := img.Topic(q.Topic)
		if !ok {
			continue
		}
		if named[t.Name] == nil {
			named[t.Name] = make(map[int32]bool)
		}
		for _, n := range q.Partitions {
			if n >= 0 && int(n) < len(t.Partitions) {
				named[t.Name][n] = true
			}
		}
	}
	for i := range req.Topics {
		name := req.Topics[i].Topic
		if t, ok := img.Topic(name); ok && named[name] != nil {
			add(t, func(n int32) bool { return named[name][n] })
		}
		delete(named, name) // answered
	}
	return resp
}

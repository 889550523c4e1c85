package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
)

// groupCoordinator is the only kind of coordinator there is.
const groupCoordinator = 0

// findCoordinator is FindCoordinator (key 10), versions 0–6. v4: many keys at
// once (KIP-699).
func (a *API) findCoordinator(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	if req.Version < 4 {
		one := a.coordinatorOf(ctx, c, req.CoordinatorType, req.CoordinatorKey)
		resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Host, resp.Port = one.ErrorCode, one.ErrorMessage, one.NodeID, one.Host, one.Port
		return resp
	}
	for _, key := range slices.Compact(req.CoordinatorKeys) {
		resp.Coordinators = append(resp.Coordinators, a.coordinatorOf(ctx, c, req.CoordinatorType, key))
	}
	return resp
}

func (a *API) coordinatorOf(ctx context.Context, c *call, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	r := kmsg.NewFindCoordinatorResponseCoordinator()
	r.Key, r.NodeID, r.Port = key, -1, -1
	fail := func(e *kerr.Error) kmsg.FindCoordinatorResponseCoordinator {
		r.ErrorCode, r.ErrorMessage = e.Code, &e.Description
		return r
	}
	switch {
	case kind != groupCoordinator:
		return fail(kerr.InvalidRequest)
	case !a.allowed(ctx, c, auth.Describe, auth.Group, key):
		return fail(kerr.GroupAuthorizationFailed)
	}
	t, err := a.groupTopic(ctx)
	if err != nil {
		a.log.Warn("create topic", "topic", group.Topic, "err", err)
		return fail(kerr.CoordinatorNotAvailable)
	}
	img := a.o.Metadata.Image()
	p, ok := img.Partition(metadata.TopicPartition{Topic: t.Name, Partition: a.o.Groups.PartitionOf(key)})
	b, alive := img.Broker(p.Leader)
	if !ok || !alive {
		return fail(kerr.CoordinatorNotAvailable)
	}
	host, port, ok := endpoint(b, c.Conn.Listener())
	if !ok {
		return fail(kerr.CoordinatorNotAvailable)
	}
	r.NodeID, r.Host, r.Port = int32(b.ID), host, port
	return r
}

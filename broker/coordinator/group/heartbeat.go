package group

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// Heartbeat handles Heartbeat (key 12), versions 0–4. v3: static members. It
// does not wait for anything.
func (c *Coordinator) Heartbeat(ctx context.Context, _ Client, req *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	if req.Group == "" {
		resp.ErrorCode = codeInvalidGroup
		return resp
	}
	code, err := submit(ctx, c, c.PartitionOf(req.Group), func(s *shard, _ *coordinator.Update) int16 {
		return s.heartbeat(req)
	})
	switch {
	case codeOf(err) == codeLoading:
		// Nobody's session ends while the group is loaded: all is well.
	case err != nil:
		resp.ErrorCode = codeOf(err)
	default:
		resp.ErrorCode = code
	}
	return resp
}

func (s *shard) heartbeat(req *kmsg.HeartbeatRequest) int16 {
	g := s.groups[req.Group]
	if g == nil {
		return codeUnknownMember
	}
	if code := g.check(req.MemberID, req.InstanceID); code != 0 {
		return code
	}
	if req.Generation != g.generation {
		return codeIllegalGeneration
	}
	m := g.byID[req.MemberID]
	s.startSession(g, m, m.sessionTimeout)
	if g.state == PreparingRebalance {
		return codeRebalance
	}
	return 0
}

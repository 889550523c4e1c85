package group

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// LeaveGroup handles LeaveGroup (key 13), versions 0–5. v3: several members,
// and static ones by instance id alone, for administrators (KIP-345).
func (c *Coordinator) LeaveGroup(ctx context.Context, _ Client, req *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	if req.Group == "" {
		resp.ErrorCode = codeInvalidGroup
		return resp
	}
	leaving := req.Members
	if req.Version < 3 {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = req.MemberID
		leaving = []kmsg.LeaveGroupRequestMember{one}
	}
	members, err := write(ctx, c, c.PartitionOf(req.Group), func(s *shard, u *coordinator.Update) ([]kmsg.LeaveGroupResponseMember, error) {
		return s.leave(req.Group, leaving, u), nil
	})
	resp.ErrorCode = codeOf(err)
	switch {
	case err != nil:
	case req.Version >= 3:
		resp.Members = members
	default:
		resp.ErrorCode = members[0].ErrorCode
	}
	return resp
}

func (s *shard) leave(group string, leaving []kmsg.LeaveGroupRequestMember, u *coordinator.Update) []kmsg.LeaveGroupResponseMember {
	g := s.groups[group]
	out := make([]kmsg.LeaveGroupResponseMember, len(leaving))
	var left []string
	for i, l := range leaving {
		out[i] = kmsg.NewLeaveGroupResponseMember()
		out[i].MemberID, out[i].InstanceID = l.MemberID, l.InstanceID
		if g == nil {
			out[i].ErrorCode = codeUnknownMember
			continue
		}
		if out[i].ErrorCode = g.leave(&l); out[i].ErrorCode == 0 {
			left = append(left, l.MemberID)
			s.log.Info("member left", "group", g.id, "member", l.MemberID, "instance", deref(l.InstanceID), "reason", deref(l.Reason))
		}
	}
	if len(left) == 0 {
		return out
	}
	switch g.state {
	case Stable, CompletingRebalance:
		s.prepareRebalance(g, "members left: "+strings.Join(left, ", "), u)
	case PreparingRebalance:
		s.completeJoinIfReady(g, u)
	}
	s.forgetUnused(g)
	return out
}

// leave takes one member out.
func (g *classicGroup) leave(l *kmsg.LeaveGroupRequestMember) int16 {
	id := l.MemberID
	if id == "" {
		if l.InstanceID == nil || g.static[*l.InstanceID] == nil {
			return codeUnknownMember
		}
		id = g.static[*l.InstanceID].id
	} else if _, pending := g.pendingJoin[id]; !pending {
		if code := g.check(id, l.InstanceID); code != 0 {
			return code
		}
	}
	g.remove(id)
	return 0
}

package group

import (
	"bytes"
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// SyncGroup handles SyncGroup (key 14), versions 0–5. It waits for the leader's
// assignment to be committed. v3: static members. v5: protocol type and name
// are checked and returned (KIP-559).
func (c *Coordinator) SyncGroup(ctx context.Context, _ Client, req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	resp := c.sync(ctx, req)
	resp.Version = req.Version
	return resp
}

func (c *Coordinator) sync(ctx context.Context, req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	if req.Group == "" {
		return syncError(codeInvalidGroup)
	}
	waiter := make(chan *kmsg.SyncGroupResponse, 1)
	_, err := submit(ctx, c, c.PartitionOf(req.Group), func(s *shard, u *coordinator.Update) struct{} {
		s.sync(req, waiter, u)
		return struct{}{}
	})
	switch {
	case codeOf(err) == codeLoading:
		// The group is about to be what it was; the member keeps its
		// generation and joins again.
		return syncError(codeRebalance)
	case err != nil:
		return syncError(codeOf(err))
	}
	select {
	case resp := <-waiter:
		return resp
	case <-ctx.Done():
		return syncError(codeCoordinatorNotAvail)
	}
}

// sync takes a request in. It is answered now, or its member waits.
func (s *shard) sync(req *kmsg.SyncGroupRequest, waiter chan<- *kmsg.SyncGroupResponse, u *coordinator.Update) {
	g := s.groups[req.Group]
	if code := g.checkSync(req); code != 0 {
		waiter <- syncError(code)
		return
	}
	m := g.byID[req.MemberID]
	switch g.state {
	case PreparingRebalance:
		waiter <- syncError(codeRebalance)
	case CompletingRebalance:
		m.answerSync(syncError(codeRebalance)) // a request that this one replaces
		m.syncing = waiter
		g.synced(m.id)
		if g.isLeader(m.id) {
			s.assign(g, req, u)
		}
	case Stable:
		g.synced(m.id)
		waiter <- g.syncResponse(m)
	}
}

// checkSync validates a SyncGroup; a group that does not exist, or is empty,
// has no member of that id.
func (g *classicGroup) checkSync(req *kmsg.SyncGroupRequest) int16 {
	if g == nil || g.state == Empty {
		return codeUnknownMember
	}
	if code := g.check(req.MemberID, req.InstanceID); code != 0 {
		return code
	}
	switch {
	case req.Generation != g.generation:
		return codeIllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType,
		req.Protocol != nil && g.protocol != nil && *req.Protocol != *g.protocol:
		return codeInconsistent
	}
	return 0
}

// assign stores the leader's assignment; when it is committed the group is
// stable and everyone gets theirs.
func (s *shard) assign(g *classicGroup, req *kmsg.SyncGroupRequest, u *coordinator.Update) {
	assignments := make(map[string][]byte, len(g.members))
	for _, a := range req.GroupAssignment {
		if g.byID[a.MemberID] != nil {
			assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
		}
	}
	if !s.admitsAssignments(g, assignments) {
		s.spreadAssignments(g, nil, codeCoordinatorNotAvail) // clients try again
		s.rebalanceOrCompleteJoin(g, "assignment takes too much memory", u)
		return
	}
	generation := g.generation
	s.storeGroup(g, assignments, u)
	u.OnCommitted(func(err error, next *coordinator.Update) {
		if s.groups[g.id] != g || g.state != CompletingRebalance || g.generation != generation {
			return // it rebalances again
		}
		if err != nil {
			s.spreadAssignments(g, nil, codeOf(err))
			s.rebalanceOrCompleteJoin(g, "assignment could not be stored", next)
			return
		}
		s.spreadAssignments(g, assignments, 0)
		s.transition(g, Stable)
		s.metrics.rebalances.Add(1)
	})
}

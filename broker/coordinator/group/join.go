package group

import (
	"bytes"
	"context"
	"math"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// JoinGroup handles JoinGroup (key 11), versions 0–9. It waits for the join
// phase, up to the group's rebalance timeout. v1: rebalance timeout of its own.
// v4: MEMBER_ID_REQUIRED (KIP-394). v5: static members (KIP-345). v9: the
// leader may be told to skip the assignment.
func (c *Coordinator) JoinGroup(ctx context.Context, client Client, req *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	resp := c.join(ctx, client, req)
	resp.Version = req.Version
	return resp
}

func (c *Coordinator) join(ctx context.Context, client Client, req *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	session := millis(req.SessionTimeoutMillis)
	switch {
	case req.Group == "":
		return joinError(codeInvalidGroup, req.MemberID)
	case session < c.o.Config.MinSessionTimeout || session > c.o.Config.MaxSessionTimeout:
		return joinError(kerr.InvalidSessionTimeout.Code, req.MemberID)
	case !storable(client, req):
		return joinError(kerr.InvalidRequest.Code, req.MemberID)
	}
	waiter := make(chan *kmsg.JoinGroupResponse, 1)
	j := newJoin(client, req, waiter)
	_, err := submit(ctx, c, c.PartitionOf(req.Group), func(s *shard, u *coordinator.Update) struct{} {
		s.join(j, u)
		return struct{}{}
	})
	if err != nil {
		return joinError(codeOf(err), req.MemberID)
	}
	select {
	case resp := <-waiter:
		return resp
	case <-ctx.Done():
		return joinError(codeCoordinatorNotAvail, req.MemberID)
	}
}

// storable says whether the record of a group can hold what a member is called. One
// with a name that is too long could not be read again, and with it no group of its
// partition. Kafka answers an error as well, when it writes the record.
func storable(client Client, req *kmsg.JoinGroupRequest) bool {
	longest := max(len(req.Group), len(req.ProtocolType), memberIDSuffix+max(len(client.ID), len(deref(req.InstanceID))))
	for i := range req.Protocols {
		longest = max(longest, len(req.Protocols[i].Name))
	}
	return longest <= math.MaxInt16
}

// memberIDSuffix is the length of what is behind the name in an id: a hyphen and a UUID.
const memberIDSuffix = 1 + 36

// memberID is a new id for a member of a client or instance.
func memberID(of string) string { return of + "-" + uuid.NewString() }

// joinRequest is a JoinGroup request being handled.
type joinRequest struct {
	joinTerms
	client       Client
	group        string
	memberID     string
	instance     *string
	protocolType string
	reason       string
	needsID      bool // KIP-394
	maySkip      bool // understands SkipAssignment
	waiter       chan<- *kmsg.JoinGroupResponse
}

func newJoin(client Client, req *kmsg.JoinGroupRequest, waiter chan<- *kmsg.JoinGroupResponse) *joinRequest {
	j := &joinRequest{
		client: client, group: req.Group, memberID: req.MemberID, instance: req.InstanceID,
		protocolType: req.ProtocolType, reason: deref(req.Reason),
		needsID: req.Version >= 4 && req.InstanceID == nil,
		maySkip: req.Version >= 9,
		waiter:  waiter,
	}
	j.sessionTimeout = millis(req.SessionTimeoutMillis)
	j.rebalanceTimeout = millis(req.RebalanceTimeoutMillis)
	if req.Version == 0 {
		j.rebalanceTimeout = j.sessionTimeout
	}
	j.protocols = make([]kmsg.JoinGroupRequestProtocol, len(req.Protocols))
	for i, p := range req.Protocols {
		p.Metadata = bytes.Clone(p.Metadata) // kept beyond the request's buffer
		j.protocols[i] = p
	}
	return j
}

// fail answers the request with an error.
func (j *joinRequest) fail(code int16, memberID string) {
	j.waiter <- joinError(code, memberID)
}

// join takes a request in. It is answered now, or its member waits.
func (s *shard) join(j *joinRequest, u *coordinator.Update) {
	g := s.groups[j.group]
	if !s.memory.admits(j.size(), g.claimedBy(j.memberID)) {
		j.fail(codeCoordinatorNotAvail, j.memberID) // clients try again
		return
	}
	if g == nil {
		if j.memberID != "" {
			// An id this coordinator did not give out: only a join without one creates a group.
			j.fail(codeUnknownMember, j.memberID)
			return
		}
		g = s.createGroup(j.group)
	}
	switch {
	case !s.hasRoom(g, j.memberID):
		g.remove(j.memberID)
		j.fail(kerr.GroupMaxSizeReached.Code, "")
	case !g.supports(j.protocolType, j.protocols):
		j.fail(codeInconsistent, j.memberID)
	case j.memberID == "":
		s.joinNew(g, j, u)
	default:
		s.joinAgain(g, j, u)
	}
	s.forgetUnused(g)
}

// claimedBy is what a member takes already, or the id that was handed out to it.
func (g *classicGroup) claimedBy(id string) int64 {
	if g == nil {
		return 0
	}
	if m := g.byID[id]; m != nil {
		return g.memberSize(m)
	}
	if _, pending := g.pendingJoin[id]; pending {
		return g.pendingSize(id)
	}
	return 0
}

// hasRoom applies group.max.size. While members join, those that wait are
// counted, so that the last ones to come are sent away should the limit have
// been lowered.
func (s *shard) hasRoom(g *classicGroup, memberID string) bool {
	m := g.byID[memberID]
	switch g.state {
	case Empty:
		return true
	case PreparingRebalance:
		return m != nil && m.joining != nil || g.joiningMembers() < s.c.MaxSize
	default:
		return m != nil || len(g.members) < s.c.MaxSize
	}
}

// joinNew handles a member without an id.
func (s *shard) joinNew(g *classicGroup, j *joinRequest, u *coordinator.Update) {
	if j.instance != nil {
		id := memberID(*j.instance)
		if m := g.static[*j.instance]; m != nil {
			s.replaceStatic(g, m, id, j, u)
			return
		}
		s.addMember(g, id, j, u)
		return
	}
	id := memberID(j.client.ID)
	if !j.needsID {
		s.addMember(g, id, j, u)
		return
	}
	t := s.part.NewTimer(func(u *coordinator.Update) {
		g.remove(id)
		if g.state == PreparingRebalance && g.allJoined() {
			s.completeJoin(g, u)
		}
		s.forgetUnused(g)
	})
	t.Schedule(j.sessionTimeout)
	g.addPending(id, t)
	j.fail(kerr.MemberIDRequired.Code, id)
}

// addMember takes a new member in.
func (s *shard) addMember(g *classicGroup, id string, j *joinRequest, u *coordinator.Update) {
	m := &member{
		id: id, instance: j.instance, client: j.client.ID, host: j.client.kafkaHost(),
		rebalanceTimeout: j.rebalanceTimeout, sessionTimeout: j.sessionTimeout, protocols: j.protocols,
		isNew: true, joining: j.waiter,
	}
	if g.state == PreparingRebalance && g.previous == Empty {
		g.join.newMember = true
	}
	g.add(m, j.protocolType)
	s.startSession(g, m, newMemberJoinTimeout)
	s.rebalanceOrCompleteJoin(g, "member "+id+" joined: "+j.reason, u)
}

// joinAgain handles a member that says its id.
func (s *shard) joinAgain(g *classicGroup, j *joinRequest, u *coordinator.Update) {
	if _, pending := g.pendingJoin[j.memberID]; pending {
		if j.instance != nil { // ids are handed out to dynamic members only
			j.fail(codeUnknownMember, j.memberID)
			return
		}
		s.addMember(g, j.memberID, j, u)
		return
	}
	if code := g.check(j.memberID, j.instance); code != 0 {
		j.fail(code, j.memberID)
		return
	}
	m := g.byID[j.memberID]
	same := m.offers(j.protocols)
	switch g.state {
	case PreparingRebalance:
		s.rejoin(g, m, j, u)
	case CompletingRebalance:
		if !same {
			s.rejoin(g, m, j, u)
			return
		}
		// It missed our answer.
		j.waiter <- g.joinResponse(m, m.id)
	case Stable:
		// The leader forces a rebalance by joining: it saw a change of the
		// topics, which is not in its own metadata.
		if g.isLeader(m.id) || !same {
			s.rejoin(g, m, j, u)
			return
		}
		j.waiter <- g.joinResponse(m, m.id)
	default: // no member in an empty group
		j.fail(codeUnknownMember, j.memberID)
	}
}

// rejoin takes over what a member says now, and rebalances.
func (s *shard) rejoin(g *classicGroup, m *member, j *joinRequest, u *coordinator.Update) {
	s.takeTerms(g, m, j)
	s.rebalanceOrCompleteJoin(g, "member "+m.id+" joined again: "+j.reason, u)
}

// takeTerms makes a member wait with a new request; one that it still waits
// with is answered.
func (s *shard) takeTerms(g *classicGroup, m *member, j *joinRequest) {
	m.answerJoin(joinError(codeRebalance, m.id))
	g.update(m, j.joinTerms)
	m.joining = j.waiter
}

// replaceStatic gives a static member that came back without its id another
// one. While the group is stable and no other protocol would be selected, the
// group does not notice (KIP-345, KIP-814).
func (s *shard) replaceStatic(g *classicGroup, m *member, id string, j *joinRequest, u *coordinator.Update) {
	oldID, oldTerms, oldLeader := m.id, m.terms(), g.leader
	m.answerJoin(joinError(codeFenced, oldID))
	m.answerSync(syncError(codeFenced))
	g.rename(m, id)
	s.startSession(g, m, m.sessionTimeout)
	g.update(m, j.joinTerms)
	m.joining = j.waiter
	switch g.state {
	case Stable:
		if g.selectProtocol() != deref(g.protocol) {
			s.rebalanceOrCompleteJoin(g, "static member "+id+" changed the protocol: "+j.reason, u)
			return
		}
		s.storeGroup(g, g.assignments(), u)
		u.OnCommitted(func(err error, _ *coordinator.Update) {
			if err != nil {
				if g.byID[id] == m { // nobody may know the new id: take it back
					m.answerJoin(joinError(codeOf(err), ""))
					g.update(m, oldTerms)
					g.rename(m, oldID)
					s.startSession(g, m, m.sessionTimeout)
				}
				return
			}
			if m.id == id { // else a newer request took its place
				m.answerJoin(g.staticResponse(m, j.maySkip, oldLeader))
			}
		})
	case CompletingRebalance:
		// The leader may have the old id to assign to.
		s.prepareRebalance(g, "static member "+id+" came back: "+j.reason, u)
	default:
		s.completeJoinIfReady(g, u)
	}
}

// staticResponse answers a static member that came back to a stable group. A
// leader that understands it is told to keep the assignment; another must not
// learn that it leads, or it would assign and sync for nothing.
func (g *classicGroup) staticResponse(m *member, maySkip bool, oldLeader string) *kmsg.JoinGroupResponse {
	resp := g.joinResponse(m, m.id)
	if maySkip {
		resp.SkipAssignment = g.isLeader(m.id)
		return resp
	}
	resp.Members, resp.LeaderID = nil, oldLeader
	return resp
}

func (g *classicGroup) assignments() map[string][]byte {
	out := make(map[string][]byte, len(g.members))
	for _, m := range g.members {
		out[m.id] = m.assignment
	}
	return out
}

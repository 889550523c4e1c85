package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// transition moves a group to another state.
func (s *shard) transition(g *classicGroup, to State) {
	s.metrics.moved(g.state, -1)
	s.metrics.moved(to, 1)
	g.previous, g.state, g.stateSince = g.state, to, time.Now().UnixMilli()
}

// startSession starts a member's session over: it ends after d unless the
// member is heard of.
func (s *shard) startSession(g *classicGroup, m *member, d time.Duration) {
	if m.session == nil {
		m.session = s.part.NewTimer(func(u *coordinator.Update) { s.endSession(g, m, u) })
	}
	m.session.Schedule(d)
}

// endSession removes a member that was not heard of for its session timeout.
// A member that waits for us is excused: its session starts over with our answer.
func (s *shard) endSession(g *classicGroup, m *member, u *coordinator.Update) {
	if m.satisfied() {
		return
	}
	s.log.Info("member removed, session ended", "group", g.id, "member", m.id)
	g.remove(m.id)
	switch {
	case g.state == Stable || g.state == CompletingRebalance:
		s.rebalanceOrCompleteJoin(g, "session of member "+m.id+" ended", u)
	case g.state == PreparingRebalance && g.allJoined():
		s.completeJoin(g, u)
	}
}

// rebalanceOrCompleteJoin starts a rebalance, or sees whether the one that
// runs can go on.
func (s *shard) rebalanceOrCompleteJoin(g *classicGroup, reason string, u *coordinator.Update) {
	if g.state == PreparingRebalance {
		s.completeJoinIfReady(g, u)
		return
	}
	s.prepareRebalance(g, reason, u)
}

// prepareRebalance starts the join phase. The first one of an empty group takes
// group.initial.rebalance.delay.ms, and more while members come (KIP-134).
func (s *shard) prepareRebalance(g *classicGroup, reason string, u *coordinator.Update) {
	if g.state == CompletingRebalance {
		s.spreadAssignments(g, nil, codeRebalance)
	}
	clear(g.pendingSync)
	g.sync.Stop()
	if g.join.timer == nil {
		g.join.timer = s.part.NewTimer(func(u *coordinator.Update) { s.joinTimeout(g, u) })
	}
	initial := g.state == Empty
	s.transition(g, PreparingRebalance)
	s.log.Info("preparing rebalance", "group", g.id, "generation", g.generation, "members", len(g.members), "reason", reason)
	if initial {
		g.join.initial, g.join.newMember = true, false
		g.join.delay = s.c.InitialRebalanceDelay
		g.join.remaining = max(g.rebalanceTimeout()-s.c.InitialRebalanceDelay, 0)
		g.join.timer.Schedule(g.join.delay)
		return
	}
	if g.allJoined() {
		s.completeJoin(g, u)
		return
	}
	g.join.timer.Schedule(g.rebalanceTimeout())
}

// joinTimeout ends the join phase, or extends it if it is the initial one and
// members came meanwhile.
func (s *shard) joinTimeout(g *classicGroup, u *coordinator.Update) {
	j := &g.join
	if !j.initial || !j.newMember || j.remaining == 0 {
		s.completeJoin(g, u)
		return
	}
	j.newMember = false
	passed := j.delay
	j.delay = min(s.c.InitialRebalanceDelay, j.remaining)
	j.remaining = max(j.remaining-passed, 0)
	j.timer.Schedule(j.delay)
}

// completeJoinIfReady ends the join phase when everyone is there; the initial
// one always takes its time.
func (s *shard) completeJoinIfReady(g *classicGroup, u *coordinator.Update) {
	if g.state == PreparingRebalance && g.previous != Empty && g.allJoined() {
		s.completeJoin(g, u)
	}
}

// completeJoin ends the join phase: dynamic members that did not come are out,
// the others are the next generation, and are told so.
func (s *shard) completeJoin(g *classicGroup, u *coordinator.Update) {
	g.join.timer.Stop()
	g.join.initial = false
	for _, m := range append([]*member(nil), g.members...) {
		if m.joining == nil && m.instance == nil {
			s.log.Info("member removed, did not rejoin", "group", g.id, "member", m.id)
			g.remove(m.id)
		}
	}
	if !g.electJoinedLeader() && len(g.members) > 0 {
		// Only static members that did not come: wait until their sessions end.
		g.join.timer.Schedule(g.rebalanceTimeout())
		return
	}
	s.nextGeneration(g)
	if g.state == Empty {
		s.log.Info("group is empty", "group", g.id, "generation", g.generation)
		// If the record is lost, the generation before it is active again in the
		// next coordinator until its sessions end. Nobody is hurt.
		s.storeGroup(g, nil, u)
		return
	}
	s.log.Info("generation joined", "group", g.id, "generation", g.generation, "members", len(g.members))
	for _, m := range g.members {
		m.answerJoin(g.joinResponse(m, m.id))
		s.startSession(g, m, m.sessionTimeout)
		m.isNew = false
		g.pendingSync[m.id] = struct{}{}
	}
	if g.sync == nil {
		g.sync = s.part.NewTimer(func(u *coordinator.Update) { s.syncTimeout(g, u) })
	}
	g.sync.Schedule(g.rebalanceTimeout())
}

func (s *shard) nextGeneration(g *classicGroup) {
	g.generation++
	clear(g.pendingSync)
	if len(g.members) == 0 {
		g.protocol = nil
		g.subscribed = g.readSubscriptions()
		s.transition(g, Empty)
		return
	}
	protocol := g.selectProtocol()
	g.protocol = &protocol
	g.subscribed = g.readSubscriptions()
	s.transition(g, CompletingRebalance)
}

// syncTimeout removes members that joined a generation but did not send
// SyncGroup within the rebalance timeout.
func (s *shard) syncTimeout(g *classicGroup, u *coordinator.Update) {
	if g.state != CompletingRebalance && g.state != Stable || len(g.pendingSync) == 0 {
		return
	}
	for _, m := range append([]*member(nil), g.members...) {
		if _, ok := g.pendingSync[m.id]; ok {
			s.log.Info("member removed, did not sync", "group", g.id, "member", m.id)
			g.remove(m.id)
		}
	}
	s.prepareRebalance(g, "members did not sync", u)
}

// synced notes that a member sent SyncGroup.
func (g *classicGroup) synced(id string) {
	delete(g.pendingSync, id)
	if len(g.pendingSync) == 0 {
		g.sync.Stop()
	}
}

// spreadAssignments sets everyone's assignment and answers who waits for it.
// Sessions start over: one that ended while we kept the member waiting was excused.
func (s *shard) spreadAssignments(g *classicGroup, assignments map[string][]byte, code int16) {
	for _, m := range g.members {
		g.claim(int64(len(assignments[m.id]) - len(m.assignment)))
		m.assignment = assignments[m.id]
		resp := syncError(code)
		if code == 0 {
			resp = g.syncResponse(m)
		}
		if m.answerSync(resp) {
			s.startSession(g, m, m.sessionTimeout)
		}
	}
}

// readSubscriptions collects the topics consumers subscribe to: nil for other
// protocols and for subscriptions that cannot be read. Version 0 of the
// consumer protocol is a prefix of all others.
func (g *classicGroup) readSubscriptions() map[string]struct{} {
	if g.protocolType != consumerProtocol {
		return nil
	}
	topics := make(map[string]struct{})
	for _, m := range g.members {
		r := reader{b: m.metadata(deref(g.protocol))}
		r.int16() // version
		for n := r.arrayLen(2); n > 0 && !r.failed; n-- {
			topics[r.string()] = struct{}{}
		}
		if r.failed {
			return nil
		}
	}
	return topics
}

// joinResponse is what a member learns of the current generation; the leader
// gets the members.
func (g *classicGroup) joinResponse(m *member, id string) *kmsg.JoinGroupResponse {
	resp := joinError(0, id)
	resp.Generation, resp.Protocol, resp.LeaderID = g.generation, g.protocol, g.leader
	resp.ProtocolType = g.protocolTypeOrNil()
	if g.isLeader(m.id) {
		resp.Members = g.joinMembers()
	}
	return resp
}

func (g *classicGroup) syncResponse(m *member) *kmsg.SyncGroupResponse {
	resp := syncError(0)
	resp.Protocol, resp.MemberAssignment = g.protocol, m.assignment
	resp.ProtocolType = g.protocolTypeOrNil()
	return resp
}

// protocolTypeOrNil is a copy: answers leave the partition's goroutine.
func (g *classicGroup) protocolTypeOrNil() *string {
	if g.protocolType == "" {
		return nil
	}
	name := g.protocolType
	return &name
}

func joinError(code int16, id string) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode, resp.MemberID = code, id
	resp.Generation = -1
	return resp
}

func syncError(code int16) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode, resp.MemberAssignment = code, []byte{}
	return resp
}

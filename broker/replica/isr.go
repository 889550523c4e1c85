package replica

import (
	"maps"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// peer is what a leader knows of one follower from its fetches in this leader
// epoch: Kafka's Replica.
type peer struct {
	end       int64     // what it has on stable storage, -1 until it fetched
	logStart  int64     // -1 until it fetched
	epoch     int64     // the registration under which it fetched last, -1 none
	fetched   time.Time // when it fetched last …
	leaderEnd int64     // … and where the leader's log ended then
	caughtUp  time.Time // when it last had all that the leader had
	told      int64     // the high watermark of the last answer
	asked     int64     // how often it fetched
	fit       time.Time // when a fetch of its own showed last that it may be in sync
}

// record takes a fetch: Replica.updateFetchStateOrThrow.
func (f *peer) record(req *FetchRequest, q *FetchPartition, leaderEnd int64, now time.Time) {
	switch {
	case q.Offset >= leaderEnd:
		f.caughtUp = now
	case q.Offset >= f.leaderEnd && f.fetched.After(f.caughtUp):
		f.caughtUp = f.fetched // it has what there was when it last asked
	}
	f.end, f.logStart = q.Offset, q.LogStart
	f.fetched, f.leaderEnd = now, leaderEnd
	f.asked++
	if req.ReplicaEpoch > 0 {
		f.epoch = req.ReplicaEpoch
	}
}

// inTime says whether a follower has all, or had not long ago: Replica.isCaughtUp.
func (f *peer) inTime(leaderEnd int64, now time.Time, lag time.Duration) bool {
	return f.end == leaderEnd || now.Sub(f.caughtUp) <= lag
}

// fetched notes a follower's fetch before it is answered. It returns the high
// watermark that the follower has been told.
func (p *Partition) fetched(req *FetchRequest, q *FetchPartition, now time.Time) (told int64, err error) {
	p.mu.Lock()
	s, f := p.state.Load(), p.peers[req.Replica]
	if f == nil || checkEpoch(q.CurrentEpoch, s.LeaderEpoch) != nil || req.ReplicaEpoch > 0 && req.ReplicaEpoch < f.epoch {
		// Who leads changed meanwhile, or this is of a former life of the follower.
		p.mu.Unlock()
		return 0, ErrNotLeader
	}
	deleted := q.LogStart > f.logStart
	f.record(req, q, p.log.LogEnd(), now)
	told = f.told
	joins := !slices.Contains(s.ISR, req.Replica) && p.mayJoin(s, req.Replica, f)
	if joins {
		f.fit = now
	}
	joins = joins && p.pending == nil
	committed := p.advanceLocked(s, now)
	p.mu.Unlock()
	p.asked.broadcast()
	switch {
	case committed:
		p.committed()
	case deleted:
		p.moved.broadcast()
	}
	if joins {
		p.m.isr.want(p)
	}
	return told, nil
}

// lowWatermark is the lowest start of the logs of all live replicas:
// Partition.lowWatermarkIfLeader.
func (p *Partition) lowWatermark() int64 {
	low, img := p.log.LogStart(), p.m.o.Metadata.Image()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, f := range p.peers {
		if _, live := img.Broker(id); live {
			low = min(low, f.logStart)
		}
	}
	return low
}

// tell notes the high watermark that a follower is told.
func (p *Partition) tell(id metadata.BrokerID, epoch int32, hw int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.peers[id]; f != nil && p.state.Load().LeaderEpoch == epoch {
		f.told = max(f.told, hw)
	}
}

// mayJoin says whether a follower that is out of sync may be in sync: it has all
// that is committed and began with this leader epoch, lives under the
// registration it fetched with (KIP-841, KIP-903), and is not about to go.
// Partition.isFollowerInSync, isReplicaIsrEligible.
func (p *Partition) mayJoin(s *state, id metadata.BrokerID, f *peer) bool {
	return f.end >= s.epochStart && f.end >= p.log.HighWatermark() && p.eligible(s, id, f)
}

func (p *Partition) eligible(s *state, id metadata.BrokerID, f *peer) bool {
	b, ok := p.m.o.Metadata.Image().Broker(id)
	return ok && b.Epoch == f.epoch && !b.Draining && b.Holds() && !slices.Contains(s.Offline, id)
}

// advance recomputes the high watermark and wakes who waits for it.
func (p *Partition) advance() {
	p.mu.Lock()
	committed := p.advanceLocked(p.state.Load(), time.Time{})
	p.mu.Unlock()
	if committed {
		p.committed()
	} else {
		p.moved.broadcast()
	}
}

// committed wakes who waits for the high watermark: followers too, which serve
// consumers up to what they are told of it.
func (p *Partition) committed() {
	p.moved.broadcast()
	p.fetches.wake()
	p.followers.wake()
}

// advanceLocked moves the high watermark to the lowest synced end of the maximal
// in-sync replicas: those that are, and those that the leader has asked to be
// (KIP-497). It does not move while fewer than min.insync.replicas are
// (KIP-966), and it waits for a follower that is about to join, which would
// never catch up with it otherwise: Partition.maybeIncrementLeaderHW.
func (p *Partition) advanceLocked(s *state, now time.Time) bool {
	if !s.leading || !s.enoughInSync() {
		return false
	}
	hw, leaderEnd := p.log.HighWatermark(), p.log.LogEnd()
	end := p.log.SyncedOffset()
	for id, f := range p.peers {
		if f.end >= end {
			continue
		}
		if !p.countsLocked(s, id) {
			if now.IsZero() {
				now = time.Now()
			}
			if !f.inTime(leaderEnd, now, p.m.o.LagMax) || !p.eligible(s, id, f) {
				continue
			}
		}
		end = f.end
	}
	if end <= hw {
		return false
	}
	p.log.SetHighWatermark(end)
	return true
}

// countsLocked says whether a follower is in the maximal in-sync replicas.
func (p *Partition) countsLocked(s *state, id metadata.BrokerID) bool {
	return slices.Contains(s.ISR, id) || p.pending != nil && slices.Contains(p.pending.To.ISR, id)
}

// update installs a new state.
func (p *Partition) update(s *state) {
	p.mu.Lock()
	was := p.state.Load()
	p.state.Store(s)
	if p.pending != nil && (s.ModRevision > p.pending.From.ModRevision || s.gone != nil) {
		// It was made, or never will be.
		p.pending = nil
	}
	if s.ModRevision != was.ModRevision {
		p.askAgain = time.Time{}
	}
	p.trackLocked(s, s.leading && was.leading && s.LeaderEpoch == was.LeaderEpoch)
	p.mu.Unlock()
	p.wakeAll()
}

// trackLocked makes peers the followers of the state; sameEpoch keeps what is
// known of them.
func (p *Partition) trackLocked(s *state, sameEpoch bool) {
	old := p.peers
	p.peers = nil
	if !s.leading {
		return
	}
	if !sameEpoch {
		old = nil
	}
	p.peers = make(map[metadata.BrokerID]*peer, len(s.Replicas))
	for _, id := range s.Replicas {
		if id == p.broker {
			continue
		}
		f := old[id]
		if f == nil {
			f = &peer{end: -1, logStart: -1, epoch: -1, leaderEnd: -1, told: -1}
			if slices.Contains(s.ISR, id) {
				f.caughtUp = time.Now() // as far as anybody knows: Replica.resetReplicaState
			}
		}
		p.peers[id] = f
	}
}

// pendingChange is a change that this leader has asked for. Until the Image
// shows a later state it may have been made.
type pendingChange struct {
	metadata.PartitionChange
	made    bool // so says the store; the Image is on its way
	unknown bool // an attempt had no answer: it may have been made, and undone since
}

// propose returns the change that the leader wants: the one it asked for and had
// no answer to, or what the followers' fetches ask for.
func (p *Partition) propose(now time.Time) (metadata.PartitionChange, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state.Load()
	switch {
	case p.pending != nil:
		return p.pending.PartitionChange, !p.pending.made
	case s.gone != nil || !s.elected && !s.Restored() || now.Before(p.askAgain):
		return metadata.PartitionChange{}, false
	}
	c := metadata.PartitionChange{TopicIDPartition: p.tip, From: s.Partition, To: s.Partition}
	switch {
	case s.Restored():
		if !p.found(&c.To) {
			return metadata.PartitionChange{}, false
		}
	case p.dir.Offline() != nil:
		return metadata.PartitionChange{}, false // see alterOffline
	case s.leading:
		if c.To.ISR, c.Joins = p.inSyncLocked(s, now); slices.Equal(c.To.ISR, s.ISR) {
			return metadata.PartitionChange{}, false
		}
	case s.Recovering && p.recovered == s.LeaderEpoch:
		c.To.Recovering = false
	default:
		return metadata.PartitionChange{}, false
	}
	p.pending = &pendingChange{PartitionChange: c}
	return c, true
}

// inSyncLocked is who should be in sync by what the followers' fetches say, this
// broker always.
func (p *Partition) inSyncLocked(s *state, now time.Time) (isr []metadata.BrokerID, joins map[metadata.BrokerID]int64) {
	leaderEnd := p.log.LogEnd()
	for _, id := range s.ISR {
		f := p.peers[id]
		if id == p.broker || f != nil && f.inTime(leaderEnd, now, p.m.o.LagMax) {
			isr = append(isr, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.peers)) {
		// Each joins by fetches of its own, and goes on fetching: one that was cut
		// off has all, too, while nothing is appended.
		if f := p.peers[id]; !slices.Contains(s.ISR, id) && now.Sub(f.fit) <= p.m.confirmWait() && p.mayJoin(s, id, f) {
			if joins == nil {
				joins = make(map[metadata.BrokerID]int64)
			}
			isr, joins[id] = append(isr, id), f.epoch
		}
	}
	return isr, joins
}

// overdue says whether the in-sync replicas have a follower that is late.
func (p *Partition) overdue(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state.Load()
	switch {
	case p.pending != nil:
		return false
	case !s.leading:
		return false
	}
	leaderEnd := p.log.LogEnd()
	for _, id := range s.ISR {
		if f := p.peers[id]; f != nil && !f.inTime(leaderEnd, now, p.m.o.LagMax) {
			return true
		}
	}
	return false
}

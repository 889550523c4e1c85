package replica

import (
	"context"
	"errors"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// settle brings an open partition to the state the Image gives it.
func (a *applier) settle(ctx context.Context, p *Partition, w wanted) {
	if err := a.transit(ctx, p, w); err != nil {
		a.m.log.Error("partition does not take its new state", "partition", p.tp, "epoch", w.topic.Partitions[w.number].LeaderEpoch, "err", err)
		a.undone[p.tip] = struct{}{}
		return
	}
	if p.spoilt.Load() != nil {
		a.undone[p.tip] = struct{}{} // until it is mended
		a.mend(ctx, p)
		return
	}
	delete(a.undone, p.tip)
}

// transit makes the partition leader or follower, or only changes what it knows.
// Nobody copies into a log whose leader this broker is, and nobody appends as a
// leader to one that is copied: who did so before is stopped first.
func (a *applier) transit(ctx context.Context, p *Partition, w wanted) error {
	was := p.state.Load()
	s := a.state(p, was, w)
	if was.config != s.config {
		p.log.SetConfig(s.config)
		a.m.retainSoon()
	}
	defer a.m.say(p, s) // who says it goes by the new state, and is not asked twice
	if a.lacks(p, was, s) {
		s.leading = false // recover has it take what the tier has first
	}
	if same(was, s) {
		return nil
	}
	begins := s.leading && (!was.leading || s.LeaderEpoch != was.LeaderEpoch)
	var failed error
	if begins {
		failed = a.begin(p, s)
		if p.unfit.Store(failed != nil); failed != nil {
			begins, s.leading = false, false // another in-sync replica may lead: suspect
			if was.ModRevision == s.ModRevision {
				return failed
			}
			defer a.m.suspect(p.tip)
		}
	}
	if !s.elected {
		p.unfit.Store(false)
	}
	p.update(s)
	switch {
	case s.leading:
		p.advance()
	case failed != nil:
	case s.elected:
		a.m.fetchers.remove(p)
		a.recover(ctx, p, s)
	default:
		a.follow(p, s)
	}
	a.announce(p, was, s, begins)
	a.healed(p, s)
	return failed
}

// say has the partition's state say what there is of its log, if it may not yet.
func (m *Manager) say(p *Partition, s *state) {
	if s.Restored() {
		m.isr.want(p) // it may not be said yet under this registration what is here
	}
	if slices.Contains(s.Offline, p.broker) || p.dir.Offline() != nil {
		m.suspect(p.tip)
	}
}

// state is what the Image and the configuration say of a partition.
func (a *applier) state(p *Partition, was *state, w wanted) *state {
	now, cfg := w.topic.Partitions[w.number], &w.config
	elected := now.Leader == p.broker && now.LeaderBrokerEpoch == a.registration
	return &state{
		Partition:  now,
		elected:    elected,
		leading:    elected && !now.Recovering,
		epochStart: was.epochStart,
		minInSync:  cfg.MinInSyncReplicas,
		config:     cfg.Log,
		remote:     cfg.Log.RemoteEnabled,
		throttled:  cfg.LeaderThrottled != nil && cfg.LeaderThrottled(w.number, p.broker),
	}
}

// lacks says whether the tier, as the Image shows it, has records that the log of
// who is to lead has not: the disk was lost, or is an older one. Offsets of the tier
// must not be given away again. Who leads on has written what the tier has.
func (a *applier) lacks(p *Partition, was, s *state) bool {
	if !s.leading || was.leading && was.LeaderEpoch == s.LeaderEpoch {
		return false
	}
	pointer, ok := a.image.RemotePointer(p.tip)
	if !ok || pointer.EndOffset <= max(pointer.StartOffset, p.log.LogEnd()) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recovered != s.LeaderEpoch
}

func same(a, b *state) bool {
	return a.ModRevision == b.ModRevision && a.elected == b.elected && a.leading == b.leading && a.minInSync == b.minInSync &&
		a.config == b.config && a.throttled == b.throttled && errors.Is(a.gone, b.gone)
}

// begin makes the log this broker's own, in the leader epoch of s.
func (a *applier) begin(p *Partition, s *state) error {
	a.endRecovery(p)
	a.m.fetchers.remove(p)
	start, err := p.log.BeginEpoch(s.LeaderEpoch)
	if errors.Is(err, segment.ErrFenced) {
		// The metadata is older than the log. What is there can be read.
		a.m.log.Error("elected in an epoch before that of the log, which takes no records", "partition", p.tp, "epoch", s.LeaderEpoch, "err", err)
		start, err = p.log.LogEnd(), nil
	}
	s.epochStart = start
	return err
}

// follow has the log copied from the leader, if there is one.
func (a *applier) follow(p *Partition, s *state) {
	a.endRecovery(p)
	if s.Leader == metadata.NoBroker || s.Leader == p.broker {
		a.m.fetchers.remove(p)
		return
	}
	a.m.fetchers.assign(p, s.Leader, s.LeaderEpoch)
}

// announce tells those who work for leaders only.
func (a *applier) announce(p *Partition, was, s *state, begins bool) {
	if s.leading && (begins || s.remote != was.remote) {
		a.m.o.Remote.Lead(p.tip, s.LeaderEpoch, p.log)
	}
	switch {
	case begins:
		a.m.lead(p, true)
	case !s.leading && was.leading:
		a.m.o.Remote.Resign(p.tip)
		a.m.lead(p, false)
	}
}

// stop ends the service of a partition. What a follow or a recovery has under way on
// its log may still end: see leave, held.
func (a *applier) stop(p *Partition, lives bool) {
	s := *p.state.Load()
	led := s.leading
	s.elected, s.leading, s.gone = false, false, ErrUnknownPartition
	if lives {
		s.gone = ErrNotLeader
	}
	p.update(&s)
	if r := p.recovery; r != nil {
		r.cancel()
		p.recovery = nil
	}
	a.m.fetchers.drop(p)
	a.m.o.Remote.Resign(p.tip)
	if led {
		a.m.lead(p, false)
	}
}

func (m *Manager) lead(p *Partition, leading bool) {
	if m.o.OnLeadership != nil {
		m.o.OnLeadership(p, leading)
	}
}

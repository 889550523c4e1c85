package replica

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// A log from which records are lost that were durable does not open, and its replica
// gives way: see offline.go. It is healed from where those records still are. A live
// leader that is in sync has all that was committed: the log is opened without what
// is damaged, and follows. Where this replica alone has all, the tier must hold every
// record that the directory may hold: the directory is put aside whole, and the log
// begins at the tier's end. Else nothing is cut, and somebody has to decide what to
// go on with. All of that is judged by an Image that is known to be fresh and by the
// store's own answer: where they are silent nothing is done.

// remedy is what heals a log that does not open for damage.
type remedy int8

const (
	unknown remedy = iota // not known, or not decided yet: it is asked again
	copied                // from the leader
	fetched               // from the tier
)

// errNoRemedy means that a damaged log has records that are nowhere else.
var errNoRemedy = errors.New("nothing is cut: no other live replica is in sync, and the tier does not hold all of it")

// reopen has a log opened that did not open before, and, if it is damaged and can be
// healed, opened to be healed. Who is asked about that holds up nobody's opening.
func (a *applier) reopen(ctx context.Context, dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, cfg TopicConfig, before error) {
	a.busy[id] = struct{}{}
	a.jobs.running.Go(func() {
		by, why := unknown, error(nil)
		if errors.Is(before, segment.ErrCorrupt) {
			by, why = a.m.remedy(ctx, dir, tp, id, cfg.Log.RemoteEnabled)
		}
		a.jobs.open(ctx, a.opening(id, tp, func() (*Partition, error) {
			p, err := a.m.open(dir, tp, id, cfg)
			switch {
			case !errors.Is(err, segment.ErrCorrupt):
				return p, err
			case by == unknown:
				return nil, errors.Join(err, why)
			}
			return a.m.heal(dir, tp, id, cfg, err, by)
		}))
	})
}

// heal opens a damaged log. What is cut stays on the disk beside it, or all of it does.
func (m *Manager) heal(dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, cfg TopicConfig, damage error, by remedy) (*Partition, error) {
	var lost *segment.DamageError
	if by == copied && errors.As(damage, &lost) {
		m.log.Warn("log is damaged, it is cut there and copied from its leader", "partition", tp,
			"offset", lost.Offset, "end", lost.End, "file", lost.Path, "position", lost.Pos, "err", lost.Err)
		if p, err := m.openLog(dir, tp, id, cfg, true); !errors.Is(err, segment.ErrCorrupt) {
			return p.damaged(damage), err
		}
	}
	paths, err := dir.SetAside([]metadata.TopicPartition{tp})
	if err != nil {
		return nil, errors.Join(damage, err)
	}
	m.log.Warn("log is damaged, its directory is put aside and it begins anew", "partition", tp, "path", paths, "from_tier", by == fetched, "err", damage)
	p, err := m.open(dir, tp, id, cfg)
	return p.damaged(damage), err
}

// damaged notes that a log lacks what was damaged, until it is healed.
func (p *Partition) damaged(by error) *Partition {
	if p != nil {
		p.damage = by
	}
	return p
}

// remedy says what heals a damaged log, or why nothing does.
func (m *Manager) remedy(ctx context.Context, dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, tiered bool) (remedy, error) {
	attempt, cancel := context.WithTimeout(ctx, m.confirmWait())
	defer cancel()
	select {
	case <-m.o.Metadata.Confirm():
	case <-attempt.Done():
		return unknown, errors.New("nothing is cut: the metadata store does not say whether another replica has all")
	}
	img, self := m.o.Metadata.Image(), m.o.Broker
	now, ok := img.PartitionByID(id)
	switch {
	case !ok || now.Restored() || now.Recovering || !slices.Contains(now.Offline, self):
		return unknown, nil // this replica has not given way yet, or all are still being compared
	case now.Leader == self:
		return unknown, nil
	case now.Leader == metadata.NoBroker && slices.Equal(now.ISR, []metadata.BrokerID{self}):
		return m.remedyInTier(ctx, img, dir, tp, id, tiered)
	case now.Leader == metadata.NoBroker || slices.Contains(now.ISR, self):
		return unknown, fmt.Errorf("nothing is cut: it waits for one of the in-sync replicas %v to lead", now.ISR)
	}
	leader, live := img.Broker(now.Leader)
	if !live || leader.Epoch != now.LeaderBrokerEpoch || !slices.Contains(now.ISR, now.Leader) || slices.Contains(now.Offline, now.Leader) {
		return unknown, fmt.Errorf("nothing is cut: its leader, broker %d, does not live", now.Leader)
	}
	return copied, nil
}

// remedyInTier says whether the tier holds all that a damaged log may hold.
func (m *Manager) remedyInTier(ctx context.Context, img *metadata.Image, dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, tiered bool) (remedy, error) {
	advice := "restore another replica of it; or stop the broker and move " + filepath.Join(dir.Path(), tp.String()) + " away"
	pointer, ok := img.RemotePointer(id)
	if !tiered || !ok || pointer.EndOffset <= pointer.StartOffset {
		return unknown, fmt.Errorf("%w: %s, to go on without any of its records", errNoRemedy, advice)
	}
	end, known, err := dir.Reach(tp)
	switch {
	case err != nil:
		return unknown, err
	case !known:
		return unknown, fmt.Errorf("%w: where it ends is damaged too; %s, to go on from the tier's end without those from offset %d on",
			errNoRemedy, advice, pointer.EndOffset)
	case pointer.EndOffset < end:
		return unknown, fmt.Errorf("%w: %s, to go on from the tier's end without those from offset %d to %d",
			errNoRemedy, advice, pointer.EndOffset, end-1)
	}
	aux, ok, err := m.askTier(ctx, id)
	switch {
	case err != nil:
		return unknown, fmt.Errorf("nothing is cut: the tier does not say what it holds: %w", err)
	case !ok || aux.EndOffset < end:
		return unknown, fmt.Errorf("%w: the tier ends at %d and not at %d as the metadata says", errNoRemedy, aux.EndOffset, pointer.EndOffset)
	}
	return fetched, nil
}

// askTier asks the store for the state at the tier's end, few at a time.
func (m *Manager) askTier(ctx context.Context, id metadata.TopicIDPartition) (segment.AuxState, bool, error) {
	select {
	case m.fetchers.tier <- struct{}{}:
	case <-ctx.Done():
		return segment.AuxState{}, false, ctx.Err()
	}
	defer func() { <-m.fetchers.tier }()
	attempt, cancel := context.WithTimeout(ctx, auxTimeout)
	defer cancel()
	return m.o.Remote.AuxState(attempt, id)
}

// healed says of a log that was damaged that it has all again: it is in sync, or
// leads with what the tier has.
func (a *applier) healed(p *Partition, s *state) {
	follows := s.Leader != metadata.NoBroker && s.Leader != p.broker && slices.Contains(s.ISR, p.broker)
	if p.damage == nil || !s.leading && !follows {
		return
	}
	a.m.log.Info("damaged log is healed", "partition", p.tp, "leader", s.Leader, "epoch", s.LeaderEpoch,
		"log_end", p.log.LogEnd(), "damage", p.damage)
	p.damage = nil
}

// spoil notes what was found to be damaged in the open log. Others may have it: this
// replica gives way as soon as one of them is in sync, and is mended then. Until then
// it serves what is sound.
func (p *Partition) spoil(lost *segment.DamageError) {
	if !p.spoilt.CompareAndSwap(nil, lost) {
		return
	}
	p.m.log.Error("log is damaged", "partition", p.tp, "offset", lost.Offset, "end", lost.End,
		"file", lost.Path, "position", lost.Pos, "err", lost.Err)
	p.m.suspect(p.tip)
}

// mend has an open log cut where it is damaged, once its replica has given way and it
// is certain that its leader has all. Nobody elects the replica meanwhile.
func (a *applier) mend(ctx context.Context, p *Partition) {
	lost, s := p.spoilt.Load(), p.state.Load()
	if p.log.LocalLogStart() >= lost.End {
		p.spoilt.Store(nil) // it has expired
	}
	a.m.suspect(p.tip)
	if s.elected || !slices.Contains(s.Offline, p.broker) || p.spoilt.Load() == nil || time.Now().Before(p.mendAfter) {
		return
	}
	p.mendAfter = time.Now().Add(a.m.o.RetryInterval / 2)
	a.busy[p.tip] = struct{}{}
	a.jobs.running.Go(func() {
		by, err := a.m.remedy(ctx, p.dir, p.tp, p.tip, false)
		if by == copied {
			p.turn.take()
			err = p.log.CutDamage(lost)
			p.turn.give()
		}
		a.jobs.finished(func() metadata.TopicIDPartition {
			delete(a.busy, p.tip)
			a.mended(p, lost, by, err)
			return p.tip
		})
	})
}

// mended takes what a mend came to.
func (a *applier) mended(p *Partition, lost *segment.DamageError, by remedy, err error) {
	switch {
	case by == copied && err == nil:
		a.m.log.Warn("log is cut where it is damaged and copied from its leader", "partition", p.tp, "offset", lost.Offset, "end", lost.End)
		p.damage = lost
		p.spoilt.Store(nil)
		p.moved.broadcast()
		a.m.suspect(p.tip)
	case err != nil:
		a.m.log.Debug("damaged log is not cut", "partition", p.tp, "err", err)
	}
}

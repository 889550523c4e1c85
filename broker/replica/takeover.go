package replica

import (
	"context"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// found has a restored partition's state say what is on this broker's disk of it.
// False means that it says so, or that there is nobody to say it.
func (p *Partition) found(to *metadata.Partition) bool {
	epoch := p.m.registration(p.m.o.Metadata.Image())
	if epoch < 0 || p.dir.Offline() != nil {
		return false
	}
	mine := metadata.FoundLog{Broker: p.broker, BrokerEpoch: epoch, LeaderEpoch: p.log.LatestEpoch(), End: p.log.LogEnd()}
	if slices.Contains(to.Found, mine) {
		return false
	}
	others := slices.DeleteFunc(slices.Clone(to.Found), func(f metadata.FoundLog) bool { return f.Broker == p.broker })
	to.Found = append(others, mine)
	return true
}

// recovery is a leader taking what the tier has, before it leads.
type recovery struct {
	epoch  int32
	cancel context.CancelFunc
}

// recover has a leader that was elected though it was not in sync, or whose log ends
// before the tier does, compare its log with the tier, which holds committed records
// only (KIP-704, KIP-966). It is repeated until the store and the tier answer; then
// the mark of an unclean leader is taken off the partition, and it leads.
func (a *applier) recover(ctx context.Context, p *Partition, s *state) {
	if p.recovery != nil && p.recovery.epoch == s.LeaderEpoch {
		a.m.isr.want(p) // the change it asked for may have failed
		return
	}
	a.endRecovery(p)
	ctx, cancel := context.WithCancel(ctx)
	r := &recovery{epoch: s.LeaderEpoch, cancel: cancel}
	p.recovery = r
	why := "the tier has records that its leader's disk lacks, they are taken from there first"
	if s.Recovering {
		why = "elected though not in sync, looking for what the tier has"
	}
	a.m.log.Warn(why, "partition", p.tp, "epoch", s.LeaderEpoch, "offset", p.log.LogEnd())
	a.recoveries.Go(func() error {
		defer cancel()
		for faults := 1; ; faults++ {
			err := a.m.adopt(ctx, p, r)
			if err == nil {
				a.jobs.finished(func() metadata.TopicIDPartition { return p.tip })
			}
			if err == nil || ctx.Err() != nil {
				return nil
			}
			if faults == 1 || faults == noisy {
				a.m.log.Warn("leader cannot compare its log with the tier, trying on", "partition", p.tp, "epoch", r.epoch, "err", err)
			}
			pause(ctx, backoff(faults, a.m.o.FetchBackoff), nil)
		}
	})
}

// endRecovery returns when no recovery will touch p's log any more. It waits for
// the disk only.
func (a *applier) endRecovery(p *Partition) {
	if r := p.recovery; r != nil {
		r.cancel()
		p.turn.pass()
		p.recovery = nil
	}
}

// adopt compares the log with the tier, and makes it begin at the tier's end if
// the tier has what it lacks.
func (m *Manager) adopt(ctx context.Context, p *Partition, r *recovery) error {
	select {
	case m.fetchers.tier <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	attempt, cancel := context.WithTimeout(ctx, auxTimeout)
	aux, ok, err := m.o.Remote.AuxState(attempt, p.tip)
	cancel()
	<-m.fetchers.tier
	if err != nil {
		return fmt.Errorf("state at the tier's end: %w", err)
	}
	p.turn.take()
	defer p.turn.give()
	if ctx.Err() != nil {
		return ctx.Err() // ended by who masters the log next
	}
	if ok && !p.hasAll(aux) {
		m.log.Warn("leader takes the tier's records for its own", "partition", p.tp, "epoch", r.epoch,
			"log_end", p.log.LogEnd(), "lineage", p.log.LeaderEpochs(), "offset", aux.EndOffset)
		err = p.restore(aux)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.recovered = r.epoch
	p.mu.Unlock()
	m.isr.want(p)
	return nil
}

// hasAll says whether the log holds the records of the tier: it reaches as far,
// and the same leader wrote the last of them.
func (p *Partition) hasAll(aux segment.AuxState) bool {
	last := aux.EndOffset - 1
	switch {
	case p.log.LogEnd() < behind(aux):
		return false
	case p.log.LogStart() >= aux.EndOffset:
		return true // all of that was deleted
	}
	epoch, ok := p.log.EpochForOffset(last)
	return ok && epoch == epochOf(aux.Epochs, last)
}

// epochOf is the epoch of an offset by a lineage.
func epochOf(lineage []segment.EpochEntry, offset int64) int32 {
	epoch := segment.NoEpoch
	for _, e := range lineage {
		if e.StartOffset <= offset {
			epoch = e.Epoch
		}
	}
	return epoch
}

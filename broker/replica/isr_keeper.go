package replica

import (
	"context"
	"errors"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

const (
	// alterTimeout bounds one attempt to change in-sync replicas; what the
	// attempt came to is found out by the next.
	alterTimeout = 10 * time.Second
	// alterBackoff is the pause after the store did not answer or said that it
	// knows a later state: that one is on its way.
	alterBackoff = 500 * time.Millisecond
)

// keepISR changes in-sync replicas as followers catch up and fall behind, until
// ctx ends: many partitions in one transaction, as Kafka's AlterPartitionManager.
// The store is never asked by who fetches or appends.
func (m *Manager) keepISR(ctx context.Context) error {
	check := time.NewTicker(m.o.LagMax / 2) // ReplicaManager's isr-expiration
	defer check.Stop()
	checked := time.Now()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-m.isr.wake:
		case <-again.C:
		case <-check.C:
			now := time.Now()
			if now.Sub(checked) <= m.o.LagMax { // else this process was stopped, and nobody could fetch
				m.checkISR(now)
			}
			checked = now
		case <-ctx.Done():
			return nil
		}
		broken := m.alterOffline(ctx)
		if left := m.alterISR(ctx, m.isr.take()); left || broken {
			again.Reset(alterBackoff)
		}
	}
}

// checkISR looks for followers that fell behind.
func (m *Manager) checkISR(now time.Time) {
	for _, p := range m.view.Load().byID {
		s := p.state.Load()
		if p.overdue(now) {
			m.isr.want(p)
		}
		if s.leading && len(s.ISR) < len(s.Replicas) {
			p.advance() // it need not wait any more for one that did not join
		}
	}
}

// alterISR asks for what the partitions propose. It says whether some are to be
// asked again later.
func (m *Manager) alterISR(ctx context.Context, due map[*Partition]struct{}) (left bool) {
	var ps []*Partition
	var changes []metadata.PartitionChange
	now := time.Now()
	for p := range due {
		if s := p.state.Load(); !s.Restored() && !m.leased(s, now) {
			// Maybe deposed, or stopped for a while: the followers seem late
			// although it is us. What has no answer waits, too.
			if s.elected {
				m.isr.later(p)
				left = true
			}
			continue
		}
		if c, ok := p.propose(now); ok {
			ps, changes = append(ps, p), append(changes, c)
		}
	}
	if len(changes) == 0 {
		return left
	}
	attempt, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	failed := 0
	for i, err := range m.o.Metadata.AlterPartitions(attempt, changes) {
		p, c := ps[i], &changes[i]
		p.altered(c, m.decided(attempt, p, c, err), time.Now())
		switch {
		case err == nil:
			m.noteISR(ctx, p, c)
		case errors.Is(err, metadata.ErrUnknownPartition):
		default:
			m.isr.later(p)
			left = true
			failed++
			m.log.Debug("change in-sync replicas", "partition", p.tp, "from", c.From.ISR, "to", c.To.ISR, "err", err)
		}
	}
	if failed > 0 && ctx.Err() == nil {
		m.metrics.isrFailed(ctx, failed)
	}
	return left
}

// errUndecided means that a conflict does not say whether a change was made: an
// attempt before it had no answer. Until the Image shows a later state the larger
// set of replicas counts, for one of them may lead.
var errUndecided = errors.New("the change may have been made")

// decided is err, or errUndecided where a conflict says too little: if an earlier
// attempt had no answer, only a partition that is as it was shows that it was not
// made (a follower that was to join has another registration).
func (m *Manager) decided(ctx context.Context, p *Partition, c *metadata.PartitionChange, err error) error {
	if !errors.Is(err, metadata.ErrConflict) || !p.unanswered(c) {
		return err
	}
	now, ok, readErr := m.o.Metadata.Partition(ctx, p.tip)
	if readErr != nil || !ok || now.ModRevision != c.From.ModRevision {
		return errUndecided
	}
	return err
}

// unanswered says whether an attempt to make the change had no answer.
func (p *Partition) unanswered(c *metadata.PartitionChange) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending != nil && p.pending.From.ModRevision == c.From.ModRevision && p.pending.unknown
}

// altered takes the answer to a change that was asked for.
func (p *Partition) altered(c *metadata.PartitionChange, err error, now time.Time) {
	p.mu.Lock()
	if p.pending == nil || p.pending.From.ModRevision != c.From.ModRevision {
		p.mu.Unlock()
		return // the Image was faster
	}
	switch {
	case err == nil:
		p.pending.made = true
	case errors.Is(err, metadata.ErrConflict):
		// Not made, and never will be: the partition has another state, or a
		// follower that was to join another registration.
		p.pending, p.askAgain = nil, now.Add(alterBackoff)
	default:
		p.pending.unknown = true
	}
	p.mu.Unlock()
	p.advance()
}

// noteISR says what was changed.
func (m *Manager) noteISR(ctx context.Context, p *Partition, c *metadata.PartitionChange) {
	if c.From.Recovering && !c.To.Recovering {
		m.log.Info("unclean leader has what the tier has", "partition", p.tp, "epoch", c.To.LeaderEpoch)
		return
	}
	if c.From.Restored() {
		m.log.Info("restored partition found on disk", "partition", p.tp, "epoch", p.log.LatestEpoch(), "log_end", p.log.LogEnd())
		return
	}
	m.metrics.isrChanged(ctx, c)
	m.log.Info("in-sync replicas changed", "partition", p.tp, "epoch", c.To.LeaderEpoch, "from", c.From.ISR, "to", c.To.ISR)
}

// leased says whether nobody can have been elected in this broker's place
// without its knowing: the registration under which it leads was confirmed not
// longer ago than it lasts.
func (m *Manager) leased(s *state, now time.Time) bool {
	if m.o.Session == nil {
		return false
	}
	session := m.o.Session()
	if session == nil || session.Epoch != s.LeaderBrokerEpoch {
		return false
	}
	at, ttl := session.Confirmed()
	return now.Before(at.Add(ttl))
}

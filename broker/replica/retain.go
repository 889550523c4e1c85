package replica

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// rollCheck is how often active segments are looked at for their age, so that
// remote.copy.max.age.ms and segment.ms hold on quiet partitions too.
const rollCheck = time.Second

// expiresAtOnce is how many partitions are looked at by retention at the same time:
// where a log start moves it is on disk before anything goes, and one write of the
// checkpoint serves all who wait for it.
const expiresAtOnce = 64

// retainSoon asks for a retention pass before its interval ends.
func (m *Manager) retainSoon() {
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

// retain rolls old active segments and expires local ones until ctx ends. Neither
// waits for the other.
func (m *Manager) retain(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return m.rollOld(ctx) })
	g.Go(func() error { return m.expireOld(ctx) })
	return g.Wait()
}

func (m *Manager) rollOld(ctx context.Context) error {
	roll := time.NewTicker(rollCheck)
	defer roll.Stop()
	for {
		select {
		case now := <-roll.C:
			m.rollDue(now)
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *Manager) expireOld(ctx context.Context) error {
	expire := time.NewTicker(m.o.RetentionInterval)
	defer expire.Stop()
	for {
		select {
		case now := <-expire.C:
			m.expire(ctx, now)
		case <-m.dirty:
			m.expire(ctx, time.Now())
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *Manager) rollDue(now time.Time) {
	for _, p := range m.view.Load().byID {
		if !p.Leading() || p.dir.Offline() != nil {
			continue
		}
		if _, err := p.log.RollIfDue(now); err != nil {
			m.log.Warn("roll segment", "partition", p.tp, "err", err)
		}
	}
}

// expire deletes local segments that retention allows. Invariant 4: of a
// tiered partition only what the committed manifest covers, and nothing before
// the remote view is loaded; segment.Log holds to both.
func (m *Manager) expire(ctx context.Context, now time.Time) {
	var g errgroup.Group
	g.SetLimit(expiresAtOnce)
	for _, p := range m.view.Load().byID {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			m.expireOne(p, now)
			return nil
		})
	}
	_ = g.Wait() // they return none
}

func (m *Manager) expireOne(p *Partition, now time.Time) {
	if p.dir.Offline() != nil {
		return
	}
	v := m.o.Remote.View(p.tip)
	freed, err := p.log.ExpireLocal(now, v.HighestOffset, v.Loaded)
	if err != nil {
		m.log.Warn("expire local segments", "partition", p.tp, "err", err)
		return
	}
	if freed > 0 {
		m.log.Debug("expired local segments", "partition", p.tp, "bytes", freed, "local_log_start", p.log.LocalLogStart())
	}
}

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
	var g errgroup.Group
	g.SetLimit(expiresAtOnce)
	for {
		select {
		case <-expire.C:
			m.expire(ctx, &g)
		case <-m.dirty:
			m.expire(ctx, &g)
		case <-ctx.Done():
			return g.Wait()
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

// expire has local segments deleted that retention allows. Invariant 4: of a
// tiered partition only what the committed manifest covers, and nothing before
// the remote view is loaded; segment.Log holds to both. It does not wait for those
// that are looked at: where somebody is at it, it is looked at once more.
func (m *Manager) expire(ctx context.Context, g *errgroup.Group) {
	for _, p := range m.view.Load().byID {
		if ctx.Err() != nil {
			return
		}
		if p.expiring.Add(1) > 1 {
			continue
		}
		g.Go(func() error {
			for {
				asked := p.expiring.Load()
				m.expireOne(p, time.Now())
				if p.expiring.CompareAndSwap(asked, 0) || ctx.Err() != nil {
					return nil
				}
			}
		})
	}
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

package tiering

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// loads is how many partitions may read their manifest or clean up at a time; copies have Options.Uploads.
const loads = 16

type passKind int

const (
	passNone passKind = iota
	passLoad          // read the pointer and the root
	passKeep          // retention, deletion, topic.json
	passCopy
)

// due is a partition with something to do.
type due struct {
	p      *partition
	l      *leadership
	kind   passKind
	oldest time.Time // when its oldest segment was sealed, or, after a failure, when it could be tried again
}

// Run copies, retains and deletes until ctx ends; it returns after all of it, reads' leftovers included, has
// stopped. Call it once.
func (m *Manager) Run(ctx context.Context) error {
	defer func() {
		m.tasks.Close()
		if err := m.unregister(); err != nil {
			m.log.Warn("unregister tiering metrics", "err", err)
		}
	}()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.gc.Run(ctx) })
	copies, others := make(chan struct{}, m.o.Uploads), make(chan struct{}, loads)
	tick, sweep := time.NewTicker(m.o.Poll), time.NewTicker(m.o.Interval)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		for _, d := range m.work(time.Now()) {
			slots := others
			if d.kind == passCopy {
				slots = copies
			}
			select {
			case slots <- struct{}{}:
			default:
				continue // all busy: a pass that ends nudges
			}
			pass, begun := d.p.begin(ctx, d.l)
			if !begun {
				<-slots
				continue
			}
			wg.Go(func() {
				m.pass(pass, d)
				<-slots
				m.nudge()
			})
		}
		select {
		case <-tick.C:
		case <-m.wake:
		case <-sweep.C:
			m.prune()
		case <-ctx.Done():
			return nil
		}
	}
}

// prune forgets partitions of topics that are gone.
func (m *Manager) prune() {
	m.mu.Lock()
	defer m.mu.Unlock()
	im := m.o.Metadata.Image() // not older than that of whoever has just added a partition to lead it
	for tip, p := range m.partitions {
		if _, there := im.PartitionByID(tip); !there && !p.inUse() {
			delete(m.partitions, tip)
			m.topics.Forget(tip.Topic)
		}
	}
}

// work returns what is due: partitions to load first, then housekeeping, then copies, the oldest segment first.
func (m *Manager) work(now time.Time) []due {
	var all []due
	for _, p := range m.snapshot() {
		if d := m.due(p, now); d.kind != passNone {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b due) int { return cmp.Or(cmp.Compare(a.kind, b.kind), a.oldest.Compare(b.oldest)) })
	return all
}

func (m *Manager) due(p *partition, now time.Time) due {
	p.mu.Lock()
	l := p.leader
	if l == nil || l.fenced || p.busy {
		p.mu.Unlock()
		return due{}
	}
	loaded, end, waits, keep := l.loaded, l.end, now.Before(p.notBefore), !now.Before(l.keepAt)
	failures, since := p.failures, p.notBefore
	concerns := l.tiered || m.holdsLocked(p)
	p.mu.Unlock()
	if !concerns {
		return due{}
	}
	kind, oldest := m.lag(p, l, end, now)
	switch {
	case waits:
		return due{}
	case !loaded:
		kind = passLoad
	case keep:
		kind = passKeep
	}
	if failures > 0 && since.After(oldest) {
		oldest = since // what cannot be copied gets older and older: it queues up anew, and holds up nobody
	}
	return due{p: p, l: l, kind: kind, oldest: oldest}
}

// holdsLocked says whether the tier has, or may have, anything of a partition that is not tiered any more.
func (m *Manager) holdsLocked(p *partition) bool {
	if p.pointer.Manifest != "" || len(p.leader.jobs) > 0 {
		return true
	}
	_, ok := m.o.Metadata.Image().RemotePointer(p.tip)
	return ok
}

// lag refreshes what the view says about segments that wait, and says whether the first may be copied.
func (m *Manager) lag(p *partition, l *leadership, end int64, now time.Time) (passKind, time.Time) {
	sealed := m.waiting(l, end)
	segments, bytes, oldest := upload.Lag(sealed)
	p.pending(l, segments, bytes, oldest)
	if len(m.o.Topic(l.Topic).Candidates(l.Log, sealed, now)) == 0 {
		return passNone, oldest
	}
	return passCopy, oldest
}

// begin claims the partition for one pass, whose context also ends with the leadership.
func (p *partition) begin(ctx context.Context, l *leadership) (context.Context, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy || p.leader != l {
		return nil, false
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.busy = true
	return ctx, true
}

func (p *partition) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop()
	p.busy, p.stop = false, nil
}

// pass does one thing for a partition and logs how it went wrong.
func (m *Manager) pass(ctx context.Context, d due) {
	defer d.p.finish()
	var err error
	switch d.kind {
	case passLoad:
		err = m.loadView(ctx, d.p, d.l)
	case passKeep:
		err = m.keep(ctx, d.p, d.l, time.Now())
	case passCopy:
		err = m.copySealed(ctx, d.p, d.l)
	}
	if err == nil {
		if d.kind == passCopy { // reading again is not yet success with what failed
			d.p.succeeded(d.l)
		}
		return
	}
	if ctx.Err() != nil {
		m.uploader.Drop(ctx, &d.l.Leader, &d.l.batch)
		return
	}
	if d.kind != passKeep { // housekeeping has its own pace; that it fails must not delay copies
		d.p.failed(d.l, time.Now(), m.o.RetryMin, m.o.RetryMax)
	}
	if errors.Is(err, manifest.ErrDiverged) {
		d.p.hold(d.l, err)
	}
	attrs := []any{"topic", d.l.Topic, "partition", d.p.tip.Partition, "epoch", d.l.Epoch, "err", err}
	switch {
	case errors.Is(err, ErrNotLeader):
		m.log.Info("remote log manager lost the leadership", attrs...)
	case errors.Is(err, manifest.ErrCorrupt), errors.Is(err, segment.ErrCorrupt), errors.Is(err, manifest.ErrDiverged), errors.Is(err, manifest.ErrMissing), errors.Is(err, manifest.ErrVersion):
		m.log.Error("remote log of a partition needs an operator", attrs...)
	default:
		m.log.Warn("remote log task failed, will be tried again", attrs...)
	}
}

func (p *partition) succeeded(l *leadership) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == l {
		p.failures, p.notBefore, p.held = 0, time.Time{}, ""
	}
}

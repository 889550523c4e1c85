package tiering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// term is one leadership as the collector sees it.
type term struct {
	m *Manager
	p *partition
	l *leadership
}

// TopicIDPartition implements gc.Led.
func (t term) TopicIDPartition() metadata.TopicIDPartition { return t.p.tip }

// Topic implements gc.Led.
func (t term) Topic() string { return t.l.Topic }

// Epoch implements gc.Led.
func (t term) Epoch() int32 { return t.l.Epoch }

// Ready implements gc.Led.
func (t term) Ready() bool {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.l.loaded && !t.l.fenced && t.p.held == ""
}

// Extent implements gc.Led.
func (t term) Extent() (start, last int64) {
	v := t.p.view.Load()
	return v.StartOffset, v.HighestOffset
}

// Holds implements gc.Led.
func (t term) Holds(stem string) bool { return t.l.batch.Holds(stem) }

// Confirm implements gc.Led.
func (t term) Confirm(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error) {
	swapped, err := t.m.swap(ctx, t.p, man.Pointer, t.l.Epoch, man.Pointer)
	if errors.Is(err, metadata.ErrFenced) {
		t.p.fence(t.l)
		err = fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if err != nil {
		t.p.unload(t.l)
		return man, fmt.Errorf("swap the pointer for itself: %w", err)
	}
	t.p.setPointer(swapped)
	man.Pointer = swapped
	return man, nil
}

// Ask implements gc.Led.
func (t term) Ask(j gc.Job) {
	p, l := t.p, t.l
	p.mu.Lock()
	if p.leader == l {
		l.jobs = append(l.jobs, j)
		l.keepAt = time.Time{}
	}
	p.mu.Unlock()
	t.m.nudge()
}

// Do implements gc.Led.
func (t term) Do(ctx context.Context, j gc.Job) error {
	done := make(chan error, 1)
	t.Ask(func(pass context.Context, man bucket.Manifest) (bucket.Manifest, error) {
		next, err := j(pass, man)
		done <- err
		return next, err
	})
	tick := time.NewTicker(t.m.o.Poll)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			t.p.mu.Lock()
			gone := t.p.leader != t.l && !t.p.busy
			t.p.mu.Unlock()
			if gone && len(done) == 0 {
				return ErrNotLeader
			}
		}
	}
}

// doJobs does what was asked for. A job that fails ends the pass; the others wait for the next.
func (m *Manager) doJobs(ctx context.Context, p *partition, l *leadership, man bucket.Manifest) (bucket.Manifest, error) {
	for {
		p.mu.Lock()
		if len(l.jobs) == 0 {
			p.mu.Unlock()
			return man, nil
		}
		j := l.jobs[0]
		l.jobs = l.jobs[1:]
		p.mu.Unlock()
		var err error
		if man, err = j(ctx, man); err != nil {
			return man, err
		}
	}
}

// parts are the manager's partitions as the collector sees them.
type parts struct{ m *Manager }

// Led implements gc.Partitions.
func (a parts) Led() []gc.Led {
	var all []gc.Led
	for _, p := range a.m.snapshot() {
		if l := p.leadership(); l != nil {
			all = append(all, term{a.m, p, l})
		}
	}
	return all
}

// Find implements gc.Partitions.
func (a parts) Find(tip metadata.TopicIDPartition) gc.Led {
	if p := a.m.known(tip); p != nil {
		if l := p.leadership(); l != nil {
			return term{a.m, p, l}
		}
	}
	return nil
}

// Current implements gc.Partitions.
func (a parts) Current(ctx context.Context, tip metadata.TopicIDPartition, fresh bool) (bucket.Manifest, error) {
	return a.m.current(ctx, a.m.partition(tip), fresh)
}

// Leads implements read.Manifests.
func (a parts) Leads(tip metadata.TopicIDPartition) bool { return a.m.partition(tip).led() }

// Forget implements gc.Partitions.
func (a parts) Forget(tip metadata.TopicIDPartition) {
	a.m.Resign(tip)
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	delete(a.m.partitions, tip)
}

// Repair implements gc.Partitions.
func (a parts) Repair(ctx context.Context, p gc.Led, man bucket.Manifest, e manifest.Entry, d bucket.Damage) (string, bucket.Manifest, error) {
	x := p.(term)
	return a.m.replaceObjects(ctx, x.p, x.l, man, e, d)
}

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

// led is one leadership as the collector sees it.
type led struct {
	m *Manager
	p *partition
	l *leadership
}

// TopicIDPartition implements gc.Led.
func (d led) TopicIDPartition() metadata.TopicIDPartition { return d.p.tip }

// Topic implements gc.Led.
func (d led) Topic() string { return d.l.Topic }

// Epoch implements gc.Led.
func (d led) Epoch() int32 { return d.l.Epoch }

// Ready implements gc.Led.
func (d led) Ready() bool {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return d.l.loaded && !d.l.fenced
}

// Extent implements gc.Led.
func (d led) Extent() (start, last int64) {
	v := d.p.view.Load()
	return v.StartOffset, v.HighestOffset
}

// Holds implements gc.Led.
func (d led) Holds(stem string) bool { return d.l.batch.Holds(stem) }

// Confirm implements gc.Led.
func (d led) Confirm(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error) {
	swapped, err := d.m.swap(ctx, d.p, man.Pointer, d.l.Epoch, man.Pointer)
	if errors.Is(err, metadata.ErrFenced) {
		d.p.fence(d.l)
		err = fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if err != nil {
		d.p.unload(d.l)
		return man, fmt.Errorf("swap the pointer for itself: %w", err)
	}
	d.p.setPointer(swapped)
	man.Pointer = swapped
	return man, nil
}

// Ask implements gc.Led.
func (d led) Ask(j gc.Job) {
	p, l := d.p, d.l
	p.mu.Lock()
	if p.leader == l {
		l.jobs = append(l.jobs, j)
		l.keepAt = time.Time{}
	}
	p.mu.Unlock()
	d.m.nudge()
}

// Do implements gc.Led.
func (d led) Do(ctx context.Context, j gc.Job) error {
	done := make(chan error, 1)
	d.Ask(func(pass context.Context, man bucket.Manifest) (bucket.Manifest, error) {
		next, err := j(pass, man)
		done <- err
		return next, err
	})
	tick := time.NewTicker(d.m.o.Poll)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			d.p.mu.Lock()
			gone := d.p.leader != d.l && !d.p.busy
			d.p.mu.Unlock()
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
			all = append(all, led{a.m, p, l})
		}
	}
	return all
}

// Find implements gc.Partitions.
func (a parts) Find(tip metadata.TopicIDPartition) gc.Led {
	a.m.mu.Lock()
	p := a.m.partitions[tip]
	a.m.mu.Unlock()
	if p == nil {
		return nil
	}
	if l := p.leadership(); l != nil {
		return led{a.m, p, l}
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
	a.m.mu.Lock()
	p := a.m.partitions[tip]
	delete(a.m.partitions, tip)
	a.m.mu.Unlock()
	if p != nil {
		p.resign()
	}
}

// Repair implements gc.Partitions.
func (a parts) Repair(ctx context.Context, p gc.Led, man bucket.Manifest, e manifest.Entry, d bucket.Damage) (string, bucket.Manifest, error) {
	x := p.(led)
	return a.m.replaceObjects(ctx, x.p, x.l, man, e, d)
}

package tiering

import (
	"context"
	"errors"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// keep is a partition's housekeeping: retention, pending deletions, and the topic's description. It runs only
// with a loaded view: a leader that does not know the tier removes nothing.
func (m *Manager) keep(ctx context.Context, p *partition, l *leadership, now time.Time) error {
	p.mu.Lock()
	l.keepAt = now.Add(m.o.Interval)
	waiting := len(l.jobs) > 0
	p.mu.Unlock()
	seen := m.look(p, l)
	if !waiting && l.idle.lasts(seen, now) {
		return m.topics.Refresh(ctx, &l.Leader)
	}
	l.idle = nil
	man, err := m.current(ctx, p, false)
	if err != nil {
		return err
	}
	p.catchUp(l, man)
	next, err := m.advanceLogStart(ctx, l, man, now)
	if err != nil {
		return err
	}
	gives := man.Root != nil && m.givesUp(l)
	if gives {
		if err := m.startLocally(l); err != nil {
			return err
		}
	}
	man, err = m.doJobs(ctx, p, l, man)
	if err != nil || man.Root == nil || p.isHeld() {
		return err
	}
	done, failed := m.collect(ctx, l, man, now)
	e, dropped, err := m.shrink(ctx, l, man, done, now, gives)
	if err != nil {
		return errors.Join(err, failed)
	}
	moved := l.Log.LogStart() > e.Next.LogStartOffset && (l.tiered || e.Next.Segments > 0)
	e.Next.LogStartOffset = max(e.Next.LogStartOffset, l.Log.LogStart())
	if dropped || moved || manifest.WorthForgetting(man.Root.Garbage, done) {
		if err := m.commit(ctx, p, l, man, e); err != nil {
			return errors.Join(err, failed)
		}
		if dropped {
			m.log.Info("DELETE_SEGMENT_STARTED", "topic", l.Topic, "partition", p.tip.Partition, "epoch", l.Epoch,
				"segments", man.Root.Segments-e.Next.Segments, "bytes", man.Root.Bytes-e.Next.Bytes, "offset", e.Next.StartOffset)
		}
	}
	if !gives && !dropped && !moved && failed == nil && len(done) == len(man.Root.Garbage) {
		l.idle = &idle{sight: seen, until: next}
	}
	return errors.Join(failed, m.topics.Refresh(ctx, &l.Leader))
}

// idle is a housekeeping that found nothing to do. Until something of what it saw changes, or the next segment expires,
// others would find the same, and do not read the manifest for it.
type idle struct {
	sight
	until time.Time // zero: nothing expires by time
}

// sight is what housekeeping depends on, but for the time and what was asked of it.
type sight struct {
	pointer                 metadata.RemotePointer
	config                  segment.Config
	start, watermark, end   int64 // of the log
	localStart, localBytes  int64
	sealed                  int
	deleteOnDisable, isHeld bool
}

// look returns what the next housekeeping depends on.
func (m *Manager) look(p *partition, l *leadership) sight {
	p.mu.Lock()
	pointer := p.pointer
	p.mu.Unlock()
	if seen, ok := m.o.Metadata.Image().RemotePointer(p.tip); ok && seen.ModRevision > pointer.ModRevision {
		pointer = seen
	}
	return sight{
		pointer: pointer, config: l.Log.Config(), start: l.Log.LogStart(), watermark: l.Log.HighWatermark(), end: l.Log.LogEnd(),
		localStart: l.Log.LocalLogStart(), localBytes: l.Log.LocalBytes(), sealed: len(l.Log.Sealed(0)),
		deleteOnDisable: m.o.Topic(l.Topic).DeleteOnDisable, isHeld: p.isHeld(),
	}
}

// lasts says whether housekeeping would find what i found.
func (i *idle) lasts(seen sight, now time.Time) bool {
	return i != nil && i.sight == seen && (i.until.IsZero() || now.Before(i.until))
}

// collectPause is the longest pause between deletions that fail.
const collectPause = 30 * time.Minute

// collect deletes what the garbage list says is due, and returns the items that are gone. What the store refuses is tried
// again after pauses that double: a policy that forbids deletions does not change from one housekeeping to the next, and
// each try costs requests for all that waits.
func (m *Manager) collect(ctx context.Context, l *leadership, man bucket.Manifest, now time.Time) ([]int, error) {
	if now.Before(l.collectAt) {
		return manifest.SweptItems(man.Root.Garbage, l.swept), nil
	}
	done, swept, err := m.gc.Collect(ctx, man, l.swept, now)
	l.swept = swept
	if err == nil {
		l.refused, l.collectAt = 0, time.Time{}
		return done, nil
	}
	l.collectAt = now.Add(bucket.Backoff(l.refused, m.o.Interval, max(collectPause, m.o.Interval)))
	l.refused++
	return done, err
}

// shrink takes out of the manifest what lies below the log start, or, when the tier is given up, all of it.
func (m *Manager) shrink(ctx context.Context, l *leadership, man bucket.Manifest, done []int, now time.Time, gives bool) (*manifest.Edit, bool, error) {
	begin := func() *manifest.Edit {
		e := manifest.NewEdit(man.Root, man.Load, now, m.o.Grace)
		e.Forget(done)
		return e
	}
	if gives && man.Root.Segments > 0 {
		e := begin()
		if err := e.GiveUp(ctx, l.Log.LogStart()); !errors.Is(err, manifest.ErrNoRoom) {
			return e, err == nil, err
		}
	}
	e := begin()
	dropped, err := e.DropBefore(ctx, min(l.Log.LogStart(), man.End()))
	return e, dropped, err
}

// advanceLogStart is total retention: it moves the log start; segments go later, and only because of that. It returns when
// more may expire by time, zero if not before something changes.
func (m *Manager) advanceLogStart(ctx context.Context, l *leadership, man bucket.Manifest, now time.Time) (time.Time, error) {
	due, err := m.gc.Expired(ctx, l.Log, man, now)
	if err != nil {
		return time.Time{}, err
	}
	moved, err := l.startAt(min(due.Start, l.Log.HighWatermark()))
	if moved {
		m.log.Info("log start advanced by retention", "topic", l.Topic, "partition", l.TIP.Partition, "offset", l.Log.LogStart())
	}
	return due.Next, err
}

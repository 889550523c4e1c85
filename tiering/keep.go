package tiering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// keep is a partition's housekeeping: retention, pending deletions, and the topic's description. It runs only
// with a loaded view: a leader that does not know the tier removes nothing.
func (m *Manager) keep(ctx context.Context, p *partition, l *leadership, now time.Time) error {
	p.mu.Lock()
	l.keepAt = now.Add(m.o.Interval)
	p.mu.Unlock()
	man, err := m.current(ctx, p, false)
	if err != nil {
		return err
	}
	p.catchUp(l, man)
	if err := m.advanceLogStart(ctx, l, man, now); err != nil {
		return err
	}
	gives := man.Root != nil && m.givesUp(l)
	if gives {
		if err := m.startLocally(l); err != nil {
			return err
		}
	}
	man, err = m.doJobs(ctx, p, l, man)
	if err != nil || man.Root == nil {
		return err
	}
	done, swept, failed := m.gc.Collect(ctx, man, l.swept, now)
	l.swept = swept
	e, dropped, err := m.shrink(ctx, l, man, done, now, gives)
	if err != nil {
		return errors.Join(err, failed)
	}
	moved := l.log.LogStart() > e.Next.LogStartOffset && (l.tiered || e.Next.Segments > 0)
	e.Next.LogStartOffset = max(e.Next.LogStartOffset, l.log.LogStart())
	if dropped || moved || worthForgetting(man.Root.Garbage, done) {
		if err := m.commit(ctx, p, l, man, e); err != nil {
			return errors.Join(err, failed)
		}
		if dropped {
			m.log.Info("DELETE_SEGMENT_STARTED", "topic", l.topic, "partition", p.tip.Partition, "epoch", l.epoch,
				"segments", man.Root.Segments-e.Next.Segments, "bytes", man.Root.Bytes-e.Next.Bytes, "offset", e.Next.StartOffset)
		}
	}
	return errors.Join(failed, m.refreshTopicFile(ctx, l.topic, p.tip))
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
		if err := e.GiveUp(ctx, l.log.LogStart()); !errors.Is(err, manifest.ErrNoRoom) {
			return e, err == nil, err
		}
	}
	e := begin()
	dropped, err := e.DropBefore(ctx, min(l.log.LogStart(), man.End()))
	return e, dropped, err
}

// advanceLogStart is total retention, by time and by size, over the tier and what is only local. It moves the log
// start; segments go later, and only because of that.
func (m *Manager) advanceLogStart(ctx context.Context, l *leadership, man bucket.Manifest, now time.Time) error {
	cfg := l.log.Config()
	start := l.log.LogStart()
	if man.Root != nil { // what a commit has dropped is gone, whatever the local checkpoint says
		start = max(start, man.Root.StartOffset, man.Root.LogStartOffset)
	}
	x := expiry{cutoff: -1 << 62, free: -1}
	if cfg.Delete && cfg.RetentionAge >= 0 {
		x.cutoff = now.Add(-cfg.RetentionAge).UnixMilli()
	}
	sealed := l.log.Sealed(max(man.End(), start))
	if cfg.Delete && cfg.RetentionBytes >= 0 {
		x.free = -cfg.RetentionBytes
		if man.Root != nil {
			x.free += man.Root.Bytes
		}
		x.free += m.localOnly(l, man)
	}
	x.start = start
	done := true
	if man.Root != nil {
		var err error
		if done, err = x.tier(ctx, man.Tree); err != nil {
			return err
		}
	}
	for i := 0; done && i < len(sealed); i++ {
		newest, err := sealed[i].Newest(now)
		if err != nil {
			// Nobody knows whether it is old, so it and what follows stays.
			m.log.Warn("statistics of a segment cannot be read, it does not expire", "topic", l.topic,
				"partition", l.log.TopicPartition().Partition, "segment", sealed[i].BaseOffset, "err", err)
			break
		}
		done = x.one(sealed[i].LastOffset, newest.UnixMilli(), sealed[i].Size)
	}
	target := min(x.start, l.log.HighWatermark())
	if target <= l.log.LogStart() {
		return nil
	}
	if err := l.log.SetLogStart(target); err != nil {
		return fmt.Errorf("set log start %d: %w", target, err)
	}
	m.log.Info("log start advanced by retention", "topic", l.topic, "partition", l.log.TopicPartition().Partition, "offset", target)
	return nil
}

// localOnly is the size of what the tier does not hold, the active segment included.
func (m *Manager) localOnly(l *leadership, man bucket.Manifest) int64 {
	bytes := l.log.LocalBytes()
	for _, s := range l.log.Sealed(0) {
		if s.LastOffset < man.End() {
			bytes -= s.Size
		}
	}
	return max(bytes, 0)
}

// expiry walks a log from its oldest segment on.
type expiry struct {
	cutoff int64 // highest timestamps below it are expired
	free   int64 // bytes above the limit; < 0: none
	start  int64 // the log start so far
}

// one says whether the next segment is expired: too old, or the log is large enough without it.
func (x *expiry) one(last, maxTS, bytes int64) bool {
	bySize := x.free >= 0 && x.free >= bytes
	if last >= x.start && maxTS >= x.cutoff && !bySize {
		return false
	}
	x.start = max(x.start, last+1)
	x.free -= bytes
	return true
}

// tier walks the manifest; true means that all of it is expired. Whole nodes are decided by their reference.
func (x *expiry) tier(ctx context.Context, t manifest.Tree) (bool, error) {
	refs := t.Root.Refs
	for i := range refs {
		bytes := refs[i].Bytes
		if i == 0 {
			bytes -= t.Root.Trimmed.Bytes
		}
		if whole := *x; whole.one(refs[i].LastOffset, refs[i].MaxTimestamp, bytes) {
			*x = whole
			continue
		}
		// Some of it may be: the walk ends at the first entry that is not.
		sub := manifest.Tree{Root: &manifest.Root{StartOffset: t.Root.StartOffset, Refs: refs[i : i+1]}, Load: t.Load}
		for e, err := range sub.Walk(ctx, t.Root.StartOffset, nil) {
			if err != nil {
				return false, err
			}
			if !x.one(e.LastOffset, e.MaxTimestamp, e.Bytes) {
				return false, nil
			}
		}
	}
	for i := range t.Root.Tail {
		e := &t.Root.Tail[i]
		if !x.one(e.LastOffset, e.MaxTimestamp, e.Bytes) {
			return false, nil
		}
	}
	return true, nil
}

// worthForgetting says whether done has an item that is more than a former root.
func worthForgetting(items []manifest.Garbage, done []int) bool {
	for _, i := range done {
		if items[i].Roots == nil {
			return true
		}
	}
	return false
}

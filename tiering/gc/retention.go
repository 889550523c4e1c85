package gc

import (
	"context"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Expiry is what total retention asks of a log.
type Expiry struct {
	Start int64 // at which the log is to start; it may lie behind the high watermark
	// Next is when more may expire by time alone, or now while not all is known; zero: not before something changes.
	Next time.Time
}

// Expired is total retention, by time and by size, over the tier and what is only local.
func (c *Collector) Expired(ctx context.Context, log *segment.Log, man bucket.Manifest, now time.Time) (Expiry, error) {
	cfg := log.Config()
	x := retention{now: now.UnixMilli(), free: -1, start: log.LogStart()}
	if man.Root != nil { // what a commit has dropped is gone, whatever the local checkpoint says
		x.start = max(x.start, man.Root.StartOffset, man.Root.LogStartOffset)
	}
	if cfg.Delete && cfg.RetentionAge >= 0 {
		x.byTime, x.cutoff = true, now.Add(-cfg.RetentionAge).UnixMilli()
	}
	sealed := log.Sealed(max(man.End(), x.start))
	sized := true
	if cfg.Delete && cfg.RetentionBytes >= 0 {
		x.free, sized = c.above(cfg.RetentionBytes, log, man)
	}
	done := true
	if man.Root != nil {
		var err error
		if done, err = x.tier(ctx, man.Tree); err != nil {
			return Expiry{}, err
		}
	}
	for i := 0; done && i < len(sealed); i++ {
		newest, err := sealed[i].Newest(now)
		if err != nil {
			// Nobody knows whether it is old, so it and what follows stays.
			c.log.Warn("statistics of a segment cannot be read, it does not expire", "topic", log.TopicPartition().Topic,
				"partition", log.TopicPartition().Partition, "segment", sealed[i].BaseOffset, "err", err)
			return Expiry{Start: x.start, Next: now}, nil
		}
		done = x.one(sealed[i].LastOffset, newest, sealed[i].Size)
	}
	e := Expiry{Start: x.start}
	switch {
	case !sized:
		e.Next = now
	case x.byTime && !x.stays.IsZero():
		e.Next = x.stays.Add(cfg.RetentionAge)
	}
	return e, nil
}

// above is by how many bytes log and tier together are larger than limit; -1 and false when that is not known.
func (c *Collector) above(limit int64, log *segment.Log, man bucket.Manifest) (int64, bool) {
	local, err := localOnly(log, man.End())
	if err != nil {
		c.log.Warn("the size of a log cannot be read, nothing of it goes for its size", "topic", log.TopicPartition().Topic,
			"partition", log.TopicPartition().Partition, "offset", man.End(), "err", err)
		return -1, false
	}
	if man.Root != nil {
		local += man.Root.Bytes
	}
	return local - limit, true
}

// localOnly is the size of what a log has behind offset end, where the tier ends. Segments need not end there: the tier
// has those of the leader that copied them.
func localOnly(log *segment.Log, end int64) (int64, error) {
	if end > log.LogEnd() {
		return 0, nil
	}
	bytes, _, err := log.Behind(max(end, log.LocalLogStart()))
	return bytes, err
}

// retention walks a log from its oldest segment on and finds where it is to start: by time, by size, or both.
type retention struct {
	now    int64
	byTime bool
	cutoff int64     // what is older is expired
	free   int64     // bytes above the limit; < 0: none
	start  int64     // the log start so far
	stays  time.Time // of the first segment that does not go; zero: unknown, or all go
}

// ageOf is the time of the entry's newest record, or, where no record has a time, or one before 1970 or after now, when it
// was copied: the log's own rule is that of the file's time. Without that either nobody knows how old it is: zero.
func (x *retention) ageOf(e *manifest.Entry) time.Time {
	switch {
	case e.MaxTimestamp >= 0 && e.MaxTimestamp <= x.now:
		return time.UnixMilli(e.MaxTimestamp)
	case e.Created > 0:
		return time.UnixMilli(e.Created)
	}
	return time.Time{}
}

// one says whether the next segment, of a time that may be unknown, goes: too old, or the log is large enough without it.
func (x *retention) one(last int64, at time.Time, bytes int64) bool {
	tooOld := x.byTime && !at.IsZero() && at.UnixMilli() < x.cutoff
	bySize := x.free >= 0 && x.free >= bytes
	if last >= x.start && !tooOld && !bySize {
		x.stays = at
		return false
	}
	x.start = max(x.start, last+1)
	x.free -= bytes
	return true
}

// tier walks the manifest; true means that all of it is expired. Whole nodes are decided by their reference where size or
// the log start decide. Time does not: a reference has the highest timestamp of all below it, which says nothing about
// entries whose records have none.
func (x *retention) tier(ctx context.Context, t manifest.Tree) (bool, error) {
	refs := t.Root.Refs
	for i := range refs {
		bytes := refs[i].Bytes
		if i == 0 {
			bytes -= t.Root.Trimmed.Bytes
		}
		if x.one(refs[i].LastOffset, time.Time{}, bytes) {
			continue
		}
		if !x.byTime && x.free < 0 {
			return false, nil // nothing can expire: the node need not be read
		}
		// Some of it may be: the walk ends at the first entry that is not.
		sub := manifest.Tree{Root: &manifest.Root{StartOffset: t.Root.StartOffset, Refs: refs[i : i+1]}, Load: t.Load}
		for e, err := range sub.Walk(ctx, t.Root.StartOffset, nil) {
			if err != nil {
				return false, err
			}
			if !x.one(e.LastOffset, x.ageOf(e), e.Bytes) {
				return false, nil
			}
		}
	}
	for i := range t.Root.Tail {
		e := &t.Root.Tail[i]
		if !x.one(e.LastOffset, x.ageOf(e), e.Bytes) {
			return false, nil
		}
	}
	return true, nil
}

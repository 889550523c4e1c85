package gc

import (
	"context"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Expired is total retention, by time and by size, over the tier and what is only local: the offset at which the log is
// to start. It may lie behind the high watermark.
func (c *Collector) Expired(ctx context.Context, log *segment.Log, man bucket.Manifest, now time.Time) (int64, error) {
	cfg := log.Config()
	x := retention{cutoff: -1 << 62, free: -1, start: log.LogStart()}
	if man.Root != nil { // what a commit has dropped is gone, whatever the local checkpoint says
		x.start = max(x.start, man.Root.StartOffset, man.Root.LogStartOffset)
	}
	if cfg.Delete && cfg.RetentionAge >= 0 {
		x.cutoff = now.Add(-cfg.RetentionAge).UnixMilli()
	}
	sealed := log.Sealed(max(man.End(), x.start))
	if cfg.Delete && cfg.RetentionBytes >= 0 {
		x.free = -cfg.RetentionBytes
		if man.Root != nil {
			x.free += man.Root.Bytes
		}
		x.free += localOnly(log, man.End())
	}
	done := true
	if man.Root != nil {
		var err error
		if done, err = x.tier(ctx, man.Tree); err != nil {
			return 0, err
		}
	}
	for i := 0; done && i < len(sealed); i++ {
		newest, err := sealed[i].Newest(now)
		if err != nil {
			// Nobody knows whether it is old, so it and what follows stays.
			c.log.Warn("statistics of a segment cannot be read, it does not expire", "topic", log.TopicPartition().Topic,
				"partition", log.TopicPartition().Partition, "segment", sealed[i].BaseOffset, "err", err)
			break
		}
		done = x.one(sealed[i].LastOffset, newest.UnixMilli(), sealed[i].Size)
	}
	return x.start, nil
}

// localOnly is the size of what a tier that ends at offset end does not hold of a log, the active segment included.
func localOnly(log *segment.Log, end int64) int64 {
	bytes := log.LocalBytes()
	for _, s := range log.Sealed(0) {
		if s.LastOffset < end {
			bytes -= s.Size
		}
	}
	return max(bytes, 0)
}

// retention walks a log from its oldest segment on and finds where it is to start: by time, by size, or both.
type retention struct {
	cutoff int64 // highest timestamps below it are expired
	free   int64 // bytes above the limit; < 0: none
	start  int64 // the log start so far
}

// one says whether the next segment is expired: too old, or the log is large enough without it.
func (x *retention) one(last, maxTS, bytes int64) bool {
	bySize := x.free >= 0 && x.free >= bytes
	if last >= x.start && maxTS >= x.cutoff && !bySize {
		return false
	}
	x.start = max(x.start, last+1)
	x.free -= bytes
	return true
}

// tier walks the manifest; true means that all of it is expired. Whole nodes are decided by their reference.
func (x *retention) tier(ctx context.Context, t manifest.Tree) (bool, error) {
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

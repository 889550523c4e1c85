package gc

import (
	"context"

	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Retention walks a log from its oldest segment on and finds where it is to start: by time, by size, or both.
type Retention struct {
	Cutoff int64 // highest timestamps below it are expired
	Free   int64 // bytes above the limit; < 0: none
	Start  int64 // the log start so far
}

// One says whether the next segment is expired: too old, or the log is large enough without it.
func (x *Retention) One(last, maxTS, bytes int64) bool {
	bySize := x.Free >= 0 && x.Free >= bytes
	if last >= x.Start && maxTS >= x.Cutoff && !bySize {
		return false
	}
	x.Start = max(x.Start, last+1)
	x.Free -= bytes
	return true
}

// Tier walks the manifest; true means that all of it is expired. Whole nodes are decided by their reference.
func (x *Retention) Tier(ctx context.Context, t manifest.Tree) (bool, error) {
	refs := t.Root.Refs
	for i := range refs {
		bytes := refs[i].Bytes
		if i == 0 {
			bytes -= t.Root.Trimmed.Bytes
		}
		if whole := *x; whole.One(refs[i].LastOffset, refs[i].MaxTimestamp, bytes) {
			*x = whole
			continue
		}
		// Some of it may be: the walk ends at the first entry that is not.
		sub := manifest.Tree{Root: &manifest.Root{StartOffset: t.Root.StartOffset, Refs: refs[i : i+1]}, Load: t.Load}
		for e, err := range sub.Walk(ctx, t.Root.StartOffset, nil) {
			if err != nil {
				return false, err
			}
			if !x.One(e.LastOffset, e.MaxTimestamp, e.Bytes) {
				return false, nil
			}
		}
	}
	for i := range t.Root.Tail {
		e := &t.Root.Tail[i]
		if !x.One(e.LastOffset, e.MaxTimestamp, e.Bytes) {
			return false, nil
		}
	}
	return true, nil
}

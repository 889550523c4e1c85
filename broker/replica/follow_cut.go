package replica

import (
	"context"
	"errors"
	"time"

	"github.com/coldbrook/coldbrook/segment"
)

// aside has the disk or the tier work for a partition, which is not fetched
// meanwhile; the others are.
func (w *fetcher) aside(fo *follow, work func()) {
	fo.aside.Store(true)
	w.starts.Go(func() {
		defer func() {
			fo.aside.Store(false)
			w.f.settle(w)
		}()
		work()
	})
}

// settle ends a long poll of w, for a partition that can go on.
func (f *fetchers) settle(w *fetcher) {
	f.mu.Lock()
	busy := w.changedLocked()
	f.mu.Unlock()
	busy.interruptIfIdle()
}

// slot waits for one of maxCuts, unless the partition is not followed any more.
func (f *fetchers) slot(ctx context.Context, fo *follow) (release func(), ok bool) {
	select {
	case f.cuts <- struct{}{}:
		return func() { <-f.cuts }, true
	case <-fo.over:
	case <-ctx.Done():
	}
	return nil, false
}

// startCut has the cut made that is due: that syncs several files, and waits for a checkpoint
// that is written for many.
func (w *fetcher) startCut(ctx context.Context, fo *follow) {
	c := fo.due
	fo.due = nil
	w.aside(fo, func() {
		release, ok := w.f.slot(ctx, fo)
		if !ok {
			return
		}
		defer release()
		switch err := fo.locked(func() error { return fo.truncate(c, &w.report) }); {
		case err == nil:
			fo.fine(&w.report)
		case !errors.Is(err, errOver):
			fo.fault(err, time.Now(), &w.report)
		}
	})
}

// trim moves the log start to the leader's, durably, while the partition is fetched
// on. What is under way when it is not followed any more still ends: the log started
// there for its leader.
func (w *fetcher) trim(ctx context.Context, fo *follow) {
	if !fo.startsLate() || fo.trimming.Swap(true) {
		return
	}
	w.starts.Go(func() {
		for more := true; more; {
			more = w.moveStart(ctx, fo)
			fo.trimming.Store(false)
			// What the leader said meanwhile found somebody at work, and is not said again.
			more = more && fo.startsLate() && !fo.trimming.Swap(true)
		}
	})
}

// startsLate says whether the leader's log starts later than ours, as far as ours may.
func (fo *follow) startsLate() bool {
	return min(fo.start.Load(), fo.p.log.HighWatermark()) > fo.p.log.LogStart()
}

// moveStart tries until the log start has moved, or the partition is not followed any
// more. It gives up where trying does not help: who can tell why does, and a log that
// was cut meanwhile is told again.
func (w *fetcher) moveStart(ctx context.Context, fo *follow) (moved bool) {
	for faults := 1; ; faults++ {
		release, ok := w.f.slot(ctx, fo)
		if !ok {
			return false
		}
		err := fo.p.log.SetLogStart(fo.start.Load())
		release()
		switch {
		case err == nil:
			return true
		case errors.Is(err, segment.ErrOffline), errors.Is(err, segment.ErrClosed), errors.Is(err, segment.ErrOffsetOutOfRange):
			return false
		}
		if faults == 1 || faults == noisy {
			w.f.m.log.Warn("log start of a follower does not move, trying on", "partition", fo.p.tp, "offset", fo.start.Load(), "err", err)
		}
		pause(ctx, backoff(faults, w.f.m.o.FetchBackoff), fo.over)
	}
}

package segment

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// syncWorkers is how many syncs of a log directory run at the same time. The
// kernel commits its journal once for all that wait for it; more workers than
// this make each sync cover less. Measured: see doc.go.
const syncWorkers = 8

// syncRetry is how long the committer waits when descriptors are short.
const syncRetry = time.Second

// committer is the group commit of one log directory. Appends put their log on
// its list; workers take logs off and make durable all that is appended by then.
// What is appended meanwhile puts the log on the list again: one sync pays for
// all who wait for it. Of one log at most two syncs run at the same time (see
// slot), so that the second collects while the first works.
type committer struct {
	dir  *Dir
	wake chan struct{}
	soon chan struct{} // the relaxed logs changed

	mu      sync.Mutex
	list    []*Log // list[first:] waits
	first   int
	relaxed map[*Log]time.Time // deadline of logs that declare records synced
}

func newCommitter(d *Dir) *committer {
	return &committer{
		dir: d, wake: make(chan struct{}, syncWorkers), soon: make(chan struct{}, 1),
		relaxed: map[*Log]time.Time{},
	}
}

// add puts l on the list, unless it is there.
func (c *committer) add(l *Log) {
	if l.queued.Swap(true) {
		return
	}
	c.mu.Lock()
	c.list = append(c.list, l)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // all workers are at work and look at the list before they wait
	}
}

// take returns the log that waits for longest, nil if there is none.
func (c *committer) take() *Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == len(c.list) {
		return nil
	}
	l := c.list[c.first]
	c.list[c.first] = nil
	if c.first++; c.first == len(c.list) || c.first >= 1024 {
		c.list, c.first = c.list[:copy(c.list, c.list[c.first:])], 0
	}
	return l
}

// addRelaxed puts l on the list for the call of OnSynced only, and notes when it
// must be synced at the latest.
func (c *committer) addRelaxed(l *Log, interval time.Duration) {
	c.add(l)
	if interval <= 0 {
		return
	}
	c.mu.Lock()
	at, due := c.relaxed[l], time.Now().Add(interval)
	sooner := at.IsZero() || due.Before(at)
	if sooner {
		c.relaxed[l] = due
	}
	c.mu.Unlock()
	if sooner {
		select {
		case c.soon <- struct{}{}:
		default:
		}
	}
}

// due requests the sync of logs whose deadline is over, and returns how long
// until the next one, 0 if there is none.
func (c *committer) due(now time.Time) time.Duration {
	c.mu.Lock()
	var ready []*Log
	var next time.Duration
	for l, at := range c.relaxed {
		if wait := at.Sub(now); wait <= 0 {
			delete(c.relaxed, l)
			ready = append(ready, l)
		} else if next == 0 || wait < next {
			next = wait
		}
	}
	c.mu.Unlock()
	for _, l := range ready {
		l.RequestSync()
	}
	return next
}

func (c *committer) run(ctx context.Context) error {
	var g errgroup.Group
	for range syncWorkers {
		g.Go(func() error { return c.work(ctx) })
	}
	g.Go(func() error { return c.watchDeadlines(ctx) })
	return g.Wait()
}

func (c *committer) watchDeadlines(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if wait := c.due(time.Now()); wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.soon:
		}
	}
}

func (c *committer) work(ctx context.Context) error {
	var job syncJob
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		for l := c.take(); l != nil && ctx.Err() == nil; l = c.take() {
			c.commit(ctx, l, &job)
		}
	}
}

// commit makes a log durable as far as it asks for that, and tells its owner.
func (c *committer) commit(ctx context.Context, l *Log, job *syncJob) {
	l.queued.Store(false)
	if c.dir.Offline() != nil {
		return
	}
	if l.needSync.Swap(false) {
		slot, ok := l.trySlot()
		if !ok {
			return // whoever frees a slot puts l on the list again
		}
		start := time.Now()
		files, err := l.syncSlot(slot, job)
		l.freeSlot(slot)
		if err != nil {
			if vfs.Heals(err) {
				c.addRelaxed(l, syncRetry) // nobody else would ask again
			}
			return // closed, or the error is the directory's: OnOffline tells
		}
		if files > 0 {
			c.dir.metrics.synced(ctx, time.Since(start))
		}
	}
	c.tell(l)
}

// tell calls the owner of a log, one call at a time: whoever comes meanwhile
// leaves the call to the one who is there.
func (c *committer) tell(l *Log) {
	if l.onSynced == nil || l.telling.Add(1) != 1 {
		return
	}
	for {
		seen := l.telling.Load()
		if c.dir.Offline() == nil {
			l.onSynced(l.synced.Load())
		}
		if l.telling.CompareAndSwap(seen, 0) {
			return
		}
	}
}

package segment

import (
	"context"
	"sync"
	"time"
)

// syncParallel bounds how many files one round syncs at the same time.
const syncParallel = 16

// committer is the group commit of one log directory. Appends put their log on
// its list; each round syncs the files of all logs on the list, in parallel, and
// moves their SyncedOffset. What is appended during a round waits for the next
// one, so one sync pays for all who wait.
type committer struct {
	dir  *Dir
	wake chan struct{}

	mu      sync.Mutex
	list    []*Log
	relaxed map[*Log]time.Time // deadline of logs that declare records synced
}

func newCommitter(d *Dir) *committer {
	return &committer{dir: d, wake: make(chan struct{}, 1), relaxed: map[*Log]time.Time{}}
}

// add puts l on the list of the next round.
func (c *committer) add(l *Log) {
	if l.queued.Swap(true) {
		return
	}
	c.mu.Lock()
	c.list = append(c.list, l)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// addRelaxed puts l on the list for the call of OnSynced only, and notes when it
// must be synced at the latest.
func (c *committer) addRelaxed(l *Log, interval time.Duration) {
	if interval > 0 {
		c.mu.Lock()
		if _, ok := c.relaxed[l]; !ok {
			c.relaxed[l] = time.Now().Add(interval)
		}
		c.mu.Unlock()
	}
	c.add(l)
}

// take returns the list and starts a new one in spare.
func (c *committer) take(spare []*Log) []*Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = spare[:0]
	return list
}

// due moves logs whose deadline is over to the list, and returns how long until
// the next one, 0 if there is none.
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
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var r round
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
			continue
		case <-c.wake:
		}
		r.logs = c.take(r.spare)
		r.spare = r.logs
		c.commit(ctx, &r)
	}
}

// round is the memory of one group commit, kept for the next one. spare and logs
// take turns as the list that appends fill.
type round struct {
	logs, spare []*Log
	jobs        []syncJob
	errs        []error
}

// commit carries out one round. After an error the directory is offline, the logs
// of the round keep their SyncedOffset and nobody is told.
func (c *committer) commit(ctx context.Context, r *round) {
	start := time.Now()
	if cap(r.jobs) < len(r.logs) {
		r.jobs = append(r.jobs[:cap(r.jobs)], make([]syncJob, len(r.logs)-cap(r.jobs))...)
		r.errs = make([]error, cap(r.jobs))
	}
	r.jobs, r.errs = r.jobs[:len(r.logs)], r.errs[:len(r.logs)]
	var todo, files int
	for i, l := range r.logs {
		l.queued.Store(false)
		r.errs[i] = nil
		r.jobs[i].log = nil
		if c.dir.Offline() != nil || !l.needSync.Swap(false) {
			continue
		}
		ok, err := l.beginSync(&r.jobs[i])
		if err != nil || !ok {
			r.jobs[i].log = nil // closed or nothing to do
			continue
		}
		todo++
		files += len(r.jobs[i].parts)
	}
	c.sync(r, todo)
	for i, l := range r.logs {
		job := &r.jobs[i]
		if job.log != nil && r.errs[i] != nil {
			job.release()
			// The error is the directory's now; OnOffline tells the owner.
			_ = l.failSync(r.errs[i])
			continue
		}
		if job.log != nil {
			l.endSync(job)
		}
		if l.onSynced != nil && c.dir.Offline() == nil {
			l.onSynced(l.synced.Load())
		}
		r.logs[i] = nil
	}
	if todo > 0 {
		c.dir.metrics.round(ctx, time.Since(start), files)
	}
}

// sync runs the jobs of a round: one alone here, more of them in parallel.
func (c *committer) sync(r *round, todo int) {
	if todo <= 1 {
		for i := range r.jobs {
			if r.jobs[i].log != nil {
				r.errs[i] = r.jobs[i].run()
			}
		}
		return
	}
	var next sync.Mutex
	at := 0
	take := func() int {
		next.Lock()
		defer next.Unlock()
		for at < len(r.jobs) {
			at++
			if r.jobs[at-1].log != nil {
				return at - 1
			}
		}
		return -1
	}
	work := func() {
		for i := take(); i >= 0; i = take() {
			r.errs[i] = r.jobs[i].run()
		}
	}
	var wg sync.WaitGroup
	for range min(todo, syncParallel) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

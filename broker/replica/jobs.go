package replica

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// opensAtOnce bounds how many logs are opened at the same time: recovery reads them,
// and what makes a new one durable waits for the disk.
var opensAtOnce = max(8, 2*runtime.GOMAXPROCS(0))

// jobs are what the applier has others do because it waits for a disk: opening logs,
// the end of what is under way on one, deletions. So the work of one partition does
// not hold the election of another. Each job leaves a function for the applier,
// which says what partition to look at again.
type jobs struct {
	running sync.WaitGroup
	slots   chan struct{} // of opens, of capacity opensAtOnce
	wake    chan struct{} // something is done

	mu      sync.Mutex
	done    []func() metadata.TopicIDPartition
	opening int                       // logs
	graves  map[*segment.Dir][]burial // what is to be deleted in each directory at which somebody is
}

// burial is a log to be deleted, or put aside, and who is told.
type burial struct {
	log  *segment.Log
	fate fate
	done func(error)
}

// leaving is a partition that is being deleted, or put aside.
type leaving struct {
	p      *Partition
	fate   fate
	failed bool // and is tried again
}

func newJobs() *jobs {
	return &jobs{slots: make(chan struct{}, opensAtOnce), wake: make(chan struct{}, 1), graves: make(map[*segment.Dir][]burial)}
}

// wait returns when no job is under way any more.
func (j *jobs) wait() { j.running.Wait() }

// finished hands the applier what is to be done after a job.
func (j *jobs) finished(fn func() metadata.TopicIDPartition) {
	j.mu.Lock()
	j.done = append(j.done, fn)
	j.mu.Unlock()
	j.wakeUp()
}

func (j *jobs) wakeUp() {
	select {
	case j.wake <- struct{}{}:
	default: // the applier will look
	}
}

// open runs a job that opens a log, when its turn comes. After ctx ended it is
// dropped. While many are opened the applier is not woken for each: it makes a new
// view each time.
func (j *jobs) open(ctx context.Context, fn func() func() metadata.TopicIDPartition) {
	j.mu.Lock()
	j.opening++
	j.mu.Unlock()
	j.running.Go(func() {
		select {
		case j.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-j.slots }()
		if ctx.Err() != nil {
			return
		}
		done := fn()
		j.mu.Lock()
		j.opening--
		j.done = append(j.done, done)
		enough := 8*len(j.done) >= j.opening
		j.mu.Unlock()
		if enough {
			j.wakeUp()
		}
	})
}

// take returns what the applier is to do.
func (j *jobs) take() []func() metadata.TopicIDPartition {
	j.mu.Lock()
	defer j.mu.Unlock()
	done := j.done
	j.done = nil
	return done
}

// finish takes what the jobs have done and returns what to look at again.
func (a *applier) finish() map[metadata.TopicIDPartition]struct{} {
	todo := make(map[metadata.TopicIDPartition]struct{})
	for _, done := range a.jobs.take() {
		todo[done()] = struct{}{}
	}
	return todo
}

// held says whether a partition is to have another master while the one it has, a
// follow or a recovery, is at its log. That one ends here, and the partition is
// looked at again when it has let go of the log. Who copies from another leader
// next is not held: its first operation waits, and nobody for it.
func (a *applier) held(p *Partition, w wanted) bool {
	now := &w.topic.Partitions[w.number]
	mine := now.Leader == p.broker
	if r := p.recovery; r != nil && (!mine || r.epoch != now.LeaderEpoch) {
		r.cancel()
	}
	if mine || now.Leader == metadata.NoBroker {
		a.m.fetchers.drop(p)
	} else if p.recovery == nil {
		return false
	}
	if !p.turn.taken() {
		return false
	}
	a.busy[p.tip] = struct{}{}
	a.jobs.running.Go(func() {
		p.turn.pass()
		a.jobs.finished(func() metadata.TopicIDPartition {
			delete(a.busy, p.tip)
			return p.tip
		})
	})
	return true
}

// leave has a partition that was stopped deleted, or put aside, as soon as nobody is
// at its log. Until its files are out of the way nobody opens another of its name.
func (a *applier) leave(p *Partition, f fate) {
	if f == setAside {
		a.m.log.Warn("metadata is older than the log, or does not say that it was deleted: put aside", "partition", p.tp, "topic_id", p.tip.Topic,
			"epoch", p.log.LatestEpoch(), "log_end", p.log.LogEnd(), "dir", p.dir.Path())
	}
	a.leaving[p.tp] = &leaving{p: p, fate: f}
	a.jobs.running.Go(func() {
		p.turn.pass()
		a.jobs.bury(p.dir, burial{p.log, f, func(err error) {
			a.jobs.finished(func() metadata.TopicIDPartition { return a.left(p, err) })
		}})
	})
}

// bury deletes a log together with all others of the directory that are to be
// deleted by then.
func (j *jobs) bury(dir *segment.Dir, b burial) {
	j.mu.Lock()
	due, attended := j.graves[dir]
	j.graves[dir] = append(due, b)
	j.mu.Unlock()
	if attended {
		return // whoever is there does it
	}
	for {
		j.mu.Lock()
		due := j.graves[dir]
		if len(due) == 0 {
			delete(j.graves, dir)
			j.mu.Unlock()
			return
		}
		j.graves[dir] = nil
		j.mu.Unlock()
		buryAll(due, remove, dir.DeleteLogs)
		buryAll(due, setAside, dir.SetLogsAside)
	}
}

// buryAll buries those of one fate together.
func buryAll(due []burial, f fate, bury func([]*segment.Log) []error) {
	due = slices.DeleteFunc(slices.Clone(due), func(b burial) bool { return b.fate != f })
	logs := make([]*segment.Log, len(due))
	for i := range due {
		logs[i] = due[i].log
	}
	for i, err := range bury(logs) {
		due[i].done(err)
	}
}

// left notes that a partition was deleted, and returns who may have its name now.
// With a directory that is offline its files are left to the next start.
func (a *applier) left(p *Partition, err error) metadata.TopicIDPartition {
	if err != nil {
		a.m.log.Error("delete log", "partition", p.tp, "err", err)
		if p.dir.Offline() == nil {
			a.leaving[p.tp].failed = true
			return p.tip
		}
	}
	delete(a.leaving, p.tp)
	if t, ok := a.image.Topic(p.tp.Topic); ok {
		return metadata.TopicIDPartition{Topic: t.ID, Partition: p.tp.Partition}
	}
	return p.tip
}

// leaveAgain tries again to delete what could not be deleted.
func (a *applier) leaveAgain() {
	for _, l := range a.leaving {
		if l.failed {
			a.leave(l.p, l.fate)
		}
	}
}

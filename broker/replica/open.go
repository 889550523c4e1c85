package replica

import (
	"context"
	"fmt"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// opening is what became of opening a log.
type opening struct {
	tp  metadata.TopicPartition
	p   *Partition
	err error
}

// openMissing has the logs opened that are wanted and not here. Those that failed
// just now wait for RetryInterval.
func (a *applier) openMissing(ctx context.Context, v *viewEdit, want map[metadata.TopicIDPartition]wanted, failed map[metadata.TopicIDPartition]struct{}) {
	var dirs *placement
	for id, w := range want {
		_, busy := a.busy[id]
		_, later := failed[id]
		if busy || later || v.byID[id] != nil {
			continue
		}
		if p := a.stopped[id]; p != nil { // its topic is back
			v.put(id, p)
			delete(a.stopped, id)
			continue
		}
		tp := metadata.TopicPartition{Topic: w.topic.Name, Partition: w.number}
		if a.leaving[tp] != nil {
			continue // looked at again when it has left
		}
		if dirs == nil {
			dirs = a.m.placement()
		}
		dir := dirs.choose(tp)
		if v.failed[id] != nil && dir != nil {
			a.reopen(ctx, dir, tp, id, w.config, v.failed[id])
			continue
		}
		a.open(ctx, id, tp, func() (*Partition, error) { return a.m.open(dir, tp, id, w.config) })
	}
}

// open has a log opened: recovery after a crash reads it.
func (a *applier) open(ctx context.Context, id metadata.TopicIDPartition, tp metadata.TopicPartition, open func() (*Partition, error)) {
	a.busy[id] = struct{}{}
	a.jobs.open(ctx, a.opening(id, tp, open))
}

// opening is the job that opens a log, which takeOpened takes.
func (a *applier) opening(id metadata.TopicIDPartition, tp metadata.TopicPartition, open func() (*Partition, error)) func() func() metadata.TopicIDPartition {
	return func() func() metadata.TopicIDPartition {
		p, err := open()
		return func() metadata.TopicIDPartition {
			delete(a.busy, id)
			a.opened[id] = opening{tp, p, err}
			return id
		}
	}
}

// takeOpened puts logs that were opened into the view. Those that were not are
// tried again after RetryInterval.
func (a *applier) takeOpened(v *viewEdit) (failed map[metadata.TopicIDPartition]struct{}) {
	failed = make(map[metadata.TopicIDPartition]struct{})
	for id, o := range a.opened {
		delete(a.opened, id)
		if o.err == nil {
			v.put(id, o.p)
			continue
		}
		err := fmt.Errorf("%w: %w", ErrPartitionOffline, o.err)
		if before := v.failed[id]; before == nil || before.Error() != err.Error() {
			a.m.log.Error("open log", "partition", o.tp, "topic_id", id.Topic, "err", err)
		}
		v.fail(id, err)
		a.undone[id], failed[id] = struct{}{}, struct{}{}
	}
	return failed
}

func (m *Manager) open(dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, cfg TopicConfig) (*Partition, error) {
	return m.openLog(dir, tp, id, cfg, false)
}

func (m *Manager) openLog(dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, cfg TopicConfig, cutDamage bool) (*Partition, error) {
	if dir == nil {
		return nil, fmt.Errorf("%s: %w: every log directory is", tp, segment.ErrOffline)
	}
	p := &Partition{m: m, tp: tp, tip: id, broker: m.o.Broker, dir: dir, turn: make(turn, 1), recovered: -1}
	p.state.Store(&state{config: cfg.Log, Partition: metadata.Partition{Leader: metadata.NoBroker, LeaderEpoch: -1}})
	log, err := dir.OpenLog(segment.LogOptions{TopicPartition: tp, TopicID: id.Topic, Config: cfg.Log, OnSynced: p.synced, OnDamage: p.spoil, CutDamage: cutDamage})
	if err != nil {
		return nil, err
	}
	p.log = log
	return p, nil
}

// placement chooses log directories: where the partition's directory already
// is, else the one with the fewest partitions, as Kafka's LogManager does.
type placement struct {
	dirs  []*segment.Dir
	found map[metadata.TopicPartition]*segment.Dir
	count []int
}

func (m *Manager) placement() *placement {
	pl := &placement{found: map[metadata.TopicPartition]*segment.Dir{}}
	for _, d := range m.o.Dirs {
		for _, p := range d.Partitions() {
			pl.found[p.TopicPartition] = d
		}
		if d.Offline() == nil {
			pl.dirs = append(pl.dirs, d)
			pl.count = append(pl.count, len(d.Logs()))
		}
	}
	return pl
}

// choose returns nil when every directory is offline.
func (pl *placement) choose(tp metadata.TopicPartition) *segment.Dir {
	if d := pl.found[tp]; d != nil {
		return d
	}
	if len(pl.dirs) == 0 {
		return nil
	}
	best := 0
	for i := range pl.dirs {
		if pl.count[i] < pl.count[best] {
			best = i
		}
	}
	pl.count[best]++
	return pl.dirs[best]
}

package replica

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// openMissing opens logs in parallel; recovery after a crash reads them. failed
// are those that do not open, with why.
func (a *applier) openMissing(ctx context.Context, old *view, want map[metadata.TopicIDPartition]wanted) (opened map[metadata.TopicIDPartition]*Partition, failed map[metadata.TopicIDPartition]error) {
	m := a.m
	opened, failed = make(map[metadata.TopicIDPartition]*Partition), make(map[metadata.TopicIDPartition]error)
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	var dirs *placement
	for id, w := range want {
		if old.byID[id] != nil {
			continue
		}
		if p := a.stopped[id]; p != nil { // its topic is back
			opened[id] = p
			delete(a.stopped, id)
			continue
		}
		if dirs == nil {
			dirs = m.placement()
		}
		tp := metadata.TopicPartition{Topic: w.topic.Name, Partition: w.number}
		dir := dirs.choose(tp)
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			p, err := m.open(dir, tp, id, w.config)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[id] = fmt.Errorf("%w: %w", ErrPartitionOffline, err)
				return nil
			}
			opened[id] = p
			return nil
		})
	}
	_ = g.Wait() // the errors are in failed
	for id, err := range failed {
		if before := old.failed[id]; before == nil || before.Error() != err.Error() {
			m.log.Error("open log", "topic", want[id].topic.Name, "partition", id.Partition, "err", err)
		}
	}
	return opened, failed
}

func (m *Manager) open(dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, cfg TopicConfig) (*Partition, error) {
	if dir == nil {
		return nil, fmt.Errorf("%s: %w: every log directory is", tp, segment.ErrOffline)
	}
	p := &Partition{m: m, tp: tp, tip: id, broker: m.o.Broker, dir: dir, recovered: -1}
	p.state.Store(&state{config: cfg.Log, Partition: metadata.Partition{Leader: metadata.NoBroker, LeaderEpoch: -1}})
	log, err := dir.OpenLog(segment.LogOptions{TopicPartition: tp, TopicID: id.Topic, Config: cfg.Log, OnSynced: p.synced})
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

// buried are the topics that were deleted and not undeleted.
func buried(img *metadata.Image) map[metadata.TopicID]bool {
	graves := make(map[metadata.TopicID]bool)
	for _, t := range img.Tombstones() {
		if !t.Creating {
			graves[t.Topic.ID] = true
		}
	}
	return graves
}

// bury deletes what is left of topics that were deleted while this broker was down.
func (m *Manager) bury(img *metadata.Image) {
	graves := buried(img)
	if len(graves) == 0 {
		return
	}
	cfg, err := m.o.TopicConfig(nil)
	if err != nil {
		m.log.Error("default topic configuration invalid", "err", err)
		return
	}
	for _, d := range m.o.Dirs {
		for _, pd := range d.Partitions() {
			if !graves[pd.TopicID] {
				continue
			}
			id := metadata.TopicIDPartition{Topic: pd.TopicID, Partition: pd.TopicPartition.Partition}
			p, err := m.open(d, pd.TopicPartition, id, cfg)
			if err != nil {
				m.log.Error("delete log of a deleted topic", "partition", pd.TopicPartition, "topic_id", pd.TopicID, "err", err)
				continue
			}
			m.deleteLog(p)
		}
	}
}

// warnStrays names partition directories that no topic of the Image owns. They
// stay: losing metadata must not lose data.
func (m *Manager) warnStrays() {
	v := m.view.Load()
	known := maps.Clone(v.failed)
	for id := range v.byID {
		known[id] = nil
	}
	for _, d := range m.o.Dirs {
		for _, pd := range d.Partitions() {
			id := metadata.TopicIDPartition{Topic: pd.TopicID, Partition: pd.TopicPartition.Partition}
			if _, ok := known[id]; !ok {
				m.log.Warn("partition directory belongs to no topic of this cluster, left as it is", "partition", pd.TopicPartition, "topic_id", pd.TopicID)
			}
		}
	}
}

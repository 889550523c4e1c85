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

// followImage applies each new Image until ctx ends.
func (m *Manager) followImage(ctx context.Context) error {
	changed, stop := m.o.Metadata.Watch()
	defer stop()
	m.apply(ctx, m.o.Metadata.Image())
	close(m.ready)
	m.warnStrays(m.o.Metadata.Image())
	for {
		select {
		case <-changed:
			m.apply(ctx, m.o.Metadata.Image())
		case <-ctx.Done():
			return nil
		}
	}
}

// wanted is one partition the Image places here.
type wanted struct {
	topic  *metadata.Topic
	number int32
	config TopicConfig
}

// apply makes this broker's partitions what the Image says. A partition that
// cannot be opened is logged and tried again at the next Image.
func (m *Manager) apply(ctx context.Context, img *metadata.Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	want := m.wanted(img)
	old := m.view.Load()
	gone := m.removeMissing(img, old, want)
	opened := m.openMissing(ctx, old, want)
	if len(opened) > 0 || gone {
		next := &view{byName: make(map[metadata.TopicPartition]*Partition, len(want)), byID: make(map[metadata.TopicIDPartition]*Partition, len(want))}
		maps.Copy(opened, old.byID)
		for id, p := range opened {
			if _, ok := want[id]; ok {
				next.byID[id] = p
				next.byName[p.tp] = p
			}
		}
		m.view.Store(next)
	}
	for id, w := range want {
		if p := m.view.Load().byID[id]; p != nil {
			m.applyState(p, w)
		}
	}
	m.applied.broadcast()
}

func (m *Manager) wanted(img *metadata.Image) map[metadata.TopicIDPartition]wanted {
	want := make(map[metadata.TopicIDPartition]wanted)
	for _, t := range img.Topics() {
		var cfg TopicConfig
		resolved := false
		for n := range t.Partitions {
			if !holds(t.Partitions[n].Replicas, m.o.Broker) {
				continue
			}
			if !resolved {
				var err error
				if cfg, err = m.o.TopicConfig(img.TopicConfig(t.Name)); err != nil {
					m.log.Error("topic configuration invalid, using defaults", "topic", t.Name, "err", err)
					if cfg, err = m.o.TopicConfig(nil); err != nil {
						m.log.Error("default topic configuration invalid", "err", err)
						break
					}
				}
				resolved = true
			}
			want[metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}] = wanted{topic: t, number: int32(n), config: cfg}
		}
	}
	return want
}

func holds(ids []metadata.BrokerID, id metadata.BrokerID) bool {
	for _, r := range ids {
		if r == id {
			return true
		}
	}
	return false
}

// removeMissing stops partitions that the Image no longer places here. Their
// files go when a tombstone says that the topic was deleted, or when the topic
// lives on elsewhere.
func (m *Manager) removeMissing(img *metadata.Image, old *view, want map[metadata.TopicIDPartition]wanted) bool {
	gone := false
	topics := make(map[metadata.TopicID]metadata.Topic)
	for id, p := range old.byID {
		if _, ok := want[id]; ok {
			continue
		}
		gone = true
		s := *p.state.Load()
		led := s.leading
		s.leading, s.removed = false, true
		p.update(&s)
		m.o.Remote.Resign(id)
		if led {
			m.lead(p, false)
		}
		if _, lives := img.TopicByID(id.Topic); !lives {
			topics[id.Topic] = metadata.Topic{Name: p.tp.Topic, ID: id.Topic}
		}
		if err := p.dir.DeleteLog(p.log); err != nil {
			m.log.Error("delete log", "partition", p.tp, "err", err)
		}
	}
	if len(topics) > 0 && m.o.OnDeleted != nil {
		list := make([]metadata.Topic, 0, len(topics))
		for _, t := range topics {
			list = append(list, t)
		}
		m.o.OnDeleted(list)
	}
	return gone
}

// openMissing opens logs in parallel; recovery after a crash reads them.
func (m *Manager) openMissing(ctx context.Context, old *view, want map[metadata.TopicIDPartition]wanted) map[metadata.TopicIDPartition]*Partition {
	opened := make(map[metadata.TopicIDPartition]*Partition)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	dirs := m.placement()
	for id, w := range want {
		if old.byID[id] != nil {
			continue
		}
		tp := metadata.TopicPartition{Topic: w.topic.Name, Partition: w.number}
		dir := dirs.choose(tp)
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			p, err := m.open(dir, tp, id, w.config)
			if err != nil {
				m.log.Error("open log", "partition", tp, "err", err)
				return nil
			}
			mu.Lock()
			opened[id] = p
			mu.Unlock()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		m.log.Error("open logs", "err", err)
	}
	return opened
}

func (m *Manager) open(dir *segment.Dir, tp metadata.TopicPartition, id metadata.TopicIDPartition, cfg TopicConfig) (*Partition, error) {
	p := &Partition{tp: tp, tip: id, broker: m.o.Broker, dir: dir}
	p.state.Store(&state{config: cfg.Log, Partition: metadata.Partition{Leader: metadata.NoBroker, LeaderEpoch: -1}})
	log, err := dir.OpenLog(segment.LogOptions{TopicPartition: tp, TopicID: id.Topic, Config: cfg.Log, OnSynced: p.synced})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tp, err)
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
		ps := d.Partitions()
		for _, p := range ps {
			pl.found[p.TopicPartition] = d
		}
		if d.Offline() == nil {
			pl.dirs = append(pl.dirs, d)
			pl.count = append(pl.count, len(ps))
		}
	}
	return pl
}

func (pl *placement) choose(tp metadata.TopicPartition) *segment.Dir {
	if d := pl.found[tp]; d != nil {
		return d
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

// applyState brings one open partition to the state the Image gives it.
func (m *Manager) applyState(p *Partition, w wanted) {
	now := w.topic.Partitions[w.number]
	s := &state{
		Partition: now,
		leading:   now.Leader == m.o.Broker,
		minInSync: w.config.MinInSyncReplicas,
		config:    w.config.Log,
		remote:    w.config.Log.RemoteEnabled,
	}
	was := p.state.Load()
	if was.config != w.config.Log {
		p.log.SetConfig(w.config.Log)
		m.retainSoon()
	}
	if same(was, s) {
		return
	}
	newEpoch := s.LeaderEpoch != was.LeaderEpoch
	if s.leading && (newEpoch || !was.leading) {
		if err := p.log.AssignEpoch(s.LeaderEpoch, p.log.LogEnd()); err != nil {
			m.log.Error("assign leader epoch", "partition", p.tp, "epoch", s.LeaderEpoch, "err", err)
			return
		}
	}
	p.update(s)
	p.advance()
	switch {
	case s.leading && (newEpoch || !was.leading || s.remote != was.remote):
		if s.remote {
			m.o.Remote.Lead(p.tip, s.LeaderEpoch, p.log)
		} else {
			m.o.Remote.Resign(p.tip)
		}
		m.lead(p, true)
	case !s.leading && was.leading:
		m.o.Remote.Resign(p.tip)
		m.lead(p, false)
	}
}

func same(a, b *state) bool {
	return a.Leader == b.Leader && a.LeaderEpoch == b.LeaderEpoch && a.Epoch == b.Epoch &&
		a.minInSync == b.minInSync && a.config == b.config && a.leading == b.leading
}

func (m *Manager) lead(p *Partition, leading bool) {
	if m.o.OnLeadership != nil {
		m.o.OnLeadership(p, leading)
	}
}

// warnStrays names partition directories that no topic of the Image owns.
func (m *Manager) warnStrays(img *metadata.Image) {
	for _, d := range m.o.Dirs {
		for _, pd := range d.Partitions() {
			id := metadata.TopicIDPartition{Topic: pd.TopicID, Partition: pd.TopicPartition.Partition}
			if m.view.Load().byID[id] == nil {
				m.log.Warn("partition directory belongs to no topic of this cluster, left as it is", "partition", pd.TopicPartition, "topic_id", pd.TopicID)
			}
		}
	}
}

package replica

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// followImage applies each new Image until ctx ends. It is the only goroutine
// that changes the view and the states of partitions.
func (m *Manager) followImage(ctx context.Context) error {
	changed, stop := m.o.Metadata.Watch()
	defer stop()
	retry := time.NewTicker(m.o.RetryInterval)
	defer retry.Stop()
	img := m.o.Metadata.Image()
	if self, ok := img.Broker(m.o.Broker); ok {
		m.former = self.Epoch
	}
	m.bury(img)
	m.apply(ctx, img)
	close(m.ready)
	m.warnStrays()
	for {
		select {
		case <-changed:
		case <-m.reconfigured:
		case <-retry.C:
			if len(m.view.Load().failed) == 0 {
				continue
			}
		case <-ctx.Done():
			return nil
		}
		m.apply(ctx, m.o.Metadata.Image())
	}
}

// wanted is one partition the Image places here.
type wanted struct {
	topic  *metadata.Topic
	number int32
	config TopicConfig
}

// apply makes this broker's partitions what the Image says. A partition that
// cannot be opened is logged and tried again after RetryInterval and at the
// next Image.
func (m *Manager) apply(ctx context.Context, img *metadata.Image) {
	want := m.wanted(img)
	old := m.view.Load()
	m.stopMissing(img, old, want)
	opened, failed := m.openMissing(ctx, old, want)
	next := &view{byID: make(map[metadata.TopicIDPartition]*Partition, len(want)), failed: failed}
	maps.Copy(opened, old.byID)
	for id, p := range opened {
		if _, ok := want[id]; ok {
			next.byID[id] = p
		}
	}
	if !maps.Equal(old.byID, next.byID) || len(old.failed) > 0 || len(failed) > 0 {
		m.view.Store(next)
	}
	registration := m.registration(img)
	for id, p := range next.byID {
		m.applyState(p, want[id], registration)
	}
	m.applied.broadcast()
}

func (m *Manager) wanted(img *metadata.Image) map[metadata.TopicIDPartition]wanted {
	want := make(map[metadata.TopicIDPartition]wanted)
	for _, t := range img.Topics() {
		var cfg TopicConfig
		resolved := false
		for n := range t.Partitions {
			if !slices.Contains(t.Partitions[n].Replicas, m.o.Broker) {
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

// stopMissing stops partitions that the Image no longer places here. Their
// files go when the topic was deleted or lives on elsewhere; they stay when the
// Image has lost the topic and nothing says why.
func (m *Manager) stopMissing(img *metadata.Image, old *view, want map[metadata.TopicIDPartition]wanted) {
	lost := false
	for id, p := range old.byID {
		if _, ok := want[id]; ok {
			continue
		}
		_, lives := img.TopicByID(id.Topic)
		m.stop(p, lives)
		if lives {
			m.deleteLog(p)
		} else {
			m.stopped[id], lost = p, true
		}
	}
	if len(m.stopped) == 0 {
		return
	}
	graves := buried(img)
	deleted := make(map[metadata.TopicID]metadata.Topic)
	for id, p := range m.stopped {
		_, lives := img.TopicByID(id.Topic)
		_, renewed := img.Topic(p.tp.Topic)
		_, wants := want[id]
		switch {
		case wants: // openMissing takes it back
		case lives:
			m.deleteLog(p)
			delete(m.stopped, id)
		case graves[id.Topic] || renewed:
			m.deleteLog(p)
			delete(m.stopped, id)
			deleted[id.Topic] = metadata.Topic{Name: p.tp.Topic, ID: id.Topic}
		case lost:
			m.log.Error("topic left the metadata without being deleted, its files stay", "partition", p.tp, "topic_id", id.Topic)
		}
	}
	if len(deleted) > 0 && m.o.OnDeleted != nil {
		m.o.OnDeleted(slices.Collect(maps.Values(deleted)))
	}
}

// stop ends the service of a partition.
func (m *Manager) stop(p *Partition, lives bool) {
	s := *p.state.Load()
	led := s.leading
	s.leading, s.gone = false, ErrUnknownPartition
	if lives {
		s.gone = ErrNotLeader
	}
	p.update(&s)
	m.o.Remote.Resign(p.tip)
	if led {
		m.lead(p, false)
	}
}

func (m *Manager) deleteLog(p *Partition) {
	if err := p.dir.DeleteLog(p.log); err != nil {
		m.log.Error("delete log", "partition", p.tp, "err", err)
	}
}

// registration is the broker epoch under which this run may lead: never that of
// a former run, which may have lost what others have seen of it.
func (m *Manager) registration(img *metadata.Image) int64 {
	self, ok := img.Broker(m.o.Broker)
	if !ok || self.Epoch == m.former {
		return -1
	}
	return self.Epoch
}

// applyState brings one open partition to the state the Image gives it.
func (m *Manager) applyState(p *Partition, w wanted, registration int64) {
	now := w.topic.Partitions[w.number]
	was := p.state.Load()
	s := &state{
		Partition:  now,
		leading:    now.Leader == m.o.Broker && now.LeaderBrokerEpoch == registration,
		epochStart: was.epochStart,
		minInSync:  w.config.MinInSyncReplicas,
		config:     w.config.Log,
		remote:     w.config.Log.RemoteEnabled,
	}
	if was.config != w.config.Log {
		p.log.SetConfig(w.config.Log)
		m.retainSoon()
	}
	if same(was, s) {
		return
	}
	elected := s.leading && (s.LeaderEpoch != was.LeaderEpoch || !was.leading)
	if elected {
		s.epochStart = p.log.LogEnd()
		if err := p.log.AssignEpoch(s.LeaderEpoch, s.epochStart); err != nil {
			m.log.Error("assign leader epoch", "partition", p.tp, "epoch", s.LeaderEpoch, "err", err)
			return
		}
	}
	p.update(s)
	p.advance()
	if s.leading && (elected || s.remote != was.remote) {
		if s.remote {
			m.o.Remote.Lead(p.tip, s.LeaderEpoch, p.log)
		} else {
			m.o.Remote.Resign(p.tip)
		}
	}
	switch {
	case elected:
		m.lead(p, true)
	case !s.leading && was.leading:
		m.o.Remote.Resign(p.tip)
		m.lead(p, false)
	}
}

func same(a, b *state) bool {
	return a.Leader == b.Leader && a.LeaderEpoch == b.LeaderEpoch && a.Epoch == b.Epoch && slices.Equal(a.ISR, b.ISR) &&
		slices.Equal(a.Replicas, b.Replicas) && a.minInSync == b.minInSync && a.config == b.config && a.leading == b.leading &&
		errors.Is(a.gone, b.gone)
}

func (m *Manager) lead(p *Partition, leading bool) {
	if m.o.OnLeadership != nil {
		m.o.OnLeadership(p, leading)
	}
}

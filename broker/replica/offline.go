package replica

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/coldbrook/coldbrook/metadata"
)

// A replica whose log cannot be used (its disk failed, or it does not open) serves
// nobody, and counts for nothing: its broker says so in the partition's state,
// where controllers and clients see it, leaves the in-sync replicas, and gives
// leadership to one of them. It does all of that by itself and at once, a follower
// too: the leader would take it for a slow one for replica.lag.time.max.ms. Without
// another live in-sync replica it stays in sync, for nobody else is known to have
// all, but is not elected.

// suspects are partitions whose state may have to say something else of this
// broker's log.
type suspects struct {
	mu  sync.Mutex
	set map[metadata.TopicIDPartition]struct{}
}

// suspect has the state of a partition compared with its log, now. It never blocks.
func (m *Manager) suspect(id metadata.TopicIDPartition) {
	m.suspects.mu.Lock()
	if m.suspects.set == nil {
		m.suspects.set = make(map[metadata.TopicIDPartition]struct{})
	}
	m.suspects.set[id] = struct{}{}
	m.suspects.mu.Unlock()
	m.isr.poke()
}

func (s *suspects) take() map[metadata.TopicIDPartition]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.set
	s.set = nil
	return set
}

func (s *suspects) later(id metadata.TopicIDPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = make(map[metadata.TopicIDPartition]struct{})
	}
	s.set[id] = struct{}{}
}

// alterOffline asks for what the suspects' states are to be. Each is compared with
// the Image's, so a decision that was made meanwhile is looked at first. It says
// whether some are to be asked again.
func (m *Manager) alterOffline(ctx context.Context) (left bool) {
	img := m.o.Metadata.Image()
	var changes []metadata.PartitionChange
	for id := range m.suspects.take() {
		from, ok := img.PartitionByID(id)
		usable, known := m.usable(id)
		if !ok || !known || from.Restored() || !slices.Contains(from.Replicas, m.o.Broker) {
			continue
		}
		to := m.sayUsable(img, from, usable)
		if m.unfit(id) && to.Leader == from.Leader || m.spoilt(id) && slices.Contains(to.ISR, m.o.Broker) {
			continue // nobody else can lead: it is tried again before long
		}
		if !to.Equal(from) {
			changes = append(changes, metadata.PartitionChange{TopicIDPartition: id, From: from, To: to})
		}
	}
	if len(changes) == 0 {
		return false
	}
	attempt, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	for i, err := range m.o.Metadata.AlterPartitions(attempt, changes) {
		c := &changes[i]
		switch {
		case err == nil:
			m.log.Warn("told the cluster whether a log can be used", "partition", c.TopicIDPartition, "offline", c.To.Offline,
				"epoch", c.To.LeaderEpoch, "leader", c.To.Leader, "from", c.From.ISR, "to", c.To.ISR)
		case errors.Is(err, metadata.ErrUnknownPartition):
		default:
			m.suspects.later(c.TopicIDPartition)
			left = true
			m.log.Debug("tell the cluster whether a log can be used", "partition", c.TopicIDPartition, "err", err)
		}
	}
	return left
}

// usable says whether a replica's log can be used. It is not known of one that is
// still being opened.
func (m *Manager) usable(id metadata.TopicIDPartition) (usable, known bool) {
	v := m.view.Load()
	if p := v.byID[id]; p != nil {
		return p.dir.Offline() == nil && !p.unfit.Load() && p.spoilt.Load() == nil, true
	}
	return false, v.failed[id] != nil
}

// unfit says whether a log is there and does not take a leader epoch.
func (m *Manager) unfit(id metadata.TopicIDPartition) bool {
	p := m.view.Load().byID[id]
	return p != nil && p.dir.Offline() == nil && p.unfit.Load()
}

// spoilt says whether a log is open though some of its records are damaged.
func (m *Manager) spoilt(id metadata.TopicIDPartition) bool {
	p := m.view.Load().byID[id]
	return p != nil && p.dir.Offline() == nil && p.spoilt.Load() != nil
}

// sayUsable is the state of a partition in which this broker's log is what it is.
func (m *Manager) sayUsable(img *metadata.Image, from metadata.Partition, usable bool) metadata.Partition {
	to, self := from, m.o.Broker
	is := func(id metadata.BrokerID) bool { return id == self }
	if usable {
		to.Offline = slices.DeleteFunc(slices.Clone(from.Offline), is)
		return to
	}
	if !slices.Contains(from.Offline, self) {
		to.Offline = append(slices.Clone(from.Offline), self)
	}
	heir := slices.IndexFunc(from.Replicas, func(id metadata.BrokerID) bool {
		b, live := img.Broker(id)
		return live && b.Holds() && slices.Contains(from.ISR, id) && !slices.Contains(to.Offline, id)
	})
	if heir < 0 {
		return to
	}
	to.ISR = slices.DeleteFunc(slices.Clone(from.ISR), is)
	if from.Leader == self {
		b, _ := img.Broker(from.Replicas[heir])
		to.Leader, to.LeaderBrokerEpoch, to.LeaderEpoch = b.ID, b.Epoch, from.LeaderEpoch+1
	}
	return to
}

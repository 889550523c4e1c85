package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// anywhere says whether the caller is a consumer that goes where it is sent
// (KIP-392).
func (f *fetch) anywhere() bool { return f.req.AnyReplica && !f.req.follower() }

// prefer names the broker that should answer a consumer in the leader's place:
// a replay broker what is in the tier only, a replica in the consumer's rack the
// rest; NoBroker: the leader does.
func (f *fetch) prefer(p *Partition, s *state, q *FetchPartition) metadata.BrokerID {
	if q.Offset < p.log.LocalLogStart() {
		if id := f.m.replayBroker(f.req, q); id != metadata.NoBroker {
			return id
		}
	}
	if f.m.o.RackAware && f.req.Rack != "" {
		return p.nearest(s, f.req.Rack, q.Offset)
	}
	return metadata.NoBroker
}

// replayBroker chooses a live replay broker of the consumer's rack, or any for a
// client that is configured to go to one. Readers of one partition meet at one
// broker, where they share what it fetches.
func (m *Manager) replayBroker(req *FetchRequest, q *FetchPartition) metadata.BrokerID {
	img := m.o.Metadata.Image()
	var near, all []metadata.BrokerID
	for _, b := range img.Brokers() {
		if b.Role != metadata.RoleReplay || b.Draining {
			continue
		}
		all = append(all, b.ID)
		if req.Rack != "" && b.Rack == req.Rack {
			near = append(near, b.ID)
		}
	}
	if len(all) == 0 {
		return metadata.NoBroker
	}
	if pointer, ok := img.RemotePointer(q.ID); !ok || q.Offset < pointer.StartOffset || q.Offset >= pointer.EndOffset {
		return metadata.NoBroker
	}
	configured := m.o.ReplayClient(req.ClientID)
	switch {
	case req.ReplicasOnly && !configured:
		return metadata.NoBroker
	case len(near) > 0:
		return near[spreadOver(q.ID, len(near))]
	case configured:
		return all[spreadOver(q.ID, len(all))]
	}
	return metadata.NoBroker
}

// spreadOver chooses among n things by partition.
func spreadOver(tip metadata.TopicIDPartition, n int) int {
	h := fnv.New32a()
	h.Write(binary.BigEndian.AppendUint32(bytes.Clone(tip.Topic[:]), uint32(tip.Partition)))
	return int(h.Sum32() % uint32(n))
}

// nearest is the in-sync replica in a rack that has the offset, the most caught
// up if there are several; NoBroker if there is none or the leader is one:
// RackAwareReplicaSelector.
func (p *Partition) nearest(s *state, rack string, offset int64) metadata.BrokerID {
	img := p.m.o.Metadata.Image()
	if self, ok := img.Broker(p.broker); ok && self.Rack == rack {
		return metadata.NoBroker
	}
	var near []metadata.BrokerID
	for _, id := range s.ISR {
		if b, ok := img.Broker(id); ok && id != p.broker && b.Rack == rack && !b.Draining {
			near = append(near, id)
		}
	}
	if len(near) == 0 {
		return metadata.NoBroker
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	near = slices.DeleteFunc(near, func(id metadata.BrokerID) bool {
		f := p.peers[id]
		return f == nil || f.end < offset || f.logStart > offset
	})
	if len(near) == 0 {
		return metadata.NoBroker
	}
	return slices.MaxFunc(near, func(a, b metadata.BrokerID) int {
		x, y := p.peers[a], p.peers[b]
		return cmp.Or(x.caughtUp.Compare(y.caughtUp), cmp.Compare(x.end, y.end), cmp.Compare(b, a))
	})
}

// sendBack answers a consumer that wants what the tier does not have, or does not
// know to be committed, of a partition that has no replica here.
func (f *fetch) sendBack(i int) error {
	img := f.m.o.Metadata.Image()
	self, _ := img.Broker(f.m.o.Broker)
	now, _ := img.PartitionByID(f.req.Partitions[i].ID)
	if self.Role != metadata.RoleReplay || now.Leader == metadata.NoBroker {
		return ErrNotLeader
	}
	f.results[i].PreferredReplica = now.Leader
	f.urgent = true
	return nil
}

// lookAbroad goes on with a consumer's request of a partition that has no replica
// here. What is in the tier any broker can read. For the rest a replay broker
// sends the consumer back to the leader that sent it; any other was asked by who
// does not know who leads, and says so.
func (f *fetch) lookAbroad(i int) error {
	q, r := &f.req.Partitions[i], &f.results[i]
	img := f.m.o.Metadata.Image()
	now, ok := img.PartitionByID(q.ID)
	if !ok {
		return ErrUnknownPartition
	}
	if err := checkEpoch(q.CurrentEpoch, now.LeaderEpoch); err != nil {
		return err
	}
	pointer, _ := img.RemotePointer(q.ID)
	switch {
	case q.Offset >= pointer.EndOffset:
		if err := f.sendBack(i); err != nil {
			return err
		}
	case q.Offset < pointer.StartOffset:
		return fmt.Errorf("offset %d of %s, the tier is %d to %d: %w", q.Offset, q.ID, pointer.StartOffset, pointer.EndOffset, segment.ErrOffsetOutOfRange)
	default:
		f.cold = append(f.cold, i)
	}
	r.LogStart, r.LastStable, r.HighWatermark = pointer.StartOffset, pointer.EndOffset, pointer.EndOffset
	return nil
}

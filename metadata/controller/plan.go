package controller

import (
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// Plan returns the changes that the live brokers of the image ask for in the
// given topics: dead and draining brokers lose leadership and leave the in-sync
// replicas while others remain, a broker that registered anew gets a new leader
// epoch, and partitions without a leader get one as soon as an in-sync replica
// lives.
func Plan(im *metadata.Image, topics ...*metadata.Topic) []metadata.PartitionChange {
	var out []metadata.PartitionChange
	for _, t := range topics {
		for n, p := range t.Partitions {
			if to, changed := decide(p, im.Broker); changed {
				out = append(out, change(t, n, to))
			}
		}
	}
	return out
}

func change(t *metadata.Topic, n int, to metadata.Partition) metadata.PartitionChange {
	return metadata.PartitionChange{
		TopicIDPartition: metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)},
		From:             t.Partitions[n], To: to,
	}
}

// lookup finds a live broker.
type lookup func(metadata.BrokerID) (metadata.Broker, bool)

func decide(p metadata.Partition, broker lookup) (to metadata.Partition, changed bool) {
	if len(p.Replicas) == 0 {
		return p, false
	}
	to = p
	to.ISR = inSync(p.ISR, broker)
	leads := func(id metadata.BrokerID) bool {
		b, live := broker(id)
		if !live || !slices.Contains(to.ISR, id) {
			return false
		}
		to.Leader, to.LeaderBrokerEpoch = id, b.Epoch
		return true
	}
	// Who leads goes on leading, else the first in the replicas' order.
	if !leads(p.Leader) && !slices.ContainsFunc(p.Replicas, leads) {
		to.Leader, to.LeaderBrokerEpoch = metadata.NoBroker, 0
	}
	elected := to.Leader != p.Leader || to.LeaderBrokerEpoch != p.LeaderBrokerEpoch
	if elected {
		to.LeaderEpoch++
	}
	return to, elected || len(to.ISR) != len(p.ISR)
}

// inSync returns the in-sync replicas that are to stay: those that live and are
// not about to go, or those that live, or, since they hold what was committed,
// all of them.
func inSync(isr []metadata.BrokerID, broker lookup) []metadata.BrokerID {
	isLive := func(id metadata.BrokerID) bool { _, ok := broker(id); return ok }
	isActive := func(id metadata.BrokerID) bool { b, ok := broker(id); return ok && !b.Draining }
	active, live := keep(isr, isActive), isr
	if len(active) == 0 {
		live = keep(isr, isLive)
	}
	switch {
	case len(active) > 0:
		return active
	case len(live) > 0:
		return live
	}
	return isr
}

// keep returns the ids for which ok holds: ids itself if they all do.
func keep(ids []metadata.BrokerID, ok func(metadata.BrokerID) bool) []metadata.BrokerID {
	bad := func(id metadata.BrokerID) bool { return !ok(id) }
	if !slices.ContainsFunc(ids, bad) {
		return ids
	}
	return slices.DeleteFunc(slices.Clone(ids), bad)
}

// imbalancePercent is Kafka's leader.imbalance.per.broker.percentage: a broker
// gets its leaderships back when it lacks more than this part of them.
const imbalancePercent = 10

// Prefer returns the elections that give leadership back to the partitions'
// preferred leaders, for those brokers that lack more than a tenth of theirs.
func Prefer(im *metadata.Image) []metadata.PartitionChange {
	type share struct {
		preferred int
		changes   []metadata.PartitionChange
	}
	shares := map[metadata.BrokerID]*share{}
	for _, t := range im.Topics() {
		for n, p := range t.Partitions {
			if len(p.Replicas) == 0 {
				continue
			}
			id := p.Replicas[0]
			s := shares[id]
			if s == nil {
				s = &share{}
				shares[id] = s
			}
			s.preferred++
			if to, ok := prefer(p, im.Broker); ok {
				s.changes = append(s.changes, change(t, n, to))
			}
		}
	}
	var out []metadata.PartitionChange
	for _, b := range im.Brokers() { // in order of ids, so that a plan is reproducible
		if s := shares[b.ID]; s != nil && len(s.changes)*100 > s.preferred*imbalancePercent {
			out = append(out, s.changes...)
		}
	}
	return out
}

func prefer(p metadata.Partition, broker lookup) (metadata.Partition, bool) {
	id := p.Replicas[0]
	b, live := broker(id)
	if p.Leader == id || p.Leader == metadata.NoBroker || !live || b.Draining || !slices.Contains(p.ISR, id) {
		return p, false
	}
	p.Leader, p.LeaderBrokerEpoch = id, b.Epoch
	p.LeaderEpoch++
	return p, true
}

package controller

import (
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// Plan returns the changes that the live brokers of the image ask for in the
// given topics: dead and draining brokers lose leadership and leave the in-sync
// replicas while others remain, a broker that registered anew gets a new leader
// epoch, partitions without a leader get one as soon as an in-sync replica
// lives, or, where unclean allows it for the topic, any replica, and a
// reassignment ends when all of its target is in sync. The changes that move a
// leader come first: clients wait for them.
func Plan(im *metadata.Image, unclean func(topic string) bool, topics ...*metadata.Topic) []metadata.PartitionChange {
	var elections, others []metadata.PartitionChange
	for _, t := range topics {
		d := decider{im: im, created: t.Created}
		if unclean != nil {
			d.unclean = func() bool { return unclean(t.Name) }
		}
		for n, p := range t.Partitions {
			switch to := d.decide(p, p); {
			case to.Leader != p.Leader || to.LeaderBrokerEpoch != p.LeaderBrokerEpoch:
				elections = append(elections, d.election(t, n, to))
			case !to.Equal(p):
				others = append(others, change(t, n, to))
			}
		}
	}
	return append(elections, others...)
}

// election is a change that, where it elects a leader who is not in sync, is made
// only while those who are have not come back.
func (d decider) election(t *metadata.Topic, n int, to metadata.Partition) metadata.PartitionChange {
	c := change(t, n, to)
	if to.Leader != metadata.NoBroker && !slices.Contains(c.From.ISR, to.Leader) {
		c.Dead = orNil(slices.DeleteFunc(slices.Clone(c.From.ISR), func(id metadata.BrokerID) bool { _, registered := d.im.Broker(id); return registered }))
	}
	return c
}

func change(t *metadata.Topic, n int, to metadata.Partition) metadata.PartitionChange {
	return metadata.PartitionChange{
		TopicIDPartition: metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)},
		From:             t.Partitions[n], To: to,
	}
}

// decider decides for the partitions of one topic.
type decider struct {
	im      *metadata.Image
	created time.Time   // of the topic
	unclean func() bool // may a replica lead that is not in sync; nil: it may not
}

// live returns a broker that may hold partitions.
func (d decider) live(id metadata.BrokerID) (metadata.Broker, bool) {
	b, ok := d.im.Broker(id)
	return b, ok && b.Holds()
}

func (d decider) isLive(id metadata.BrokerID) bool { _, ok := d.live(id); return ok }

func (d decider) isActive(id metadata.BrokerID) bool {
	b, ok := d.live(id)
	return ok && !b.Draining
}

// decide returns what is to become of a partition: of p as it is recorded, or of
// to, what somebody wants to make of it.
func (d decider) decide(p, to metadata.Partition) metadata.Partition {
	if len(to.Replicas) == 0 {
		return to
	}
	isReplica := func(id metadata.BrokerID) bool { return slices.Contains(to.Replicas, id) }
	to.Offline = orNil(keep(to.Offline, isReplica))
	to.ISR = d.inSync(to)
	d.complete(&to)
	newest := p.LeaderEpoch
	switch {
	case d.elect(&to):
	case p.Restored():
		newest = max(newest, d.electFound(&to))
	case d.unclean != nil && d.unclean():
		d.electUnclean(&to)
	}
	// A replica that is none any more must not go on as a follower: its fetches
	// are fenced by the epoch (PartitionChangeBuilder.triggerLeaderEpochBumpForReplicaReassignmentIfNeeded).
	removed := slices.ContainsFunc(p.Replicas, func(id metadata.BrokerID) bool { return !slices.Contains(to.Replicas, id) })
	if removed || to.Leader != p.Leader || to.LeaderBrokerEpoch != p.LeaderBrokerEpoch {
		to.LeaderEpoch = newest + 1
	}
	return to
}

// inSync returns the in-sync replicas that are to stay: those that live with their
// logs and are not about to go, or those that live, or, since they hold what was
// committed, all of them.
func (d decider) inSync(p metadata.Partition) []metadata.BrokerID {
	usable := func(id metadata.BrokerID) bool { return d.usable(p, id) }
	isr := keep(p.ISR, usable)
	if active := keep(isr, d.isActive); len(active) > 0 {
		return active
	}
	if len(isr) > 0 {
		return isr
	}
	return p.ISR
}

// usable says whether a replica lives and can use its log.
func (d decider) usable(p metadata.Partition, id metadata.BrokerID) bool {
	return d.isLive(id) && !slices.Contains(p.Offline, id)
}

// complete ends a reassignment when all of its target lives and is in sync, so
// that no replica is given up before another one has its place.
func (d decider) complete(to *metadata.Partition) {
	target := without(to.Replicas, to.Removing)
	ready := func(id metadata.BrokerID) bool { return slices.Contains(to.ISR, id) && d.usable(*to, id) }
	if !to.Reassigning() || len(target) == 0 || len(keep(target, ready)) < len(target) {
		return
	}
	to.ISR = without(to.ISR, to.Removing)
	to.Replicas, to.Adding, to.Removing = target, nil, nil
}

// elect chooses a leader among the in-sync replicas: who leads goes on leading,
// else it is the first in the replicas' order.
func (d decider) elect(to *metadata.Partition) bool {
	leads := func(id metadata.BrokerID) bool {
		b, live := d.live(id)
		if !live || !slices.Contains(to.ISR, id) || slices.Contains(to.Offline, id) {
			return false
		}
		to.Leader, to.LeaderBrokerEpoch = id, b.Epoch
		return true
	}
	if leads(to.Leader) || slices.ContainsFunc(to.Replicas, leads) {
		return true
	}
	to.Leader, to.LeaderBrokerEpoch = metadata.NoBroker, 0
	return false
}

// electUnclean makes a live replica leader and the only in-sync one. It prefers
// the one that is known to have most, one that stays, and one whose disk is older
// than the topic: a disk that was replaced meanwhile has less.
func (d decider) electUnclean(to *metadata.Partition) bool {
	hadAll := func(id metadata.BrokerID) bool {
		n, ok := d.im.Node(id)
		return ok && !n.Since.After(d.created)
	}
	candidates := keep(to.Replicas, func(id metadata.BrokerID) bool { return d.usable(*to, id) })
	best := d.mostOf(*to, candidates)
	hasMost := func(id metadata.BrokerID) bool { return id == best }
	for _, better := range []func(metadata.BrokerID) bool{hasMost, hadAll, d.isActive} {
		if some := keep(candidates, better); len(some) > 0 {
			candidates = some
		}
	}
	if len(candidates) == 0 {
		return false
	}
	b, _ := d.live(candidates[0])
	to.Leader, to.LeaderBrokerEpoch = b.ID, b.Epoch
	to.ISR, to.Recovering, to.Found = []metadata.BrokerID{b.ID}, true, nil
	return true
}

// keep returns the ids for which ok holds: ids itself if they all do.
func keep(ids []metadata.BrokerID, ok func(metadata.BrokerID) bool) []metadata.BrokerID {
	bad := func(id metadata.BrokerID) bool { return !ok(id) }
	if !slices.ContainsFunc(ids, bad) {
		return ids
	}
	return slices.DeleteFunc(slices.Clone(ids), bad)
}

// without returns the ids that are not among the others.
func without(ids, others []metadata.BrokerID) []metadata.BrokerID {
	return keep(ids, func(id metadata.BrokerID) bool { return !slices.Contains(others, id) })
}

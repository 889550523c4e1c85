package controller

import (
	"cmp"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// electFound makes the replica leader that has most of a restored partition, once
// all have said what they have: one that is not here may have acked records that
// the others lack. (KIP-966's unclean recovery, without its timeout: an operator
// gives up a replica by Elect.) It returns the newest leader epoch of all logs, -1
// if nobody is elected.
func (d decider) electFound(to *metadata.Partition) (newest int32) {
	if len(d.unheard(*to)) > 0 {
		return -1
	}
	for _, f := range to.Found {
		newest = max(newest, f.LeaderEpoch)
	}
	d.electUnclean(to)
	return newest
}

// unheard are the replicas of a restored partition that have not said under their
// registration in force what they have.
func (d decider) unheard(p metadata.Partition) []metadata.BrokerID {
	return keep(p.Replicas, func(id metadata.BrokerID) bool { _, ok := d.found(p, id); return !ok })
}

func (d decider) found(p metadata.Partition, id metadata.BrokerID) (metadata.FoundLog, bool) {
	b, live := d.live(id)
	i := slices.IndexFunc(p.Found, func(f metadata.FoundLog) bool { return f.Broker == id && f.BrokerEpoch == b.Epoch })
	if !live || i < 0 {
		return metadata.FoundLog{}, false
	}
	return p.Found[i], true
}

// mostOf is the candidate with the longest log of the highest leader epoch: what
// was acked is in it, since who led in that epoch had all that was acked before.
// NoBroker if no candidate said what it has.
func (d decider) mostOf(p metadata.Partition, candidates []metadata.BrokerID) metadata.BrokerID {
	best, most := metadata.NoBroker, metadata.FoundLog{}
	for _, id := range candidates {
		f, ok := d.found(p, id)
		if ok && (best == metadata.NoBroker || cmp.Or(cmp.Compare(f.LeaderEpoch, most.LeaderEpoch), cmp.Compare(f.End, most.End)) > 0) {
			best, most = id, f
		}
	}
	return best
}

// awaited counts the restored partitions that nobody leads and names the brokers
// whose disks they wait for.
func awaited(im *metadata.Image) (partitions int, brokers []metadata.BrokerID) {
	d := decider{im: im}
	for _, t := range im.Topics() {
		for _, p := range t.Partitions {
			if !p.Restored() {
				continue
			}
			partitions++
			for _, id := range d.unheard(p) {
				if !slices.Contains(brokers, id) {
					brokers = append(brokers, id)
				}
			}
		}
	}
	slices.Sort(brokers)
	return partitions, brokers
}

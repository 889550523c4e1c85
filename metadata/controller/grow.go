package controller

import (
	"cmp"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// Grow returns the changes that begin to give each partition of a topic factor
// replicas, or as many as there are live brokers for, where it has fewer. New ones
// go to the brokers that hold least of the topic, into racks that the partition is
// not in as long as there are any, and the one that is preferred least often becomes
// the preferred leader. Partitions that are being moved are left alone.
func Grow(im *metadata.Image, t *metadata.Topic, factor int) []metadata.PartitionChange {
	few := func(p metadata.Partition) bool { return len(p.Replicas) < factor && !p.Reassigning() }
	if !slices.ContainsFunc(t.Partitions, few) {
		return nil
	}
	holds, leads := make(map[metadata.BrokerID]int), make(map[metadata.BrokerID]int)
	for i := range t.Partitions {
		for n, id := range t.Partitions[i].Replicas {
			holds[id]++
			if n == 0 {
				leads[id]++
			}
		}
	}
	var changes []metadata.PartitionChange
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if !few(*p) {
			continue
		}
		target := slices.Clone(p.Replicas)
		for len(target) < factor {
			id, ok := another(im, target, holds)
			if !ok {
				break
			}
			holds[id]++
			target = append(target, id)
		}
		if len(target) == len(p.Replicas) {
			continue
		}
		leads[target[0]]--
		first := slices.MinFunc(target, func(a, b metadata.BrokerID) int { return cmp.Compare(leads[a], leads[b]) })
		leads[first]++
		target = slices.Insert(without(target, []metadata.BrokerID{first}), 0, first)
		change, err := Reassign(im, t, int32(i), target)
		if err == nil { // else somebody changed what we saw: the next image says
			changes = append(changes, change)
		}
	}
	return changes
}

// another chooses a live broker for one more replica.
func another(im *metadata.Image, replicas []metadata.BrokerID, holds map[metadata.BrokerID]int) (metadata.BrokerID, bool) {
	racks := make(map[string]bool)
	for _, id := range replicas {
		if b, live := im.Broker(id); live {
			racks[b.Rack] = true
		}
	}
	best, found := metadata.Broker{}, false
	for _, b := range im.Brokers() {
		if b.Draining || !b.Holds() || slices.Contains(replicas, b.ID) {
			continue
		}
		if !found || cmp.Or(compareBool(racks[b.Rack], racks[best.Rack]), cmp.Compare(holds[b.ID], holds[best.ID])) < 0 {
			best, found = b, true
		}
	}
	return best.ID, found
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

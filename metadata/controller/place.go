package controller

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// ErrTooFewBrokers means that there are fewer brokers than replicas asked for.
var ErrTooFewBrokers = errors.New("replication factor larger than available brokers")

// Place assigns the replicas of new partitions to brokers, the preferred leader
// first. Leaders go round the brokers beginning with the start-th, and followers
// are shifted by one more after each round, so that all brokers get as many of
// both and the partitions of a broker that dies spread over all others. If all
// brokers name a rack, a partition's replicas are on as many racks as possible.
// Brokers that are draining get nothing while there are enough others, and those
// of the role replay nothing at all.
// (The rules of Kafka's AdminUtils.assignReplicasToBrokers, without its chance.)
func Place(brokers []metadata.Broker, partitions, replicas, start int) ([][]metadata.BrokerID, error) {
	if replicas < 1 || partitions < 1 {
		return nil, fmt.Errorf("place %d partitions with %d replicas: want at least one of each", partitions, replicas)
	}
	brokers = slices.DeleteFunc(slices.Clone(brokers), func(b metadata.Broker) bool { return !b.Holds() })
	active := slices.DeleteFunc(slices.Clone(brokers), func(b metadata.Broker) bool { return b.Draining })
	if len(active) >= replicas {
		brokers = active
	}
	if len(brokers) < replicas {
		return nil, fmt.Errorf("%w: replication factor %d, %d brokers", ErrTooFewBrokers, replicas, len(brokers))
	}
	ring, racks := newRing(brokers)
	start = max(start, 0)
	out := make([][]metadata.BrokerID, partitions)
	for p := range out {
		// Each round of leaders gets another shift of followers.
		shift := (start/len(ring) + p/len(ring)) * racks
		out[p] = ring.pick((start+p)%len(ring), shift, replicas, racks)
	}
	return out, nil
}

// member is a broker in the ring, with the number of its rack.
type member struct {
	id   metadata.BrokerID
	rack int
}

type ring []member

// newRing orders brokers so that neighbours are on different racks: the first of
// each rack, then the second of each, and so on.
func newRing(brokers []metadata.Broker) (ring, int) {
	sorted := slices.SortedFunc(slices.Values(brokers), func(a, b metadata.Broker) int { return cmp.Compare(a.ID, b.ID) })
	byRack := map[string][]metadata.BrokerID{}
	var names []string
	known := !slices.ContainsFunc(sorted, func(b metadata.Broker) bool { return b.Rack == "" })
	for _, b := range sorted {
		rack := b.Rack
		if !known {
			rack = "" // racks that only some brokers name say nothing
		}
		if byRack[rack] == nil {
			names = append(names, rack)
		}
		byRack[rack] = append(byRack[rack], b.ID)
	}
	slices.Sort(names)
	var out ring
	for i := 0; len(out) < len(sorted); i++ {
		for rack, name := range names {
			if ids := byRack[name]; i < len(ids) {
				out = append(out, member{ids[i], rack})
			}
		}
	}
	return out, len(names)
}

// pick returns the member at first and replicas-1 of those behind it, beginning
// 1+shift further, taking no rack twice before all have one.
func (r ring) pick(first, shift, replicas, racks int) []metadata.BrokerID {
	out := []metadata.BrokerID{r[first].id}
	used := map[int]bool{r[first].rack: true}
	for len(out) < replicas {
		before := len(out)
		for k := 0; k < len(r)-1 && len(out) < replicas; k++ {
			m := r[(first+1+(shift+k)%(len(r)-1))%len(r)]
			if slices.Contains(out, m.id) || used[m.rack] && len(used) < racks {
				continue
			}
			out = append(out, m.id)
			used[m.rack] = true
		}
		if len(out) == before {
			panic("controller: fewer brokers than replicas") // Place has checked
		}
	}
	return out
}

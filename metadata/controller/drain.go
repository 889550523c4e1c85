package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// Drain returns the moves that leave nothing on a broker. Each of its replicas
// goes to the broker that keeps the partition on most racks and has fewest
// replicas. It is a pure function; brokers are the live ones, with or without id.
// Errors: ErrTooFewBrokers, where a partition has nowhere to go.
func Drain(id metadata.BrokerID, brokers []metadata.Broker, topics []*metadata.Topic) ([]Move, error) {
	s := newSpread(brokers, topics, func(b metadata.Broker) bool { return b.ID != id && b.Holds() && !b.Draining })
	from := slices.Index(s.ids, id)
	if from < 0 {
		return nil, nil // it has nothing
	}
	perTopic := make([]int, len(s.ids)) // replicas of the topic at hand by broker
	for i, t := range topics {
		parts := s.parts[s.starts[i]:s.starts[i+1]]
		clear(perTopic)
		for _, p := range parts {
			for _, b := range p.replicas {
				perTopic[b]++
			}
		}
		for n := range parts {
			p := &parts[n]
			if !slices.Contains(p.replicas, from) {
				continue
			}
			to := s.heir(p, from, perTopic)
			if to < 0 {
				return nil, fmt.Errorf("%w: drain broker %d: no other broker can take %s-%d with replicas %v",
					ErrTooFewBrokers, id, t.Name, p.partition, t.Partitions[p.partition].Replicas)
			}
			s.replace(p, from, to)
			perTopic[to]++
			if p.replicas[0] == to { // led by id so far
				s.promote(p, slices.MinFunc(p.replicas, func(a, b int) int {
					return cmp.Or(cmp.Compare(s.lead[a], s.lead[b]), cmp.Compare(a, b))
				}))
			}
		}
	}
	return s.moves(), nil
}

// heir returns who is to take over a broker's replica of a partition, -1 if nobody can.
func (s *spread) heir(p *placed, from int, perTopic []int) int {
	best, bestRacks := -1, 0
	for b := range s.n {
		if slices.Contains(p.replicas, b) {
			continue
		}
		racks := 0
		if s.racks > 0 {
			racks = s.racksOf(p, from, b)
		}
		if best < 0 || cmp.Or(cmp.Compare(bestRacks, racks), cmp.Compare(s.count[b], s.count[best]), cmp.Compare(perTopic[b], perTopic[best])) < 0 {
			best, bestRacks = b, racks
		}
	}
	return best
}

package controller

import (
	"cmp"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// Move is a partition's new replicas, to be given to [Reassign]. Where they are
// the old ones in another order nothing is copied.
type Move struct {
	Topic     *metadata.Topic
	Partition int32
	Replicas  []metadata.BrokerID
}

// spread is where the replicas of all partitions are and are to be. Brokers are
// numbers in it.
type spread struct {
	topics []*metadata.Topic
	parts  []placed // in the topics' order
	starts []int    // of each topic in parts, and the end
	ids    []metadata.BrokerID
	n      int   // brokers below may be given replicas
	rack   []int // of each broker, -1 if it is not known
	racks  int   // of those that may be given replicas, 0 if not all name one
	count  []int // replicas by broker
	lead   []int // preferred leaderships by broker
}

// placed is one partition. Of one that is being reassigned the replicas are the target.
type placed struct {
	topic     int
	partition int32
	replicas  []int
	fixed     bool // is being reassigned
	moved     bool
}

// newSpread numbers the brokers, first those that may be given replicas.
func newSpread(brokers []metadata.Broker, topics []*metadata.Topic, may func(metadata.Broker) bool) *spread {
	s := &spread{topics: topics}
	sorted := slices.SortedFunc(slices.Values(brokers), func(a, b metadata.Broker) int { return cmp.Compare(a.ID, b.ID) })
	numbers, racks := map[metadata.BrokerID]int{}, map[string]int{"": -1}
	add := func(id metadata.BrokerID, rack string) int {
		if _, had := racks[rack]; !had {
			racks[rack] = len(racks) - 1
		}
		numbers[id] = len(s.ids)
		s.ids, s.rack = append(s.ids, id), append(s.rack, racks[rack])
		return len(s.ids) - 1
	}
	for _, b := range sorted {
		if may(b) {
			add(b.ID, b.Rack)
		}
	}
	s.n = len(s.ids)
	if s.racks = len(racks) - 1; slices.Contains(s.rack, -1) {
		s.racks = 0
	}
	for _, b := range sorted {
		if !may(b) {
			add(b.ID, b.Rack)
		}
	}
	for i, t := range topics {
		s.starts = append(s.starts, len(s.parts))
		for n, p := range t.Partitions {
			part := placed{topic: i, partition: int32(n), fixed: p.Reassigning()}
			for _, id := range without(p.Replicas, p.Removing) {
				number, known := numbers[id]
				if !known {
					number = add(id, "")
				}
				part.replicas = append(part.replicas, number)
			}
			s.parts = append(s.parts, part)
		}
	}
	s.starts = append(s.starts, len(s.parts))
	s.count, s.lead = make([]int, len(s.ids)), make([]int, len(s.ids))
	for _, p := range s.parts {
		for _, b := range p.replicas {
			s.count[b]++
		}
		if len(p.replicas) > 0 {
			s.lead[p.replicas[0]]++
		}
	}
	return s
}

// replace gives one replica of a partition to another broker.
func (s *spread) replace(p *placed, from, to int) {
	at := slices.Index(p.replicas, from)
	p.replicas[at], p.moved = to, true
	s.count[from]--
	s.count[to]++
	if at == 0 {
		s.lead[from]--
		s.lead[to]++
	}
}

// promote makes one replica of a partition its preferred leader.
func (s *spread) promote(p *placed, b int) {
	at := slices.Index(p.replicas, b)
	s.lead[p.replicas[0]]--
	s.lead[b]++
	p.replicas[0], p.replicas[at], p.moved = b, p.replicas[0], true
}

// racksOf counts the racks of a partition, with one replica replaced.
func (s *spread) racksOf(p *placed, from, to int) int {
	n := 0
	at := func(i int) int {
		b := p.replicas[i]
		if b == from {
			b = to
		}
		return s.rack[b]
	}
	for i := range p.replicas {
		rack, seen := at(i), false
		for j := range i {
			seen = seen || at(j) == rack
		}
		if rack >= 0 && !seen {
			n++
		}
	}
	return n
}

// fits says whether a broker may take another one's place: a partition is not on
// fewer racks than before.
func (s *spread) fits(p *placed, from, to int) bool {
	if slices.Contains(p.replicas, to) {
		return false
	}
	return s.racks == 0 || s.racksOf(p, from, to) >= s.racksOf(p, -1, -1)
}

// moves returns what differs from what there was, in the order of topics and partitions.
func (s *spread) moves() []Move {
	var out []Move
	for _, p := range s.parts {
		if !p.moved {
			continue
		}
		t := s.topics[p.topic]
		replicas := make([]metadata.BrokerID, len(p.replicas))
		for i, b := range p.replicas {
			replicas[i] = s.ids[b]
		}
		if !slices.Equal(replicas, t.Partitions[p.partition].Replicas) {
			out = append(out, Move{Topic: t, Partition: p.partition, Replicas: replicas})
		}
	}
	return out
}

// shares cuts the sum of have into parts that differ by one at most; who has most
// gets the larger ones, so that least has to move.
func shares(have []int) []int {
	if len(have) == 0 {
		return nil
	}
	sum, order := 0, make([]int, len(have))
	for i, n := range have {
		sum += n
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(have[b], have[a]) })
	out := make([]int, len(have))
	for rank, i := range order {
		out[i] = sum / len(have)
		if rank < sum%len(have) {
			out[i]++
		}
	}
	return out
}

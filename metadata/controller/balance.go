package controller

import (
	"cmp"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// Balance returns the fewest moves after which the brokers' numbers of replicas
// differ by one at most, and so do those of preferred leaderships, as far as each
// partition can stay on as many racks as it is on or could be on. Replicas of a
// topic are spread too, where that costs nothing. Brokers that are draining, of
// the role replay, or not among the live ones given lose nothing and get nothing,
// and partitions that are being reassigned stay. It is a pure function.
func Balance(brokers []metadata.Broker, topics []*metadata.Topic) []Move {
	s := newSpread(brokers, topics, func(b metadata.Broker) bool { return b.Holds() && !b.Draining })
	if s.n == 0 {
		return nil
	}
	s.spreadRacks()
	e := evening{
		spread: s, share: shares(s.count[:s.n]),
		hosts: make([][]int, s.n), blocked: make([]bool, s.n*s.n), next: make([]int, s.n*s.n),
	}
	// First where it spreads a topic, then anywhere.
	for _, least := range []int{2, 1, -len(s.parts)} {
		e.pass(func() (from, to int) { return e.toShare(least) })
	}
	// Racks may have kept some from their shares: come as close as possible.
	for slices.Max(s.count[:s.n])-slices.Min(s.count[:s.n]) > 1 && e.pass(e.closer) {
	}
	s.evenLeaders(func(p *placed) bool { return p.moved }) // costs no further move
	s.evenLeaders(func(p *placed) bool { return true })
	return s.moves()
}

// spreadRacks moves replicas of partitions that are on fewer racks than they
// could be.
func (s *spread) spreadRacks() {
	for i := range s.parts {
		p := &s.parts[i]
		for s.racks > 0 && !p.fixed && s.racksOf(p, -1, -1) < min(len(p.replicas), s.racks) {
			before := s.racksOf(p, -1, -1)
			from, to := -1, -1
			for _, h := range p.replicas {
				for l := range s.n {
					if h >= s.n || slices.Contains(p.replicas, l) || s.racksOf(p, h, l) <= before {
						continue
					}
					if from < 0 || cmp.Or(cmp.Compare(s.count[l], s.count[to]), cmp.Compare(s.count[from], s.count[h])) < 0 {
						from, to = h, l
					}
				}
			}
			if from < 0 {
				break
			}
			s.replace(p, from, to)
		}
	}
}

// evening moves replicas from brokers that have more than their share to brokers
// that have less.
type evening struct {
	*spread
	share   []int
	hosts   [][]int // of the topic at hand: its partitions by broker
	blocked []bool  // by from*n+to: nothing of the topic at hand can go this way
	next    []int   // by from*n+to: where in hosts[from] to look first
}

// pass goes over all topics and moves within each what pair names, until it names
// none. It says whether anything moved.
func (e *evening) pass(pair func() (from, to int)) bool {
	any := false
	for t := range e.topics {
		e.load(t)
		for from, to := pair(); from >= 0; from, to = pair() {
			if e.move(from, to) {
				any = true
			} else {
				e.blocked[from*e.n+to] = true
			}
		}
	}
	return any
}

// load takes up a topic.
func (e *evening) load(t int) {
	clear(e.blocked)
	for b := range e.hosts {
		e.hosts[b] = e.hosts[b][:0]
	}
	for i := e.starts[t]; i < e.starts[t+1]; i++ {
		for _, b := range e.parts[i].replicas {
			if b < e.n && !e.parts[i].fixed {
				e.hosts[b] = append(e.hosts[b], i)
			}
		}
	}
	for way := range e.next {
		e.next[way] = len(e.hosts[way/e.n]) - 1
	}
}

// toShare returns the pair of brokers whose numbers of the topic's replicas differ
// most, and by least at least, one with too many replicas and one with too few; -1
// if there is none.
func (e *evening) toShare(least int) (from, to int) {
	from, to = -1, -1
	for h := range e.n {
		if e.count[h] <= e.share[h] || len(e.hosts[h]) == 0 || from >= 0 && len(e.hosts[h]) <= len(e.hosts[from]) {
			continue
		}
		best := -1
		for l := range e.n {
			if e.count[l] < e.share[l] && !e.blocked[h*e.n+l] && (best < 0 || len(e.hosts[l]) < len(e.hosts[best])) {
				best = l
			}
		}
		if best >= 0 && len(e.hosts[h])-len(e.hosts[best]) >= least {
			from, to = h, best
		}
	}
	return from, to
}

// closer returns the pair of brokers whose numbers of all replicas differ most,
// by two at least, whatever the shares; -1 if there is none.
func (e *evening) closer() (from, to int) {
	from, to = -1, -1
	most := 1
	for h := range e.n {
		for l := range e.n {
			if diff := e.count[h] - e.count[l]; diff > most && len(e.hosts[h]) > 0 && !e.blocked[h*e.n+l] {
				from, to, most = h, l, diff
			}
		}
	}
	return from, to
}

// move gives one replica of the topic at hand from one broker to another. It goes
// on looking where it found the last one; what it passed may fit later, so it
// looks at all before it gives up.
func (e *evening) move(from, to int) bool {
	next := &e.next[from*e.n+to]
	for _, start := range []int{min(*next, len(e.hosts[from])-1), len(e.hosts[from]) - 1} {
		for k := start; k >= 0; k-- {
			i := e.hosts[from][k]
			if p := &e.parts[i]; e.fits(p, from, to) {
				e.replace(p, from, to)
				e.hosts[from] = slices.Delete(e.hosts[from], k, k+1)
				e.hosts[to] = append(e.hosts[to], i)
				*next = k - 1
				return true
			}
		}
	}
	return false
}

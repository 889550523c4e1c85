package controller

import "slices"

// evenLeaders makes other replicas the preferred leaders of those partitions that
// may change, until the brokers' numbers of preferred leaderships differ by one at
// most or nothing helps. A leadership may go over several brokers: each swap is
// within one partition.
func (s *spread) evenLeaders(may func(*placed) bool) {
	l := leaderships{spread: s, share: shares(s.lead[:s.n]), ways: make([][]int, s.n*s.n)}
	for b := range s.n {
		l.all = append(l.all, b)
	}
	for i := range s.parts {
		if p := &s.parts[i]; !p.fixed && may(p) {
			l.note(i)
		}
	}
	for from := range s.n { // the short ways, which are nearly all
		for to := range s.n {
			for s.lead[from] > l.share[from] && s.lead[to] < l.share[to] && l.hand(from, to) {
			}
		}
	}
	l.along(func(from, to int) bool { return s.lead[from] > l.share[from] && s.lead[to] < l.share[to] })
	l.along(func(from, to int) bool { return s.lead[from] > s.lead[to]+1 }) // where not all get their shares
}

// leaderships are the swaps that are possible.
type leaderships struct {
	*spread
	share []int
	all   []int   // brokers that may lead
	ways  [][]int // by from*n+to: partitions that from is to lead and to holds; some are outdated
}

// note enters a partition under who is to lead it.
func (l *leaderships) note(i int) {
	p := &l.parts[i]
	if len(p.replicas) == 0 || p.replicas[0] >= l.n {
		return
	}
	for _, b := range p.replicas[1:] {
		if b < l.n {
			way := p.replicas[0]*l.n + b
			l.ways[way] = append(l.ways[way], i)
		}
	}
}

// open says whether from has a leadership that to can take, and drops what is outdated.
func (l *leaderships) open(from, to int) bool {
	way := &l.ways[from*l.n+to]
	for len(*way) > 0 {
		p := &l.parts[(*way)[len(*way)-1]]
		if p.replicas[0] == from && slices.Contains(p.replicas, to) {
			return true
		}
		*way = (*way)[:len(*way)-1]
	}
	return false
}

// hand gives one leadership from one broker to another.
func (l *leaderships) hand(from, to int) bool {
	if !l.open(from, to) {
		return false
	}
	way := &l.ways[from*l.n+to]
	i := (*way)[len(*way)-1]
	*way = (*way)[:len(*way)-1]
	l.promote(&l.parts[i], to)
	l.note(i)
	return true
}

// along hands leaderships over, by the shortest ways, from and to brokers of which
// better holds, until there is no such way.
func (l *leaderships) along(better func(from, to int) bool) {
	for from := range l.n {
		for way := l.search(from, better); way != nil; way = l.search(from, better) {
			for i := range way[1:] {
				l.hand(way[i], way[i+1])
			}
		}
	}
}

// search returns the shortest way from a broker to one that is to get one of its
// leaderships, nil if there is none.
func (l *leaderships) search(from int, better func(from, to int) bool) []int {
	ends := func(to int) bool { return better(from, to) }
	if !slices.ContainsFunc(l.all, ends) {
		return nil
	}
	before := make([]int, l.n)
	for b := range before {
		before[b] = -1
	}
	before[from] = from
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		b := queue[0]
		if ends(b) {
			way := []int{b}
			for b != from {
				b = before[b]
				way = append(way, b)
			}
			slices.Reverse(way)
			return way
		}
		for to := range l.n {
			if before[to] < 0 && l.open(b, to) {
				before[to] = b
				queue = append(queue, to)
			}
		}
	}
	return nil
}

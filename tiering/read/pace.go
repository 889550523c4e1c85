package read

import (
	"slices"
	"sync"
	"time"
)

const (
	paceWindow  = 10 * time.Second // how long the shortest GET counts
	paceSamples = 256              // GETs that the slow end is judged by
	paceSettled = 64               // fewer say nothing yet
	// hedgeShare is how many GETs one hedge must be preceded by: at most a
	// twentieth of the load may be asked for twice.
	hedgeShare = 20
	maxHedges  = 4 // at a time
	minHedge   = 5 * time.Millisecond
)

// pace knows how long GETs of chunks take: the shortest of late, which is the store's distance without the queue
// in front of it, and the 95th percentile, beyond which a GET is asked for again.
type pace struct {
	mu      sync.Mutex
	shorts  [2]time.Duration // of this window and of the one before; 0 = none
	since   time.Time        // when this window began
	samples [paceSamples]time.Duration
	n       int // GETs so far
	p95     time.Duration
	allowed int // GETs since the last hedge was paid for
	hedges  int // under way
}

// took notes a GET of a chunk.
func (p *pace) took(d time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) > paceWindow {
		p.shorts[1], p.shorts[0] = p.shorts[0], 0
		p.since = now
	}
	if p.shorts[0] == 0 || d < p.shorts[0] {
		p.shorts[0] = d
	}
	p.samples[p.n%paceSamples] = d
	p.n++
	p.allowed = min(p.allowed+1, hedgeShare*maxHedges)
	if p.n >= paceSettled && p.n%(paceSettled/4) == 0 {
		sorted := slices.Sorted(slices.Values(p.samples[:min(p.n, paceSamples)]))
		p.p95 = sorted[len(sorted)*95/100]
	}
}

// shortest is the time of the fastest GET of late, 0 when none is known.
func (p *pace) shortest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shorts[0] == 0 || p.shorts[1] != 0 && p.shorts[1] < p.shorts[0] {
		return p.shorts[1]
	}
	return p.shorts[0]
}

// hedgeAfter is how long a GET may take before it is asked for again, 0 while that is not known.
func (p *pace) hedgeAfter() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.p95 == 0 {
		return 0
	}
	return max(p.p95, minHedge)
}

// startHedge says whether a GET may be asked for again now; endHedge must follow.
func (p *pace) startHedge() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.allowed < hedgeShare || p.hedges == maxHedges {
		return false
	}
	p.allowed -= hedgeShare
	p.hedges++
	return true
}

func (p *pace) endHedge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hedges--
}

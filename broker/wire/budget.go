package wire

import (
	"container/list"
	"context"
	"sync"
	"time"
)

const (
	// smallClaim is the size up to which a claim is small. A part of the budget is for small claims only, and they wait
	// only for each other: whatever large frames are about, the requests that nearly all clients send get through.
	smallClaim = 64 << 10
	// smallShare is that part of the budget: an eighth.
	smallShare = 8
)

// budget is the memory that the requests of all connections may hold together (Options.MemoryBytes), from the arrival of
// their bytes until their answers are written.
//
// A claim that holds nothing waits in the order of arrival. One that holds memory and needs more, such as a frame half
// read, must not wait for others that do the same: they would wait for each other. So one of those at a time, the one
// that has waited longest, has the lane: it may go beyond the budget until it has given that back. What is held is at
// most the budget and what one request may take.
type budget struct {
	limit int64

	mu     sync.Mutex
	used   int64     // charged, at most limit
	lane   *claim    // may go beyond limit; nil: nobody
	queues [2]*queue // claims that wait: small ones, large ones
}

// queue holds *waiter in the order of arrival.
type queue struct{ list.List }

// waiter is a claim that waits to grow.
type waiter struct {
	claim *claim
	n     int64
	since time.Time
	ready chan struct{}
}

// claim is the memory held for one request. Only one goroutine at a time uses it.
type claim struct {
	conn    *Conn
	size    int64 // bytes held
	charged int64 // of those, what counts against the budget
	prior   bool  // goes with the small ones, whatever its size
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, queues: [2]*queue{new(queue), new(queue)}}
}

// small tells whether a claim is a small one when it has a size.
func (c *claim) small(size int64) bool { return c.prior || size <= smallClaim }

// queueOf returns the queue in which a claim waits for a size.
func (b *budget) queueOf(c *claim, size int64) *queue {
	if c.small(size) {
		return b.queues[0]
	}
	return b.queues[1]
}

// most is what a claim may find charged once it has its size. What is larger than all of the budget is
// charged all of it: it waits to be alone.
func (b *budget) most(c *claim, size int64) int64 {
	if c.small(size) {
		return b.limit
	}
	return b.limit - b.limit/smallShare
}

// takeLocked gives a claim n more bytes if they are there.
func (b *budget) takeLocked(c *claim, n int64) bool {
	most := b.most(c, c.size+n)
	charge := max(0, min(c.size+n, most)-c.charged)
	if b.used+charge > most {
		return false
	}
	b.used += charge
	c.charged += charge
	c.add(n)
	return true
}

// passLocked gives a claim n more bytes by the lane.
func (b *budget) passLocked(c *claim, n int64) bool {
	if c.charged == 0 || b.lane != nil && b.lane != c {
		return false
	}
	b.lane = c
	c.add(n)
	return true
}

func (c *claim) add(n int64) {
	c.size += n
	c.conn.held.Add(n)
}

// grow gives a claim n more bytes, waiting for them until ctx ends.
func (b *budget) grow(ctx context.Context, c *claim, n int64) error {
	if n <= 0 {
		return nil
	}
	b.mu.Lock()
	q := b.queueOf(c, c.size+n)
	if q.Len() == 0 && b.takeLocked(c, n) || b.passLocked(c, n) {
		b.mu.Unlock()
		return nil
	}
	w := &waiter{claim: c, n: n, since: time.Now(), ready: make(chan struct{})}
	e := q.PushBack(w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // given meanwhile: it is released with the claim
	default:
		q.Remove(e)
		b.wakeLocked() // who stood behind it may be smaller
	}
	return ctx.Err()
}

// tryGrow gives a claim n more bytes if they leave half of the budget free.
func (b *budget) tryGrow(c *claim, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used+n <= b.limit/2 && b.takeLocked(c, n)
}

// shrink takes n bytes of a claim back.
func (b *budget) shrink(c *claim, n int64) {
	if n <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c.add(-n)
	back := c.charged - min(c.charged, c.size)
	c.charged -= back
	b.used -= back
	if b.lane == c && c.size == c.charged {
		b.lane = nil
	}
	b.wakeLocked()
}

// release takes everything back. The claim may be used again.
func (b *budget) release(c *claim) { b.shrink(c, c.size) }

// wakeLocked gives those that wait what has become free.
func (b *budget) wakeLocked() {
	for _, q := range b.queues {
		for e := q.Front(); e != nil; e = q.Front() {
			if w := e.Value.(*waiter); !b.takeLocked(w.claim, w.n) {
				break
			}
			q.serve(e)
		}
	}
	for _, q := range b.queues {
		for e := q.Front(); e != nil && b.lane == nil; e = e.Next() {
			if w := e.Value.(*waiter); b.passLocked(w.claim, w.n) {
				q.serve(e)
				return
			}
		}
	}
}

// serve lets a waiter go on.
func (q *queue) serve(e *list.Element) {
	q.Remove(e)
	close(e.Value.(*waiter).ready)
}

// waiting returns since when somebody waits, zero when nobody does, and whose request has the lane.
func (b *budget) waiting() (since time.Time, lane *Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lane != nil {
		lane = b.lane.conn
	}
	for _, q := range b.queues {
		if e := q.Front(); e != nil {
			if w := e.Value.(*waiter); since.IsZero() || w.since.Before(since) {
				since = w.since
			}
		}
	}
	return since, lane
}

// inUse returns what is charged.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

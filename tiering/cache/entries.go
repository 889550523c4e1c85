package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/tiering/memory"
)

// leftAfter is how long a prefetched piece that nobody asks for again is kept for its reader where others could use
// its share.
const leftAfter = 250 * time.Millisecond

// Run runs the fetches until ctx ends; then it cancels them, waits for them and frees all memory that
// nobody holds. Pieces still pinned are freed by their Release. Afterwards the cache is closed.
func (c *Cache) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("cache runs already")
	}
	var fetches sync.WaitGroup
	if c.disk != nil {
		fetches.Go(func() { c.disk.run(ctx, c) })
	}
	for {
		for _, e := range c.takeStarts() {
			fetches.Go(func() { c.run(ctx, e) })
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			c.close()
			fetches.Wait()
			c.drain()
			if c.disk != nil {
				return errors.Join(c.disk.close(), c.unregister())
			}
			return c.unregister()
		}
	}
}

func (c *Cache) takeStarts() []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.starts
	c.starts = nil
	return s
}

// run is one fetch.
func (c *Cache) run(ctx context.Context, e *entry) {
	n, here := 0, false
	var err error
	if c.disk != nil {
		n, here = c.disk.load(e.key, e.buf.Bytes()[:e.size])
	}
	if !here {
		n, err = e.fetch(ctx, e.buf.Bytes()[:e.size])
	}
	if err == nil && (n < 0 || n > e.size) {
		err = fmt.Errorf("fetch of %s %d returned %d of %d bytes", e.key.Object, e.key.Chunk, n, e.size)
	}
	took := time.Since(e.started)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if err != nil {
		c.log.Debug("chunk fetch failed", "object", e.key.Object, "took", took, "err", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Running--
	e.fetch = nil
	if err != nil {
		c.stats.Failed++
		c.failLocked(e, err)
		c.admitLocked()
		return
	}
	e.data = e.buf.Bytes()[:n:n]
	e.state = ready
	if !here {
		c.stats.Fetched++
		c.stats.FetchedBytes += int64(n)
		c.offerLocked(e)
	}
	if e.pins > 0 {
		c.stats.PinnedBytes += int64(e.buf.Len())
	}
	close(e.done)
	if e.pins == 0 {
		c.idleLocked(e)
		c.admitLocked()
	}
}

// offerLocked hands a piece that came from the store to the disk's writer. It stays as free to be evicted as it
// was: the writer takes what is still there when its turn comes. When it has too many the oldest is dropped, the
// likeliest to be gone.
func (c *Cache) offerLocked(e *entry) {
	switch {
	case c.disk == nil || !e.indexed:
		return
	case len(e.data) > c.chunk:
		c.disk.dropped()
		return
	case len(c.offers) == maxOffers:
		c.offers = slices.Delete(c.offers, 0, 1)
		c.disk.dropped()
	}
	c.offers = append(c.offers, e)
	c.disk.wakeWriter()
}

// takeOffer copies the next offered piece that is still in memory into dst, of chunk bytes. It is pinned for the
// copy only.
func (c *Cache) takeOffer(dst []byte) (key Key, size, n int, ok bool) {
	e := c.pinOffer()
	if e == nil {
		return Key{}, 0, 0, false
	}
	n = copy(dst, e.data)
	c.mu.Lock()
	c.unpinLocked(e)
	c.mu.Unlock()
	return e.key, e.size, n, true
}

func (c *Cache) pinOffer() *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.offers) > 0 {
		e := c.offers[0]
		c.offers = slices.Delete(c.offers, 0, 1)
		if e.state != ready || !e.indexed {
			c.disk.dropped()
			continue
		}
		if e.pins == 0 {
			c.ringOf(e).remove(e)
			c.stats.PinnedBytes += int64(e.buf.Len())
		}
		e.pins++
		c.disk.begin(e.key)
		return e
	}
	return nil
}

// close refuses new work and fails what has not started.
func (c *Cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, e := range slices.Concat(c.queue, c.starts) {
		if e.state == started {
			c.stats.Running--
		}
		c.failLocked(e, ErrClosed)
	}
	c.queue, c.starts = nil, nil
}

// drain frees what nobody pins, after the last fetch.
func (c *Cache) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.index {
		c.unindexLocked(e)
	}
	for e := c.oldestLocked(); e != nil; e = c.oldestLocked() {
		c.ringOf(e).remove(e)
		c.freeLocked(e)
	}
	for len(c.spare) > 0 {
		c.dropSpareLocked()
	}
}

// enqueueLocked makes an entry that waits for memory.
func (c *Cache) enqueueLocked(reader string, key Key, size int, fetch Fetch) *entry {
	e := &entry{key: key, size: size, fetch: fetch, done: make(chan struct{}), indexed: true}
	c.index[key] = e
	if first := c.objects[key.Object]; first != nil {
		e.sibling, first.elder = first, e
	}
	c.objects[key.Object] = e
	c.lineUpLocked(e, reader, c.turnLocked(reader))
	return e
}

// turnLocked is the turn of a reader's next entry: right after its last one, and not before those of now
// (start-time fair queuing, of pieces).
func (c *Cache) turnLocked(reader string) int64 {
	if last, ok := c.turns[reader]; ok {
		return max(c.turn, last+1)
	}
	return c.turn
}

// lineUpLocked puts e into the queue for a turn of a reader.
func (c *Cache) lineUpLocked(e *entry, reader string, turn int64) {
	if len(c.turns) > 2*len(c.queue)+64 {
		maps.DeleteFunc(c.turns, func(_ string, last int64) bool { return last < c.turn }) // as good as none
	}
	c.turns[reader] = turn
	e.reader, e.turn = reader, turn
	at, _ := slices.BinarySearchFunc(c.queue, turn+1, func(q *entry, turn int64) int { return cmp.Compare(q.turn, turn) })
	c.queue = slices.Insert(c.queue, at, e)
}

// hastenLocked lets an entry that waits for memory have the turn of another reader that wants it, too, if that
// is an earlier one.
func (c *Cache) hastenLocked(e *entry, reader string) {
	if turn := c.turnLocked(reader); e.state == queued && turn < e.turn {
		c.queue = slices.DeleteFunc(c.queue, func(q *entry) bool { return q == e })
		c.lineUpLocked(e, reader, turn)
	}
}

// leftLocked notes that entries up to a turn have left the queue.
func (c *Cache) leftLocked(turn int64) {
	if c.turn = turn; len(c.queue) == 0 {
		c.queue, c.turn = nil, 0
		clear(c.turns)
	}
}

// unindexLocked hides e from later calls.
func (c *Cache) unindexLocked(e *entry) {
	if !e.indexed {
		return
	}
	e.indexed = false
	delete(c.index, e.key)
	if e.sibling != nil {
		e.sibling.elder = e.elder
	}
	switch {
	case e.elder != nil:
		e.elder.sibling = e.sibling
	case e.sibling != nil:
		c.objects[e.key.Object] = e.sibling
	default:
		delete(c.objects, e.key.Object)
	}
	e.sibling, e.elder = nil, nil
}

// admitLocked gives memory to the queue's first entries as far as there is any.
func (c *Cache) admitLocked() {
	admitted := 0
	for _, e := range c.queue {
		if !c.reserveLocked(e) {
			break
		}
		e.state = started
		e.started = time.Now()
		c.stats.Running++
		c.starts = append(c.starts, e)
		admitted++
	}
	if admitted == 0 {
		return
	}
	turn := c.queue[admitted-1].turn
	c.queue = c.queue[admitted:]
	c.leftLocked(turn)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// reserveLocked finds memory for e: a spare buffer, new memory within the bound, or that of the
// least recently used pieces.
func (c *Cache) reserveLocked(e *entry) bool {
	foot := footprint(e.size, c.chunk)
	if !c.canReserveLocked(int64(foot)) {
		return false // and evict nothing for it
	}
	for {
		if n := len(c.spare); n > 0 && foot == c.chunk {
			e.buf, c.spare = c.spare[n-1], c.spare[:n-1]
			return true
		}
		if c.stats.UsedBytes+int64(foot) <= c.memory {
			e.buf = memory.New(foot)
			c.stats.UsedBytes += int64(foot)
			return true
		}
		if len(c.spare) > 0 {
			c.dropSpareLocked()
			continue
		}
		c.evictLocked(c.oldestLocked()) // canReserveLocked says that there is one
	}
}

func (c *Cache) evictLocked(e *entry) {
	c.ringOf(e).remove(e)
	c.unindexLocked(e)
	c.stats.Evicted++
	if e.prefetched {
		c.stats.UnusedPrefetches++
	}
	c.freeLocked(e)
}

// roomAheadLocked reports whether foot bytes more may be prefetched, and makes room for them where they may displace.
// Readers that come back have what is ahead of them touched again and again.
func (c *Cache) roomAheadLocked(foot int64, displace bool) bool {
	for c.stats.AheadBytes+foot > c.ahead {
		oldest := c.fresh.last()
		if !displace || oldest == nil || time.Since(oldest.touched) < leftAfter {
			return false
		}
		c.evictLocked(oldest)
	}
	return true
}

// canReserveLocked reports whether evicting all that may be evicted would make room.
func (c *Cache) canReserveLocked(foot int64) bool {
	firm := c.stats.UsedBytes - c.lru.bytes - c.fresh.bytes - int64(len(c.spare))*int64(c.chunk)
	return firm+foot <= c.memory
}

// freeLocked gives the buffer of a piece that nobody holds back.
func (c *Cache) freeLocked(e *entry) {
	c.usedLocked(e)
	e.state, e.data = dead, nil
	scribble(e.buf.Bytes())
	if e.buf.Len() == c.chunk && !c.closed {
		c.spare = append(c.spare, e.buf)
	} else if e.buf.Len() > 0 {
		c.stats.UsedBytes -= int64(e.buf.Len())
		e.buf.Free()
	}
	e.buf = memory.Buffer{}
}

func (c *Cache) dropSpareLocked() {
	last := len(c.spare) - 1
	c.stats.UsedBytes -= int64(c.chunk)
	c.spare[last].Free()
	c.spare = c.spare[:last]
}

// failLocked ends an entry without data.
func (c *Cache) failLocked(e *entry, err error) {
	c.unindexLocked(e)
	e.err = err
	c.freeLocked(e)
	close(e.done)
}

// abandonLocked drops an entry that waits for memory and for which nobody waits.
func (c *Cache) abandonLocked(e *entry) {
	c.queue = slices.DeleteFunc(c.queue, func(q *entry) bool { return q == e })
	c.turns[e.reader] = min(c.turns[e.reader], e.turn-1) // who asks again has this turn again
	c.leftLocked(c.turn)
	c.failLocked(e, context.Canceled)
	c.admitLocked() // the next one may want less
}

// usedLocked ends e's time as a prefetched piece that nobody has used.
func (c *Cache) usedLocked(e *entry) {
	if e.prefetched {
		e.prefetched = false
		c.stats.AheadBytes -= int64(footprint(e.size, c.chunk))
	}
}

// pinLocked takes a ready piece into use.
func (c *Cache) pinLocked(e *entry) {
	if e.pins == 0 {
		c.ringOf(e).remove(e)
		c.stats.PinnedBytes += int64(e.buf.Len())
	}
	e.pins++
	c.usedLocked(e)
}

func (c *Cache) unpinLocked(e *entry) {
	if e.pins--; e.pins > 0 {
		return
	}
	c.stats.PinnedBytes -= int64(e.buf.Len())
	c.idleLocked(e)
	if len(c.queue) > 0 {
		c.admitLocked()
	}
}

// idleLocked keeps a ready piece that nobody holds, unless it was invalidated meanwhile.
func (c *Cache) idleLocked(e *entry) {
	if e.indexed && !c.closed {
		c.restLocked(e)
		return
	}
	c.unindexLocked(e)
	c.freeLocked(e)
}

// ringOf is where a ready piece is that nobody holds.
func (c *Cache) ringOf(e *entry) *ring {
	if e.prefetched {
		return &c.fresh
	}
	return &c.lru
}

// restLocked makes e the last to be evicted.
func (c *Cache) restLocked(e *entry) {
	c.touches++
	e.touch, e.touched = c.touches, time.Now()
	c.ringOf(e).push(e)
}

// oldestLocked is the piece that was touched the longest ago, or nil.
func (c *Cache) oldestLocked() *entry {
	used, fresh := c.lru.last(), c.fresh.last()
	if used == nil || fresh != nil && fresh.touch < used.touch {
		return fresh
	}
	return used
}

// ring is an LRU list, newest first. Its zero value is empty.
type ring struct {
	newest, oldest *entry
	bytes          int64
}

func (r *ring) push(e *entry) {
	e.prev, e.next = nil, r.newest
	if r.newest != nil {
		r.newest.prev = e
	} else {
		r.oldest = e
	}
	r.newest = e
	r.bytes += int64(e.buf.Len())
}

func (r *ring) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		r.newest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		r.oldest = e.prev
	}
	e.prev, e.next = nil, nil
	r.bytes -= int64(e.buf.Len())
}

func (r *ring) last() *entry { return r.oldest }

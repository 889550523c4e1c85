package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/coldbrook/coldbrook/tiering/memory"
)

// What callers test for.
var (
	ErrTooLarge = errors.New("piece is larger than the cache")
	ErrShare    = errors.New("whoever asks holds its share of the cache")
	ErrClosed   = errors.New("cache is closed")
)

// Key names a piece of an object. What Chunk counts is the caller's business; it must imply offset
// and size.
type Key struct {
	Object string
	Chunk  int64
}

// Reader says for whom a piece is wanted. The zero value is this program itself, whose pieces are charged to nobody.
type Reader struct {
	Client string // whose turn it is where there is not enough memory for all
	// Holder is charged with the memory of the pieces it holds or waits for: a connection, whose answers stay until
	// its peer takes them.
	Holder string
}

// Fetch fills dst from its beginning and returns how many bytes the piece has. It is called at most
// once at a time for a key, with the cache's own context. It must not keep dst.
type Fetch = func(ctx context.Context, dst []byte) (n int, err error)

// Options of New. Zero values mean the defaults.
type Options struct {
	MemoryBytes   int64 // bound of all buffers; default 128 MiB
	ChunkBytes    int   // size of reused buffers, the usual size of a piece; default 4 MiB
	PrefetchBytes int64 // bound of prefetched pieces that nobody has used yet; default a quarter of MemoryBytes
	Disk          *Disk // second level, closed by Run; nil: none
	// Count, when set, is told of each piece of an object that a caller asked for: a hit needed no fetch of its own.
	// It is called concurrently, without a lock, and must not wait.
	Count  func(object string, bytes int64, hit bool)
	Logger *slog.Logger
	Meter  metric.Meter
}

// Cache is a bounded cache of pieces of objects. Its methods are safe for concurrent use. Fetches
// run only while Run does.
type Cache struct {
	memory     int64
	chunk      int
	ahead      int64
	log        *slog.Logger
	count      func(object string, bytes int64, hit bool)
	disk       *Disk // or nil
	unregister func() error
	wake       chan struct{} // buffered 1: Run has something to start
	running    atomic.Bool

	mu      sync.Mutex
	closed  bool
	index   map[Key]*entry
	objects map[string]*entry // first of each object's entries in the index
	lru     ring              // ready, not pinned, and used before
	fresh   ring              // ready, not pinned, and prefetched for somebody who has not come yet
	queue   []*entry          // want memory, by turn
	turn    int64             // of the last that left the queue, 0 when it is empty
	turns   map[string]int64  // of each client's last entry; empty when the queue is
	held    shares            // of the holders
	starts  []*entry          // have memory, Run has not picked them up yet
	touches int64             // so far
	spare   []memory.Buffer   // of chunk bytes each
	offers  []*entry          // to be written to the disk; some may be gone by then
	stats   Stats
}

// entry is one piece, from the first call for it to the last Release.
type entry struct {
	key   Key
	size  int
	fetch Fetch

	reader string // whose turn it waits for
	turn   int64
	buf    memory.Buffer
	data   []byte // buf's first n bytes, once ready
	err    error  // why there is no data; set before done is closed
	done   chan struct{}

	state      state
	indexed    bool
	prefetched bool // and nobody has used it yet
	pins       int  // holders, and before ready: waiting callers
	started    time.Time

	prev, next     *entry    // in lru or fresh
	touch          int64     // orders releases, and where a piece was asked for ahead again
	touched        time.Time // when that was
	sibling, elder *entry    // the object's entries, doubly linked
}

type state uint8

const (
	queued state = iota
	started
	ready
	dead // failed, or its buffer is given back
)

// Stats counts since New; the last group is the present.
type Stats struct {
	Hits, Misses, Joined, Prefetches, Dropped int64 // Joined: found another's fetch under way; Dropped: prefetches refused
	Fetched, Failed, Evicted, Invalidated     int64 // pieces; Fetched: from the store
	FetchedBytes, HitBytes                    int64
	UnusedPrefetches                          int64 // evicted before anybody used them

	Entries, Queued, Running int64
	UsedBytes                int64 // all buffers
	PinnedBytes              int64 // of pieces in use
	AheadBytes               int64 // prefetched and not used yet
	SpareBytes               int64
}

// New returns an empty cache. It starts nothing. The disk is the cache's from here on, even with an error.
func New(o Options) (c *Cache, err error) {
	defer func() {
		if err != nil && o.Disk != nil {
			err = errors.Join(err, o.Disk.close())
		}
	}()
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 128 << 20
	}
	if o.ChunkBytes == 0 {
		o.ChunkBytes = 4 << 20
	}
	if o.PrefetchBytes == 0 {
		o.PrefetchBytes = o.MemoryBytes / 4
	}
	if o.ChunkBytes < pageBytes || o.ChunkBytes%pageBytes != 0 || int64(o.ChunkBytes) > o.MemoryBytes {
		return nil, fmt.Errorf("cache chunk of %d bytes: want a multiple of %d and at most the memory of %d", o.ChunkBytes, pageBytes, o.MemoryBytes)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	if o.Count == nil {
		o.Count = func(string, int64, bool) {}
	}
	c = &Cache{
		memory: o.MemoryBytes, chunk: o.ChunkBytes, ahead: o.PrefetchBytes, disk: o.Disk, log: o.Logger, count: o.Count,
		wake:    make(chan struct{}, 1),
		index:   make(map[Key]*entry),
		objects: make(map[string]*entry),
		turns:   make(map[string]int64),
		held:    shares{memory: o.MemoryBytes, of: make(map[string]int64)},
	}
	if c.disk != nil {
		c.disk.maxLoads = int(max(c.memory/int64(c.chunk)/loadShare, 1))
	}
	return c, c.register(o.Meter)
}

// ChunkBytes is the usual size of a piece.
func (c *Cache) ChunkBytes() int { return c.chunk }

// MemoryBytes is the bound of all buffers.
func (c *Cache) MemoryBytes() int64 { return c.memory }

// Pinned is a piece in use. Its bytes stay as they are until Release.
type Pinned struct {
	c      *Cache
	e      *entry
	holder string
	charge int64
}

// Len is the number of bytes.
func (p *Pinned) Len() int { return len(p.e.data) }

// Bytes are the piece's bytes. They must not be changed, nor used after Release.
func (p *Pinned) Bytes() []byte { return p.e.data }

// Release ends the use. Only the first call counts.
func (p *Pinned) Release() {
	p.c.mu.Lock()
	if p.e != nil {
		p.c.held.payBack(p.holder, p.charge)
		p.c.unpinLocked(p.e)
		p.e = nil
	}
	p.c.mu.Unlock()
}

// Get returns the piece, fetching its at most size bytes when it is not there. Readers that wait for
// memory take turns, whatever each of them asks for. The wait for memory and for the fetch ends with
// ctx; the fetch goes on without its caller. A caller that waits while it holds other pieces must have
// a deadline: all memory may be pinned by callers like itself.
// Errors: ErrTooLarge, ErrClosed, ErrShare when the holder has so much already, ctx's, the fetch's.
func (c *Cache) Get(ctx context.Context, reader Reader, key Key, size int, fetch Fetch) (*Pinned, error) {
	charge := int64(footprint(size, c.chunk))
	c.mu.Lock()
	if !c.held.charge(reader.Holder, charge) {
		c.mu.Unlock()
		return nil, ErrShare
	}
	e := c.index[key]
	if e != nil && e.state == ready {
		p := c.hitLocked(e, reader.Holder, charge)
		c.mu.Unlock()
		c.count(key.Object, int64(p.Len()), true)
		return p, nil
	}
	joined := e != nil
	switch {
	case e != nil:
		c.stats.Joined++
		c.usedLocked(e)
		c.hastenLocked(e, reader.Client)
	default:
		if err := c.refuseLocked(size); err != nil {
			c.held.payBack(reader.Holder, charge)
			c.mu.Unlock()
			return nil, err
		}
		c.stats.Misses++
		e = c.enqueueLocked(reader.Client, key, size, fetch)
	}
	e.pins++ // becomes a pin when the piece is ready
	c.admitLocked()
	c.mu.Unlock()
	c.count(key.Object, int64(size), joined)
	return c.wait(ctx, e, reader.Holder, charge)
}

// Lookup returns the piece if it is there and within the holder's share. It never waits.
func (c *Cache) Lookup(reader Reader, key Key) (*Pinned, bool) {
	c.mu.Lock()
	e := c.index[key]
	if e == nil || e.state != ready || !c.held.charge(reader.Holder, int64(e.buf.Len())) {
		c.mu.Unlock()
		return nil, false
	}
	p := c.hitLocked(e, reader.Holder, int64(e.buf.Len()))
	c.mu.Unlock()
	c.count(key.Object, int64(p.Len()), true)
	return p, true
}

// hitLocked takes a piece that is there into use.
func (c *Cache) hitLocked(e *entry, holder string, charge int64) *Pinned {
	c.pinLocked(e)
	c.stats.Hits++
	c.stats.HitBytes += int64(len(e.data))
	return &Pinned{c, e, holder, charge}
}

// Prefetch starts to fetch the piece if it is not there, and waits for nothing. It reports whether
// the piece is there or on its way; false means that it would exceed PrefetchBytes, displace pieces
// that callers wait for, or that the cache is closed. Within PrefetchBytes it may displace what was
// prefetched before and nobody has asked for since, ahead or not, for a quarter of a second.
func (c *Cache) Prefetch(key Key, size int, fetch Fetch, displace bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.index[key]; e != nil {
		// It will be read soon: what was read before and is released after this must not outlive it.
		if e.state == ready && e.pins == 0 {
			c.ringOf(e).remove(e)
			c.restLocked(e)
		}
		return true
	}
	foot := int64(footprint(size, c.chunk))
	if c.refuseLocked(size) != nil || len(c.queue) > 0 || !c.roomAheadLocked(foot, displace) {
		c.stats.Dropped++
		return false
	}
	e := c.enqueueLocked("", key, size, fetch)
	e.prefetched = true
	c.stats.Prefetches++
	c.stats.AheadBytes += foot
	c.admitLocked()
	if e.state == queued { // everything is pinned
		c.abandonLocked(e)
		c.stats.Prefetches--
		c.stats.Dropped++
		return false
	}
	return true
}

// Invalidate forgets all pieces of an object, in memory and on disk. Who holds or waits for one still
// gets it; later calls fetch again.
func (c *Cache) Invalidate(object string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.objects[object]; e != nil; e = c.objects[object] {
		c.stats.Invalidated++
		c.unindexLocked(e)
		if e.state == ready && e.pins == 0 {
			c.ringOf(e).remove(e)
			c.freeLocked(e)
		}
	}
	if c.disk != nil {
		c.disk.forget(object)
	}
	c.admitLocked()
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Entries, s.Queued = int64(len(c.index)), int64(len(c.queue))
	s.SpareBytes = int64(len(c.spare)) * int64(c.chunk)
	return s
}

func (c *Cache) refuseLocked(size int) error {
	switch {
	case c.closed:
		return ErrClosed
	case size < 0 || int64(footprint(size, c.chunk)) > c.memory:
		return fmt.Errorf("%d bytes: %w of %d", size, ErrTooLarge, c.memory)
	}
	return nil
}

// wait waits for e as one of the callers counted in e.pins.
func (c *Cache) wait(ctx context.Context, e *entry, holder string, charge int64) (*Pinned, error) {
	select {
	case <-e.done:
		if e.err == nil {
			return &Pinned{c, e, holder, charge}, nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held.payBack(holder, charge)
		return nil, e.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held.payBack(holder, charge)
	switch e.state {
	case ready:
		c.unpinLocked(e)
	case queued:
		if e.pins--; e.pins == 0 {
			c.abandonLocked(e)
		}
	case started:
		e.pins--
	case dead:
	}
	return nil, ctx.Err()
}

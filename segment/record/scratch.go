package record

import "sync"

const (
	// scratchBytes is what all decompressors together may hold: as much as the
	// largest batch may need.
	scratchBytes = DefaultMaxDecompressed
	// smallScratch is what each has for itself beside that.
	smallScratch = 2 << 20
)

// decompressing is the memory of all decompressors. Who sends a few bytes that take
// much to decompress waits for the others who do.
var decompressing = newScratch(scratchBytes)

// scratch is memory that is claimed before it is allocated.
type scratch struct {
	limit int64

	mu    sync.Mutex
	free  int64  // below zero by what alone has beyond the limit
	alone *claim // reads a large record; nil: nobody
	more  sync.Cond
}

func newScratch(limit int64) *scratch {
	s := &scratch{limit: limit, free: limit}
	s.more.L = &s.mu
	return s
}

// claim is what one decompressor has claimed of a scratch. It gives back what it has
// before it waits for more, and who reads a large record waits for nothing: so those
// who wait do not wait for each other.
type claim struct {
	of   *scratch
	held int64
	turn bool // to hold a large record
}

// replace gives back what was claimed and waits for n bytes. At most smallScratch is
// free. What is more than everything is everything.
func (c *claim) replace(n int64) {
	if n = min(n, c.of.limit); n <= smallScratch {
		n = 0
	}
	if n <= c.held {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.releaseLocked()
	for c.of.free < n && c.of.alone != c {
		c.of.more.Wait()
	}
	c.of.free -= n
	c.held = n
}

// large waits for the turn to hold a record of more than smallScratch bytes, whose
// length nobody knows before it is there. One claim has it at a time.
func (c *claim) large() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	for c.of.alone != nil && c.of.alone != c {
		c.of.more.Wait()
	}
	c.of.alone, c.turn = c, true
}

func (c *claim) release() {
	if c.held == 0 && !c.turn {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.turn {
		c.of.alone, c.turn = nil, false
	}
	c.releaseLocked()
}

func (c *claim) releaseLocked() {
	c.of.free += c.held
	c.held = 0
	c.of.more.Broadcast()
}

package read

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
)

const (
	// outsizedShare is the part of the cache's memory above which a piece does not go into it: waiting for that much
	// to be unpinned would hold up everybody, and displace everything.
	outsizedShare = 4
	// keepUnused is how long an outsized piece waits for the reader that gave up waiting for it.
	keepUnused = 10 * time.Second
)

// reserve reads what is too large for the cache, one piece at a time: a batch of a hundred megabytes stays readable
// with a cache of eight, for the memory of that one batch. Like the cache it fetches once for all who want the piece,
// and goes on when they leave.
type reserve struct {
	tasks *bucket.Tasks

	mu   sync.Mutex
	held *outsized     // nil: free
	gone chan struct{} // closed when held is dropped
}

// outsized is the piece in the reserve. Its last three fields are guarded by reserve.mu.
type outsized struct {
	r    *reserve
	key  cache.Key
	b    []byte
	err  error
	done chan struct{}

	pins    int  // holders, and callers that wait
	used    bool // somebody got it
	expired bool // nobody came for it in time
}

// get returns the piece, pinned. Waiting ends with ctx; what was begun does not.
func (r *reserve) get(ctx context.Context, key cache.Key, size int64, fetch cache.Fetch) (*outsized, error) {
	for {
		r.mu.Lock()
		o, gone, mine := r.held, r.gone, false
		if o == nil {
			o, mine = &outsized{r: r, key: key, done: make(chan struct{})}, true
			r.held, r.gone = o, make(chan struct{})
		}
		if o.key == key {
			o.pins++
		}
		r.mu.Unlock()
		if mine && !r.tasks.Start(ctx, bucket.LoadLimit+keepUnused, func(ctx context.Context) { r.run(ctx, o, size, fetch) }) {
			r.finish(o, nil, fmt.Errorf("read %s: %w", key.Object, context.Canceled))
		}
		if o.key == key {
			return r.wait(ctx, o)
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *reserve) wait(ctx context.Context, o *outsized) (*outsized, error) {
	select {
	case <-o.done:
		if o.err != nil {
			return nil, o.err
		}
		r.mu.Lock()
		o.used = true
		r.mu.Unlock()
		return o, nil
	case <-ctx.Done():
		o.release()
		return nil, ctx.Err()
	}
}

// run fetches, and drops what nobody came for.
func (r *reserve) run(ctx context.Context, o *outsized, size int64, fetch cache.Fetch) {
	b := make([]byte, size)
	n, err := fetch(ctx, b)
	r.finish(o, b[:max(n, 0)], err)
	if err != nil {
		return
	}
	bucket.Sleep(ctx, keepUnused)
	r.mu.Lock()
	defer r.mu.Unlock()
	o.expired = true
	r.dropLocked(o)
}

// finish makes the outcome known.
func (r *reserve) finish(o *outsized, b []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.b, o.err = b, err; err != nil {
		o.b, o.pins, o.expired = nil, 0, true // who waits gets the error
		r.dropLocked(o)
	}
	close(o.done)
}

// dropLocked makes room for another piece when this one is done with.
func (r *reserve) dropLocked(o *outsized) {
	if r.held == o && o.pins == 0 && (o.used || o.expired) {
		r.held, o.b = nil, nil
		close(r.gone)
	}
}

// release ends one use.
func (o *outsized) release() {
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	o.pins--
	o.r.dropLocked(o)
}

// Reserved is how many bytes are held outside the cache: those of one piece that is too large for it.
func (r *Reader) Reserved() int64 {
	r.reserve.mu.Lock()
	defer r.reserve.mu.Unlock()
	if r.reserve.held == nil {
		return 0
	}
	return int64(len(r.reserve.held.b))
}

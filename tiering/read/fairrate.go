package read

import (
	"container/heap"
	"context"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
)

// maxReaders is how many readers are remembered that may have taken more than others.
const maxReaders = 1024

// fairRate is a token bucket of bytes that readers wait for. When there is not enough for all, readers take turns by
// bytes, however many of their requests wait: start-time fair queueing. The bucket holds a second's worth.
type fairRate struct {
	mu        sync.Mutex
	perSecond int64 // 0 = unlimited
	tokens    float64
	at        time.Time
	turn      float64            // where the request began that was served last, in bytes of its reader
	ends      map[string]float64 // where a reader's last request ends
	queue     waiters
}

// waiter is one request that waits for its bytes.
type waiter struct {
	start, size float64
	place       int           // in the queue
	first       chan struct{} // 1-buffered: it may be the first now, or the rate is another
}

func newFairRate(perSecond int64) *fairRate {
	return &fairRate{perSecond: perSecond, tokens: float64(bucket.Burst(perSecond)), at: time.Now(), ends: map[string]float64{}}
}

// set changes the rate, also for those that wait.
func (r *fairRate) set(perSecond int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advanceLocked(time.Now())
	r.perSecond = max(perSecond, 0)
	r.tokens = min(r.tokens, float64(bucket.Burst(r.perSecond)))
	r.wakeLocked()
}

// take takes n bytes for a reader before they are moved, and returns how long it waited.
func (r *fairRate) take(ctx context.Context, reader string, n int64) (time.Duration, error) {
	w := r.join(reader, n)
	if w == nil {
		return 0, nil
	}
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.first:
		case <-ctx.Done():
			r.leave(w)
			return time.Since(began), ctx.Err()
		}
		wait, served := r.serve(w)
		if served {
			return time.Since(began), nil
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// join queues a request, unless its bytes are there.
func (r *fairRate) join(reader string, n int64) *waiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perSecond == 0 {
		return nil
	}
	r.advanceLocked(time.Now())
	start := max(r.turn, r.ends[reader])
	if len(r.ends) >= maxReaders {
		r.forgetLocked()
	}
	r.ends[reader] = start + float64(n)
	if len(r.queue) == 0 && r.takeLocked(float64(n)) {
		r.turn = start
		return nil
	}
	w := &waiter{start: start, size: float64(n), first: make(chan struct{}, 1)}
	heap.Push(&r.queue, w)
	return w
}

// forgetLocked makes room for another reader: clients name themselves, and may do so anew with each request. Those go
// that have not taken more than others, and where all have, those that are least ahead.
func (r *fairRate) forgetLocked() {
	lowest, highest := math.Inf(1), r.turn
	for name, end := range r.ends {
		if end <= r.turn {
			delete(r.ends, name)
			continue
		}
		lowest, highest = min(lowest, end), max(highest, end)
	}
	if len(r.ends) < maxReaders {
		return
	}
	middle := lowest + (highest-lowest)/2
	maps.DeleteFunc(r.ends, func(_ string, end float64) bool { return end <= middle })
}

// serve gives the first waiter its bytes if they are there, or says when they will be; 0: it is not the first.
func (r *fairRate) serve(w *waiter) (wait time.Duration, served bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue[0] != w {
		return 0, false
	}
	r.advanceLocked(time.Now())
	if !r.takeLocked(w.size) {
		short := min(w.size, float64(bucket.Burst(r.perSecond))) - r.tokens
		return time.Duration(short/float64(r.perSecond)*float64(time.Second)) + time.Microsecond, false
	}
	heap.Pop(&r.queue)
	r.turn = max(r.turn, w.start)
	r.wakeLocked()
	return 0, true
}

func (r *fairRate) leave(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	heap.Remove(&r.queue, w.place)
	r.wakeLocked()
}

// takeLocked takes n bytes; more than a second's worth is owed.
func (r *fairRate) takeLocked(n float64) bool {
	if r.perSecond == 0 {
		return true
	}
	if r.tokens < min(n, float64(bucket.Burst(r.perSecond))) {
		return false
	}
	r.tokens -= n
	return true
}

func (r *fairRate) advanceLocked(now time.Time) {
	r.tokens = min(r.tokens+now.Sub(r.at).Seconds()*float64(r.perSecond), float64(bucket.Burst(r.perSecond)))
	r.at = now
}

func (r *fairRate) wakeLocked() {
	if len(r.queue) == 0 {
		return
	}
	select {
	case r.queue[0].first <- struct{}{}:
	default:
	}
}

// waiters is a heap by start.
type waiters []*waiter

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q waiters) Len() int           { return len(q) }
func (q waiters) Less(i, j int) bool { return q[i].start < q[j].start }
func (q waiters) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *waiters) Push(x any) {
	w := x.(*waiter)
	w.place = len(*q)
	*q = append(*q, w)
}

// Pop implements heap.Interface.
func (q *waiters) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last], *q = nil, (*q)[:last]
	return w
}

type readerKey struct{}

// withReader notes for whom the tier is read.
func withReader(ctx context.Context, reader cache.Reader) context.Context {
	if reader == (cache.Reader{}) {
		return ctx
	}
	return context.WithValue(ctx, readerKey{}, reader)
}

func readerOf(ctx context.Context) cache.Reader {
	reader, _ := ctx.Value(readerKey{}).(cache.Reader)
	return reader
}

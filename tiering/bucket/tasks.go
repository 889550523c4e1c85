package bucket

import (
	"context"
	"sync"
	"time"
)

// Tasks owns work that must outlive the request that caused it: a load that several readers wait for, a
// prefetch. close ends it all and waits.
type Tasks struct {
	mu      sync.Mutex
	closed  bool
	next    int64
	cancels map[int64]context.CancelFunc
	wg      sync.WaitGroup
}

// Start runs fn on its own goroutine with ctx's values but not its end; it has at most limit. It returns false,
// and does nothing, after close.
func (t *Tasks) Start(ctx context.Context, limit time.Duration, fn func(context.Context)) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		cancel()
		return false
	}
	// Add under the lock that close takes: Wait must not run beside an Add from zero.
	t.wg.Add(1)
	id := t.next
	t.next++
	if t.cancels == nil {
		t.cancels = make(map[int64]context.CancelFunc)
	}
	t.cancels[id] = cancel
	t.mu.Unlock()
	go func() {
		defer t.wg.Done()
		defer func() {
			t.mu.Lock()
			delete(t.cancels, id)
			t.mu.Unlock()
			cancel()
		}()
		fn(ctx)
	}()
	return true
}

// Close cancels what runs, refuses what comes, and waits.
func (t *Tasks) Close() {
	t.mu.Lock()
	t.closed = true
	for _, cancel := range t.cancels {
		cancel()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

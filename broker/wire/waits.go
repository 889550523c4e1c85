package wire

import (
	"context"
	"sync/atomic"
)

// flushContext is the context a Pending gets. Whoever is about to wait calls its Done: that is the moment to send the
// responses collected so far. A Pending that does not wait costs no write of its own.
type flushContext struct {
	context.Context
	w       *writer
	armed   atomic.Bool
	flushed chan struct{}
}

// arm hands the batch to the first call of Done, if there is a batch.
func (f *flushContext) arm() bool {
	if len(f.w.done) == 0 {
		return false
	}
	f.armed.Store(true)
	return true
}

// disarm takes the batch back, waiting for a call of Done that is writing it.
func (f *flushContext) disarm(wasArmed bool) {
	if wasArmed && !f.armed.CompareAndSwap(true, false) {
		<-f.flushed
	}
}

// Done implements context.Context.
func (f *flushContext) Done() <-chan struct{} {
	f.flush()
	return f.Context.Done()
}

func (f *flushContext) flush() {
	if f.armed.CompareAndSwap(true, false) {
		f.w.flush()
		f.flushed <- struct{}{}
	}
}

// Value implements context.Context; Idle asks it for the writer.
func (f *flushContext) Value(key any) any {
	if key == (idleKey{}) {
		return f.w
	}
	return f.Context.Value(key)
}

// idleWait is a flushContext that also ends when the server begins to stop or needs the memory of the request. One
// serves all requests of a connection, until it has ended.
type idleWait struct {
	context.Context
	cancel context.CancelFunc
	flush  *flushContext
	under  atomic.Bool // a request may be waiting on it
}

func newIdleWait(ctx context.Context, f *flushContext) *idleWait {
	i := &idleWait{flush: f}
	i.Context, i.cancel = context.WithCancel(ctx)
	return i
}

// Done implements context.Context.
func (i *idleWait) Done() <-chan struct{} {
	i.flush.flush()
	i.under.Store(true)
	return i.Context.Done()
}

// end ends a wait that is under way, and tells whether there was one.
func (i *idleWait) end() bool {
	if !i.under.Load() || i.Err() != nil {
		return false
	}
	i.cancel()
	return true
}

// idleWait returns what the next idle wait ends with: another one, if the last was ended and the server goes on.
func (w *writer) idleWait() *idleWait {
	last := w.c.idle.Load()
	if last.Err() == nil {
		return last
	}
	s := w.c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		w.c.idle.Store(newIdleWait(w.c.ctx, &w.ctx))
	}
	return w.c.idle.Load()
}

type idleKey struct{}

// Idle turns the context of a Pending into that of a wait for somebody else: for records to arrive, for the other
// members to join. It also ends when the server begins to stop, while what waits for this broker's own work gets
// Options.StopTimeout to finish, and when others wait for the memory that the request holds. The Pending still answers. A context that is not a Pending's is returned as it is.
func Idle(ctx context.Context) context.Context {
	if w, ok := ctx.Value(idleKey{}).(*writer); ok {
		return w.idleWait()
	}
	return ctx
}

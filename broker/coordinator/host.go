package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// until says what an operation waits for.
type until uint8

const (
	untilAppended     until = iota // its records are in the log
	untilCommitted                 // its records are committed; without any, all that it may have seen
	untilAllCommitted              // everything in the log is committed
)

const (
	stateLoading int32 = iota
	stateActive
	stateGone
)

// Partition is a machine's side of its runtime. It may only be used on the
// partition's goroutine.
type Partition struct {
	id     int32
	timers timerSet
}

// ID is the partition's number.
func (p *Partition) ID() int32 { return p.id }

// NewTimer returns a timer, not scheduled, that calls fire.
func (p *Partition) NewTimer(fire func(u *Update)) *Timer { return p.timers.newTimer(fire) }

// host runs one machine from its load to its end, and is used once.
type host[M Machine] struct {
	Partition
	r     *Runtime[M]
	epoch int32
	after <-chan struct{} // the end of the host before this one, may be nil
	pause time.Duration   // before the load

	state    atomic.Int32
	events   chan func(ctx context.Context)
	stopOnce sync.Once
	stopping chan struct{}
	done     chan struct{} // closed when the machine is gone

	// The rest belongs to the goroutine of run.
	machine   M
	builder   *record.Builder
	appended  int64 // offset of the last record in the log, -1 none
	committed int64
	pending   []pendingWrite // in the order of their offsets
	waiting   bool           // the committer is at work
	wants     chan int64     // to the committer, room for one
	results   chan commitResult
	failure   error
}

// pendingWrite is an update whose records wait to be committed.
type pendingWrite struct {
	offset int64
	done   []func(err error, next *Update)
	reply  chan<- error // has room for the answer; may be nil
}

type commitResult struct {
	offset int64
	err    error
}

func newHost[M Machine](r *Runtime[M], id, epoch int32) *host[M] {
	return &host[M]{
		Partition: Partition{id: id},
		r:         r,
		epoch:     epoch,
		events:    make(chan func(ctx context.Context)),
		stopping:  make(chan struct{}),
		done:      make(chan struct{}),
		wants:     make(chan int64, 1),
		results:   make(chan commitResult, 1),
		appended:  -1,
		committed: -1,
	}
}

func (h *host[M]) term() Term { return Term{Partition: h.id, Epoch: h.epoch} }

func (h *host[M]) stop() {
	h.state.Store(stateGone)
	h.stopOnce.Do(func() { close(h.stopping) })
}

func (h *host[M]) stopped() bool {
	select {
	case <-h.stopping:
		return true
	default:
		return false
	}
}

func (h *host[M]) isGone() bool { return h.state.Load() == stateGone }

// submit hands a function to the partition's goroutine.
func (h *host[M]) submit(ctx context.Context, fn func(ctx context.Context)) error {
	switch h.state.Load() {
	case stateLoading:
		return ErrLoading
	case stateGone:
		return ErrNotCoordinator
	}
	select {
	case h.events <- fn:
		return nil
	case <-h.stopping:
		return ErrNotCoordinator
	case <-h.done:
		return ErrNotCoordinator
	case <-ctx.Done():
		return fmt.Errorf("submit to coordinator partition %d: %w", h.id, ctx.Err())
	}
}

// run loads the partition and handles its events until it is stopped, ctx
// ends, or it fails; then the machine is gone and everyone is answered.
func (h *host[M]) run(ctx context.Context) error {
	defer close(h.done)
	if h.after != nil {
		<-h.after // it was stopped before: the wait is short
	}
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	helpers.Go(func() {
		select {
		case <-h.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	if h.pause > 0 {
		select {
		case <-time.After(h.pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.builder = record.NewBuilder(record.BuilderOptions{})
	h.machine = h.r.o.NewMachine(&h.Partition)
	defer h.end()
	if err := h.load(ctx); err != nil {
		return err
	}
	helpers.Go(func() { h.commitLoop(ctx) })
	if !h.state.CompareAndSwap(stateLoading, stateActive) {
		return ErrNotCoordinator
	}
	return h.loop(ctx)
}

func (h *host[M]) loop(ctx context.Context) error {
	var u Update
	h.machine.Loaded(&u)
	h.apply(ctx, &u, untilAppended, nil)
	for h.failure == nil {
		now := time.Now()
		select {
		case fn := <-h.events:
			fn(ctx)
		case <-h.timers.channel(now):
			h.fireTimers(ctx)
		case c := <-h.results:
			h.committedUpTo(ctx, c)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return h.failure
}

// end answers everyone who still waits. Handlers' OnCommitted functions are
// not called: the machine they would change is worthless.
func (h *host[M]) end() {
	h.state.Store(stateGone)
	h.machine.Unloaded()
	h.timers.stop()
	for _, p := range h.pending {
		if p.reply != nil {
			p.reply <- ErrNotCoordinator
		}
	}
	h.pending = nil
}

func (h *host[M]) fireTimers(ctx context.Context) {
	now := time.Now()
	h.timers.rings = time.Time{}
	for h.failure == nil {
		t := h.timers.due(now)
		if t == nil {
			return
		}
		var u Update
		t.fire(&u)
		h.apply(ctx, &u, untilAppended, nil)
	}
}

// apply appends an update's records and applies them, then lets its waiters
// wait: those of OnCommitted, and reply, which has room for one answer or is nil.
func (h *host[M]) apply(ctx context.Context, u *Update, wait until, reply chan<- error) {
	err := h.append(ctx, u)
	switch {
	case err != nil:
		if errors.Is(err, ErrNotCoordinator) && h.failure == nil {
			h.failure = err
		}
		h.finish(ctx, u.done, err)
		answer(reply, err)
		return
	case len(u.records) == 0:
		h.finish(ctx, u.done, nil)
		if wait == untilAppended || h.committed >= h.appended {
			answer(reply, nil)
			return
		}
		u.done = nil // what the handler saw may not be committed yet
	case wait == untilAppended:
		answer(reply, nil)
		reply = nil
	}
	if reply == nil && len(u.done) == 0 {
		return // nobody waits
	}
	h.pending = append(h.pending, pendingWrite{offset: h.appended, done: u.done, reply: reply})
	h.wantCommit()
}

func (h *host[M]) finish(ctx context.Context, done []func(err error, next *Update), err error) {
	for _, fn := range done {
		var next Update
		fn(err, &next)
		if h.failure == nil {
			h.apply(ctx, &next, untilAppended, nil)
		}
	}
}

func answer(reply chan<- error, err error) {
	if reply != nil {
		reply <- err
	}
}

// wantCommit tells the committer to wait for the oldest pending write.
func (h *host[M]) wantCommit() {
	if h.waiting || len(h.pending) == 0 {
		return
	}
	h.waiting = true
	h.wants <- h.pending[0].offset // has room: the committer is idle
}

func (h *host[M]) commitLoop(ctx context.Context) {
	for {
		select {
		case offset := <-h.wants:
			err := h.r.o.Log.WaitCommitted(ctx, h.term(), offset)
			if err == nil && h.stopped() {
				// The log may have been cut and written anew since: what is
				// committed at the offset need not be ours.
				err = ErrNotCoordinator
			}
			h.results <- commitResult{offset: offset, err: err} // has room: one at a time
		case <-ctx.Done():
			return
		}
	}
}

func (h *host[M]) committedUpTo(ctx context.Context, c commitResult) {
	h.waiting = false
	if c.err != nil {
		h.failure = fmt.Errorf("wait for commit of offset %d: %w", c.offset, c.err)
		return
	}
	h.committed = max(h.committed, c.offset)
	for len(h.pending) > 0 && h.pending[0].offset <= h.committed && h.failure == nil {
		p := h.pending[0]
		h.pending[0] = pendingWrite{}
		h.pending = h.pending[1:]
		h.finish(ctx, p.done, nil)
		answer(p.reply, nil)
	}
	h.wantCommit()
}

package vfs

import (
	"sync"
	"sync/atomic"
	"time"
)

// WithWatch returns fs with a watch on each operation. One that takes longer
// than slow is reported while it is still stuck, then each time twice as long
// has passed, and once more, with Done, when it returns. report is called from
// other goroutines and must not block.
func WithWatch(fs FS, slow time.Duration, report func(op Op, took time.Duration)) FS {
	return &hookFS{fs: fs, hook: &watch{slow: slow, report: report}}
}

type watch struct {
	slow   time.Duration
	report func(Op, time.Duration)
	n      atomic.Int64
	spare  atomic.Pointer[watched]
}

// transparent: sendfile blocks for the network more often than for the disk.
func (*watch) transparent() bool { return true }

// watched is one operation in flight. Its timer is reused while it never fires.
type watched struct {
	w     *watch
	timer *time.Timer

	mu       sync.Mutex
	op       Op
	began    time.Time
	next     time.Duration // when to report
	running  bool
	reported bool
}

func (w *watch) start(op Op) (token, error) {
	if op.Kind.Write() {
		op.N = w.n.Add(1)
	}
	t := w.spare.Swap(nil)
	if t == nil {
		t = &watched{w: w}
	}
	t.mu.Lock()
	t.op, t.began, t.next, t.running = op, time.Now(), w.slow, true
	if t.timer == nil {
		t.timer = time.AfterFunc(w.slow, t.fire)
	} else {
		t.timer.Reset(w.slow)
	}
	t.mu.Unlock()
	return t, nil
}

func (t *watched) fire() {
	t.mu.Lock()
	if !t.running {
		t.mu.Unlock()
		return
	}
	t.reported = true
	op, took := t.op, time.Since(t.began)
	t.timer.Reset(t.next)
	t.next *= 2
	t.mu.Unlock()
	t.w.report(op, took)
}

func (w *watch) end(t token) {
	t.mu.Lock()
	t.running = false
	idle := t.timer.Stop()
	op, took, reported := t.op, time.Since(t.began), t.reported
	t.mu.Unlock()
	if reported {
		op.Done = true
		w.report(op, took)
		return
	}
	if idle {
		w.spare.Store(t)
	}
}

package replica

import "sync"

// signal wakes everybody who waits for a change. A channel is made only when
// somebody waits, so a change nobody waits for costs one uncontended lock.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// next returns a channel that the next broadcast closes. Take it before
// looking at the state that is waited for.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// wakeups is the set of fetches that wait on a partition. One fetch waits on
// all its partitions with one channel of capacity 1.
type wakeups struct {
	mu  sync.Mutex
	set map[chan struct{}]struct{}
}

func (w *wakeups) add(ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		w.set = make(map[chan struct{}]struct{})
	}
	w.set[ch] = struct{}{}
}

func (w *wakeups) remove(ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.set, ch)
}

func (w *wakeups) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.set {
		select {
		case ch <- struct{}{}:
		default: // already woken and not yet looked
		}
	}
}

// worklist collects partitions with which its owner has something to do, so that
// who finds out never waits for it.
type worklist struct {
	wake chan struct{}

	mu  sync.Mutex
	due map[*Partition]struct{}
}

func newWorklist() *worklist {
	return &worklist{wake: make(chan struct{}, 1), due: make(map[*Partition]struct{})}
}

// later has a partition worked on when others are.
func (w *worklist) later(p *Partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due[p] = struct{}{}
}

// want has a partition worked on now. It never blocks.
func (w *worklist) want(p *Partition) {
	w.later(p)
	w.poke()
}

// poke has the owner look. It never blocks.
func (w *worklist) poke() {
	select {
	case w.wake <- struct{}{}:
	default: // it will
	}
}

func (w *worklist) take() map[*Partition]struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := w.due
	w.due = make(map[*Partition]struct{})
	return due
}

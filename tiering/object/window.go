package object

import (
	"context"
	"sync"
	"time"
)

// window bounds how many parts of multipart uploads one store has in flight, and so the memory for
// them. A store that asks for less gets half; each part that goes through widens it again by one
// part per window, as TCP does.
type window struct {
	buffers sync.Pool // *[partBytes]byte; as many are in use as parts are in flight

	mu      sync.Mutex
	limit   float64 // between 1 and partsInFlight
	cuts    int     // how often the limit was halved
	busy    int
	waiting []chan struct{} // oldest first; closed when the place is theirs
}

func newWindow() *window {
	return &window{limit: partsInFlight, buffers: sync.Pool{New: func() any { return new([partBytes]byte) }}}
}

// place is the right to have one part in flight, and its buffer.
type place struct {
	w    *window
	cuts int // of the window when the place was given
	buf  *[partBytes]byte
}

// enter waits for a place, and calls waiting every second meanwhile. The caller leaves the place.
func (w *window) enter(ctx context.Context, waiting func()) (*place, error) {
	w.mu.Lock()
	if w.busy < int(w.limit) && len(w.waiting) == 0 {
		w.busy++
		w.mu.Unlock()
		return w.newPlace(), nil
	}
	turn := make(chan struct{})
	w.waiting = append(w.waiting, turn)
	w.mu.Unlock()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-turn:
			return w.newPlace(), nil
		case <-tick.C:
			waiting()
		case <-ctx.Done():
			w.withdraw(turn)
			return nil, ctx.Err()
		}
	}
}

// withdraw takes a waiting one out, who may just have got a place.
func (w *window) withdraw(turn chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, t := range w.waiting {
		if t == turn {
			w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			return
		}
	}
	w.busy--
	w.admitLocked()
}

func (w *window) newPlace() *place {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &place{w: w, cuts: w.cuts, buf: w.buffers.Get().(*[partBytes]byte)}
}

// leave gives the place back. sent says that its part went through.
func (p *place) leave(sent bool) {
	w := p.w
	w.buffers.Put(p.buf)
	w.mu.Lock()
	defer w.mu.Unlock()
	if sent {
		w.limit = min(w.limit+1/w.limit, partsInFlight)
	}
	w.busy--
	w.admitLocked()
}

// slower halves the window, once for all parts that were in flight together.
func (p *place) slower() {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.cuts == w.cuts {
		w.limit = max(w.limit/2, 1)
		w.cuts++
	}
	p.cuts = w.cuts
}

func (w *window) admitLocked() {
	for len(w.waiting) > 0 && w.busy < int(w.limit) {
		close(w.waiting[0])
		w.waiting = w.waiting[1:]
		w.busy++
	}
}

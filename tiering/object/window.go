package object

import (
	"context"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/tiering/memory"
)

// window bounds how many parts of multipart uploads one store has in flight, and so the memory for
// them, which lies outside Go's heap and is given back when nothing is in flight. A store that asks
// for less gets half; each part that goes through widens it again by one part per window, as TCP does.
type window struct {
	mu      sync.Mutex
	limit   float64 // between 1 and partsInFlight
	cuts    int     // how often the limit was halved
	busy    int
	spare   []memory.Buffer // of partBytes each; with those in use as many as parts were in flight
	waiting []chan struct{} // oldest first; closed when the place is theirs
}

func newWindow() *window {
	return &window{limit: partsInFlight}
}

// place is the right to have one part in flight, and its buffer.
type place struct {
	w    *window
	cuts int // of the window when the place was given
	buf  memory.Buffer
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
	p := &place{w: w, cuts: w.cuts}
	if n := len(w.spare); n > 0 {
		p.buf, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		p.buf = memory.New(partBytes)
	}
	return p
}

// leave gives the place back. sent says that its part went through.
func (p *place) leave(sent bool) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spare = append(w.spare, p.buf)
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

// admitLocked lets those in who have a place now, and gives the memory back when there is nobody.
func (w *window) admitLocked() {
	for len(w.waiting) > 0 && w.busy < int(w.limit) {
		close(w.waiting[0])
		w.waiting = w.waiting[1:]
		w.busy++
	}
	if w.busy == 0 {
		for _, b := range w.spare {
			b.Free()
		}
		w.spare = nil
	}
}

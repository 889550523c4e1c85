package coordinator

import (
	"container/heap"
	"time"
)

// Timer calls a function on the partition's goroutine when its time has come.
// It may only be used on that goroutine.
type Timer struct {
	set   *timerSet
	fire  func(u *Update)
	at    time.Time
	order uint64 // breaks ties: first scheduled, first fired
	index int    // in the heap, -1 when not scheduled
}

// Schedule makes the timer fire once after d, in place of any earlier schedule.
func (t *Timer) Schedule(d time.Duration) {
	t.set.scheduled++
	t.at, t.order = time.Now().Add(d), t.set.scheduled
	if t.index >= 0 {
		heap.Fix(&t.set.heap, t.index)
		return
	}
	heap.Push(&t.set.heap, t)
}

// Stop makes the timer not fire. A nil timer may be stopped.
func (t *Timer) Stop() {
	if t != nil && t.index >= 0 {
		heap.Remove(&t.set.heap, t.index)
	}
}

// Scheduled says whether the timer is going to fire.
func (t *Timer) Scheduled() bool { return t != nil && t.index >= 0 }

// timerSet holds a partition's timers over one clock. The clock is moved only
// when it would ring too late: a heartbeat that pushes its own deadline away
// leaves it alone, and a ring too early finds nothing due.
type timerSet struct {
	heap      timerHeap
	scheduled uint64
	clock     *time.Timer
	rings     time.Time // when the clock is set; zero when it is not
}

func (s *timerSet) newTimer(fire func(u *Update)) *Timer {
	return &Timer{set: s, fire: fire, index: -1}
}

// channel returns the clock, set for the earliest timer; nil without timers.
func (s *timerSet) channel(now time.Time) <-chan time.Time {
	if len(s.heap) == 0 {
		return nil
	}
	first := s.heap[0].at
	switch {
	case s.clock == nil:
		s.clock = time.NewTimer(first.Sub(now))
	case s.rings.IsZero() || first.Before(s.rings):
		s.clock.Reset(first.Sub(now))
	default:
		return s.clock.C
	}
	s.rings = first
	return s.clock.C
}

// due takes the earliest timer off when it is due at now, nil otherwise.
func (s *timerSet) due(now time.Time) *Timer {
	if len(s.heap) == 0 || s.heap[0].at.After(now) {
		return nil
	}
	return heap.Pop(&s.heap).(*Timer)
}

func (s *timerSet) stop() {
	for _, t := range s.heap {
		t.index = -1
	}
	s.heap = nil
	if s.clock != nil {
		s.clock.Stop()
	}
}

type timerHeap []*Timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].order < h[j].order
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	n := len(old) - 1
	t := old[n]
	old[n] = nil
	t.index = -1
	*h = old[:n]
	return t
}

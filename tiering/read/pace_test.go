package read

import (
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// reader plays a sequential reader of so many bytes a second and returns its read-ahead after a while.
func reader(s *streams, partition int32, lim aheadLimits, pace float64, from time.Time) int64 {
	const size = 1 << 20
	tip := metadata.TopicIDPartition{Partition: partition}
	var window int64
	now := from
	for at := int64(0); at < 1000; at++ {
		_, window = s.advance(answer{tip: tip, offset: at, next: at + 1, size: size}, lim, now)
		now = now.Add(time.Duration(size / pace * float64(time.Second)))
	}
	return window
}

func TestReadAheadIsPaceTimesDistance(t *testing.T) {
	start := time.Unix(1000, 0)
	lim := aheadLimits{least: 8 << 20, total: 1 << 30, slack: 32 << 20}
	for _, c := range []struct {
		name     string
		pace     float64
		distance time.Duration
		from, to int64
	}{
		{"near store", 1e9, 2 * time.Millisecond, 32<<20 + 8e6*0.95, 32<<20 + 8e6*1.05},
		{"far store", 1e9, 50 * time.Millisecond, 32<<20 + 190e6, 32<<20 + 210e6},
		{"slow reader of a far store", 10e6, 50 * time.Millisecond, 8 << 20, 8 << 20},
		{"distance not known", 1e9, 0, 1 << 30, 1 << 30},
	} {
		lim.distance = c.distance
		if got := reader(newStreams(), 0, lim, c.pace, start); got < c.from || got > c.to {
			t.Errorf("%s: %d bytes ahead, want %d to %d", c.name, got, c.from, c.to)
		}
	}
}

// inTurns has readers of a partition each take a hundred answers in turns, and checks what each has in the end. It
// returns when that was.
func inTurns(s *streams, lim aheadLimits, readers int32, check func(p int32, st *stream, window int64)) (now time.Time) {
	now = time.Unix(1000, 0)
	for at := range int64(100) {
		for p := range readers {
			st, window := s.advance(answer{tip: metadata.TopicIDPartition{Partition: p}, offset: at, next: at + 1, size: 1 << 20}, lim, now)
			if at > 50 {
				check(p, st, window)
			}
		}
		now = now.Add(10 * time.Millisecond)
	}
	return now
}

func TestReadersShareTheReadAhead(t *testing.T) {
	s := newStreams()
	lim := aheadLimits{least: 1 << 20, total: 64 << 20}
	now := inTurns(s, lim, 8, func(p int32, st *stream, got int64) {
		if got != 8<<20 || !st.roomy.Load() {
			t.Fatalf("reader %d of 8 has %d bytes (roomy: %v), want an eighth of %d", p, got, st.roomy.Load(), lim.total)
		}
	})
	// The others stop; soon the last one has all.
	now = now.Add(2 * activeFor)
	for at := int64(100); at < 120; at++ {
		_, got := s.advance(answer{offset: at, next: at + 1, size: 1 << 20}, lim, now)
		if at == 119 && got != lim.total {
			t.Errorf("alone, it has %d bytes of %d", got, lim.total)
		}
		now = now.Add(time.Millisecond)
	}
}

// TestCrowdDisplacesNothing: where the least of all readers is more than there is, none takes what another waits for.
func TestCrowdDisplacesNothing(t *testing.T) {
	inTurns(newStreams(), aheadLimits{least: 8 << 20, total: 64 << 20}, 9, func(p int32, st *stream, _ int64) {
		if st.roomy.Load() {
			t.Fatalf("reader %d of 9 may displace, there is room for 8", p)
		}
	})
}

// TestReaderAtTheEndHasNoShare: who has read all takes nothing from who begins.
func TestReaderAtTheEndHasNoShare(t *testing.T) {
	s, now := newStreams(), time.Unix(1000, 0)
	lim := aheadLimits{least: 1 << 20, total: 64 << 20}
	read := func(p int32, at int64, last bool) (window int64) {
		now = now.Add(time.Millisecond)
		_, window = s.advance(answer{tip: metadata.TopicIDPartition{Partition: p}, offset: at, next: at + 1, size: 1 << 20, last: last}, lim, now)
		return window
	}
	var window int64
	for p := range int32(2) {
		for at := range int64(20) {
			window = read(p, at, p == 0 && at == 19)
		}
	}
	if window != lim.total {
		t.Errorf("%d bytes ahead of the only reader that goes on, want %d", window, lim.total)
	}
	// What the other was at the end of has grown.
	for at := int64(20); at < 40; at++ {
		window = read(0, at, false)
	}
	if window != lim.total/2 {
		t.Errorf("%d bytes ahead of one of two, want half of %d", window, lim.total)
	}
}

func TestFirstReadIsNotFollowedByReadAhead(t *testing.T) {
	s, now := newStreams(), time.Unix(1000, 0)
	lim := aheadLimits{least: 1, total: 10}
	for at := int64(0); at < 100; at += 10 { // jumps
		if _, got := s.advance(answer{offset: at, next: at + 1, size: 1}, lim, now); got != 0 {
			t.Errorf("%d bytes ahead of a reader that jumps", got)
		}
	}
}

func TestDistanceForgetsOldGets(t *testing.T) {
	var p pace
	now := time.Unix(1000, 0)
	p.took(time.Millisecond, now)
	for range 30 {
		now = now.Add(time.Second)
		p.took(50*time.Millisecond, now)
	}
	if got := p.shortest(); got != 50*time.Millisecond {
		t.Errorf("distance %v, the only GET of 1 ms was half a minute ago", got)
	}
}

func TestAtMostATwentiethIsAskedForTwice(t *testing.T) {
	var p pace
	now := time.Unix(1000, 0)
	if p.startHedge() {
		t.Error("hedged before anything is known")
	}
	hedges := 0
	for range 1000 {
		p.took(time.Millisecond, now)
		if p.startHedge() {
			hedges++
			p.endHedge()
		}
	}
	if hedges != 50 {
		t.Errorf("%d hedges of 1000 GETs, want 50", hedges)
	}
	for range hedgeShare * maxHedges {
		p.took(time.Millisecond, now)
	}
	for range maxHedges {
		if !p.startHedge() {
			t.Error("hedge refused though it is paid for")
		}
	}
	p.took(time.Millisecond, now)
	if p.startHedge() {
		t.Error("more hedges at a time than allowed")
	}
}

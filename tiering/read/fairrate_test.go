package read

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func waiting(r *fairRate) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// One reader with many requests at a time and one with a single one get the same,
// and together the rate.
func TestReadersOfTheTierShareItsRateByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 1 << 20
		r := newFairRate(perSecond)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var got [3]atomic.Int64
		var wg sync.WaitGroup
		for reader, c := range []struct{ requests, size int }{{64, 100_000}, {1, 100_000}, {3, 30_000}} {
			for range c.requests {
				wg.Go(func() {
					for {
						if _, err := r.take(ctx, fmt.Sprint(reader), int64(c.size)); err != nil {
							return
						}
						got[reader].Add(int64(c.size))
					}
				})
			}
		}
		wg.Wait()
		sum := int64(0)
		for reader := range got {
			n := got[reader].Load()
			sum += n
			if want := int64(31 * perSecond / 3); n < want*9/10 || n > want*11/10 {
				t.Errorf("reader %d got %d bytes, want about %d", reader, n, want)
			}
		}
		if most := int64(31 * perSecond); sum > most || sum < most*95/100 {
			t.Errorf("%d bytes in 30 s, want at most and about %d", sum, most)
		}
		if waiting(r) != 0 {
			t.Errorf("%d still wait", waiting(r))
		}
	})
}

// TestReadersThatNameThemselvesAnewAreForgotten, whether there are bytes for all or they wait, and the one that took most
// is the last to be.
func TestReadersThatNameThemselvesAnewAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, perSecond := range []int64{1 << 30, 1 << 20} {
			r := newFairRate(perSecond)
			take := func(reader string, n int64) {
				if _, err := r.take(t.Context(), reader, n); err != nil {
					t.Fatal(err)
				}
			}
			take("greedy", 5000)
			for n := range 3 * maxReaders {
				take(fmt.Sprint(n), 1000)
				if len(r.ends) > maxReaders {
					t.Fatalf("rate %d: %d readers are remembered, want at most %d", perSecond, len(r.ends), maxReaders)
				}
			}
			if r.ends["greedy"] != 5000 {
				t.Errorf("rate %d: the greedy reader is forgotten before others", perSecond)
			}
		}
	})
}

// A rate that is raised or lifted lets those through that wait, and one that is
// lowered holds the next ones.
func TestTheRateOfTheTierChangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFairRate(64 << 10)
		r.set(1) // the burst stays
		var done sync.WaitGroup
		for range 10 {
			done.Go(func() {
				if _, err := r.take(t.Context(), "a", 64<<10); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if waiting(r) != 9 {
			t.Fatalf("%d wait, want all but the first", waiting(r))
		}
		start := time.Now()
		r.set(64 << 10)
		time.Sleep(3*time.Second + time.Millisecond)
		if waiting(r) != 6 {
			t.Errorf("%d wait after 3 s at a request a second, want 6", waiting(r))
		}
		r.set(0)
		done.Wait()
		if took := time.Since(start); took > 3*time.Second+time.Millisecond {
			t.Errorf("without a limit the last came after %v", took)
		}
		r.set(64 << 10)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if _, err := r.take(ctx, "a", 64<<10); err != nil {
			t.Errorf("the first in a second and a half: %v", err)
		}
		if _, err := r.take(ctx, "a", 64<<10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second: %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// Client ids come from outside.
func TestReadersThatAreGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFairRate(1 << 30)
		for i := range 10 * maxReaders {
			if _, err := r.take(t.Context(), fmt.Sprint(i), 1); err != nil {
				t.Fatal(err)
			}
			if _, err := r.take(t.Context(), "steady", 1); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(r.ends); n > 2*maxReaders {
			t.Errorf("%d readers are remembered", n)
		}
	})
}

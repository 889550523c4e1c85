package read

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

// TestCalmReadersAreServedOneAfterTheOther, whatever came for them at once; and one whose store hangs holds the
// others up for a moment only.
func TestCalmReadersAreServedOneAfterTheOther(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := &Reader{lane: semaphore.NewWeighted(calmWidth)}
			var running, most atomic.Int64
			one := r.calmly(func(context.Context, []byte) (int, error) {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				time.Sleep(6 * time.Millisecond)
				return 0, nil
			})
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			var hanging, all sync.WaitGroup
			if hangs {
				hanging.Go(func() {
					_, _ = r.calmly(func(ctx context.Context, _ []byte) (int, error) { <-ctx.Done(); return 0, ctx.Err() })(ctx, nil)
				})
				synctest.Wait()
			}
			for range 8 {
				all.Go(func() {
					if _, err := one(ctx, nil); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if took := time.Since(began); !hangs && (most.Load() != 1 || took != 48*time.Millisecond) || took > calmWait+6*time.Millisecond {
				t.Errorf("hangs %v: %d at a time, %v", hangs, most.Load(), took)
			}
			cancel()
			hanging.Wait()
		})
	}
}

// TestReadersHeldToARateAreCalm, and those at full speed are not, nor those of whom nothing is known yet.
func TestReadersHeldToARateAreCalm(t *testing.T) {
	for _, c := range []struct {
		pace, distance float64 // bytes a second, seconds
		want           bool
	}{{28e6, 0.005, true}, {28e6, 0.05, false}, {1e6, 0.05, true}, {900e6, 0.005, false}} {
		lim := aheadLimits{least: 8 << 20, total: 128 << 20, distance: time.Duration(c.distance * 1e9)}
		s, now, size := newStreams(), time.Now(), int64(1<<20)
		var st *stream
		for at := int64(0); at < 1000; at++ {
			st, _ = s.advance(answer{offset: at, next: at + 1, size: size}, lim, now)
			if at == 0 && st.calm.Load() {
				t.Error("calm before anything is known")
			}
			now = now.Add(time.Duration(float64(size) / c.pace * 1e9))
		}
		if st.calm.Load() != c.want {
			t.Errorf("%.0f bytes a second from %.0f ms away: calm is %v", c.pace, c.distance*1e3, st.calm.Load())
		}
	}
}

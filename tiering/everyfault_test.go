package tiering

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/object"
)

var storeFaults = flag.Int64("storefaults", 16, "operations of TestOneFaultAtAnyStoreOperationLosesNothing that fail, one in each life")

// errLate is the answer of an operation that took effect, and did not come in time.
var errLate = fmt.Errorf("no answer: %w", context.DeadlineExceeded)

// TestOneFaultAtAnyStoreOperationLosesNothing: each operation of a partition's life (copies, commits, retention, deletions,
// orphans, a change of leader) fails once, before or after its effect, as often as the retries of one take. The process
// goes on, then dies. What the pointer and what the newest root name is there, and nothing else stays.
func TestOneFaultAtAnyStoreOperationLosesNothing(t *testing.T) {
	kinds := []struct {
		err   error
		after bool
		times int64
	}{{object.ErrUnavailable, false, 5}, {object.ErrAccess, false, 1}, {errLate, true, 1}, {errLate, true, 5}}
	total := lifeWithFault(t, -1, object.ErrAccess, false, 1)
	if total < 40 {
		t.Fatalf("a life has %d operations", total)
	}
	// A run takes a share of the operations, from a random one on; -storefaults has it take more.
	step := max(total / *storeFaults, 1)
	for n := rand.Int64N(step); n < total; n += step {
		k := kinds[rand.IntN(len(kinds))]
		if lifeWithFault(t, n, k.err, k.after, k.times); t.Failed() {
			t.Fatalf("operation %d of %d, %+v", n, total, k)
		}
	}
}

// lifeWithFault is one life; from operation n on so many fail. It returns how many operations there were.
func lifeWithFault(t *testing.T, n int64, fault error, after bool, times int64) (total int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var at atomic.Int64
		store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			if op.After != after {
				return nil
			}
			if i := at.Add(1) - 1; n >= 0 && i >= n && i < n+times {
				return fault
			}
			return nil
		})
		o := Options{
			Grace: 10 * time.Minute, Sweep: 4 * time.Minute, Poll: 2 * time.Second, Interval: 30 * time.Second,
			Collector: func() bool { return true },
		}
		b := w.mustStart(settings{config: smallLog(), store: store, o: o})
		for range 3 {
			if err := b.produce(30); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second)
		}
		cfg := b.log.Config()
		cfg.RetentionBytes = 8 << 10
		b.log.SetConfig(cfg)
		time.Sleep(time.Minute)
		w.newestIsWhole()
		b.m.Resign(w.tip())
		w.elect()
		b.close()
		b.dir = nil
		b = w.mustStart(settings{config: cfg, store: store, o: o})
		b.log.SetHighWatermark(b.log.LogEnd())
		if err := b.produce(30); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			time.Sleep(15 * time.Minute)
			w.newestIsWhole()
		}
		total = at.Swap(math.MaxInt32) // no more faults
		w.nothingMissing()
		if !b.isUploaded() {
			t.Error("not all is in the tier")
		}
		if _, err := b.m.Fsck(t.Context(), gc.FsckOptions{}, func(p gc.Problem) { t.Errorf("%+v", p) }, func(gc.FsckSummary) {}); err != nil {
			t.Error(err)
		}
	})
	return total
}

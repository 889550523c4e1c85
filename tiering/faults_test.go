package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestStoreThatFailsNowAndThenLosesNothing: every operation of the bucket fails with a fifth's chance, before or
// after it took effect, and bodies break off.
func TestStoreThatFailsNowAndThenLosesNothing(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			var mu sync.Mutex
			rng := rand.New(rand.NewPCG(seed, 1))
			store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if rng.IntN(5) == 0 {
					return fmt.Errorf("seed %d, %v: %w", seed, op.Kind, object.ErrUnavailable)
				}
				return nil
			})
			b := w.mustStart(settings{config: smallLog(), store: store, chunk: 1 << 10})
			for range 4 {
				if err := b.produce(60); err != nil {
					t.Fatal(err)
				}
				b.uploaded()
				if err := b.evict(); err != nil {
					t.Fatal(err)
				}
				w.nothingMissing()
			}
			for at := int64(0); at < b.log.HighWatermark(); {
				got, next, err := b.readAt(t.Context(), at, 1<<20)
				if err != nil && errors.Is(err, object.ErrUnavailable) {
					continue
				}
				if err == nil {
					err = checkRecords(got, at, next)
				}
				if err != nil {
					t.Fatalf("seed %d: read at %d: %v", seed, at, err)
				}
				at = next
			}
		})
	}
}

// TestStoreThatIsDownForAMinuteOnlyDelays is invariant 10's part for the bucket.
func TestStoreThatIsDownForAMinuteOnlyDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var down atomic.Bool
		store := object.WithFaults(w.store, func(context.Context, object.Op) error {
			if down.Load() {
				return object.ErrUnavailable
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store})
		down.Store(true)
		for range 60 {
			if err := b.produce(5); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // virtual
		}
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		if b.log.LocalLogStart() != 0 {
			t.Fatalf("evicted to %d while nothing was uploaded", b.log.LocalLogStart())
		}
		if s := b.m.Status(time.Now()); len(s) != 1 || s[0].OldestAge < 30*time.Second || s[0].View.PendingSegments == 0 || s[0].View.PendingBytes == 0 {
			t.Errorf("status %+v", s)
		}
		down.Store(false)
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTotalRetentionGoesOnWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var down atomic.Bool
		store := object.WithFaults(w.store, func(context.Context, object.Op) error {
			if down.Load() {
				return object.ErrUnavailable
			}
			return nil
		})
		cfg := smallLog()
		cfg.RetentionBytes = 20 << 10
		b := w.mustStart(settings{config: cfg, store: store})
		if err := b.produce(50); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		down.Store(true)
		if err := b.produce(300); err != nil {
			t.Fatal(err)
		}
		settle(t, "local-only segments expire", func() bool { return b.log.LocalBytes() < 26<<10 })
		if b.log.LogStart() != b.log.LocalLogStart() || b.log.LogStart() <= b.m.View(w.tip()).HighestOffset {
			t.Errorf("log start %d, local %d, tier up to %d", b.log.LogStart(), b.log.LocalLogStart(), b.m.View(w.tip()).HighestOffset)
		}
		down.Store(false)
		b.uploaded()
		// The tier starts again where the log does: no gap inside, nothing below the log's start needed.
		root, err := b.m.Root(t.Context(), w.tip())
		if err != nil || root.StartOffset > b.log.LogStart() {
			t.Fatalf("tier starts at %d, the log at %d, %v", root.StartOffset, b.log.LogStart(), err)
		}
		w.nothingMissing()
		if _, err := b.readAll(t.Context(), b.log.LogStart(), 1<<20); err != nil {
			t.Fatal(err)
		}
	})
}

func TestUploadWithoutProgressIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var hangs atomic.Int64
		hangs.Store(2)
		store := object.WithFaults(w.store, func(ctx context.Context, op object.Op) error {
			if op.Kind == object.OpPut && !op.After && hangs.Add(-1) >= 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store, o: Options{Stall: 3 * time.Second}})
		start := time.Now()
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if took := time.Since(start); took < 6*time.Second || took > 7*time.Second {
			t.Errorf("two attempts that hang took %v, want 3 s each", took)
		}
	})
}

// slowStore reads a body in small pieces with pauses, as a slow line does.
type slowStore struct {
	object.Store
	pause time.Duration
}

func (s slowStore) Put(ctx context.Context, key string, body object.Body, o object.PutOptions) (object.Info, error) {
	var buf [512]byte
	for off := int64(0); off < body.Size(); off += int64(len(buf)) {
		n, _ := body.ReadAt(buf[:min(int64(len(buf)), body.Size()-off)], off)
		if o.Progress != nil {
			o.Progress(int64(n))
		}
		select {
		case <-time.After(s.pause):
		case <-ctx.Done():
			return object.Info{}, ctx.Err()
		}
	}
	o.Progress = nil
	return s.Store.Put(ctx, key, body, o)
}

func TestProgressExtendsAnUploadsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), store: slowStore{w.store, time.Second}, o: Options{Stall: 3 * time.Second}})
		if err := b.produce(25); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		settle20 := start.Add(5 * time.Minute)
		for b.m.View(w.tip()).HighestOffset < 0 && time.Now().Before(settle20) {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); b.m.View(w.tip()).HighestOffset < 0 || took < 6*time.Second {
			t.Errorf("a copy that takes longer than the deadline but moves: view %+v after %v", b.m.View(w.tip()), took)
		}
	})
}

func TestCopyRateIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := smallLog()
		cfg.SegmentBytes = 1 << 20
		b := w.mustStart(settings{config: cfg, o: Options{CopyRate: 64 << 10}})
		if err := b.produce(6000); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b.t = t
		for len(b.log.Sealed(0)) != b.log.Segments()-1 || b.m.View(w.tip()).PendingSegments > 0 || b.m.View(w.tip()).Segments == 0 {
			time.Sleep(50 * time.Millisecond)
		}
		bytes := b.m.View(w.tip()).Bytes
		want := time.Duration(float64(bytes-64<<10) / float64(64<<10) * float64(time.Second)) // one second's burst is free
		if took := time.Since(start); took < want*9/10 || took > want*13/10+time.Second {
			t.Errorf("%d bytes at 64 KiB/s took %v, want about %v", bytes, took, want)
		}
	})
}

// damaged flips a byte of the object with the suffix, n times or for ever (n < 0).
type damagedStore struct {
	object.Store
	suffix string
	n      atomic.Int64
}

func (s *damagedStore) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	if r, err = s.Store.Get(ctx, key, off, n); err != nil || !strings.HasSuffix(key, s.suffix) || s.n.Load() == 0 {
		return r, err
	}
	s.n.Add(-1)
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(r); err != nil {
		return nil, err
	}
	b := buf.Bytes()
	b[len(b)/2] ^= 1
	return io.NopCloser(bytes.NewReader(b)), r.Close()
}

func TestDamageOnTheWayIsFetchedAgainDamageInTheBucketIsNamed(t *testing.T) {
	for _, n := range []int64{1, -1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t)
			store := &damagedStore{Store: w.store, suffix: ".log"}
			b := w.mustStart(settings{config: smallLog(), store: store})
			if err := b.produce(60); err != nil {
				t.Fatal(err)
			}
			b.uploaded()
			store.n.Store(n)
			d, err := b.m.Read(t.Context(), w.tip(), 0, readAnything)
			if n > 0 {
				if err != nil {
					t.Fatal(err)
				}
				d.Release()
				return
			}
			var oe *bucket.ObjectError
			if !errors.Is(err, manifest.ErrCorrupt) || !errors.As(err, &oe) || !strings.HasSuffix(oe.Object, ".log") {
				t.Fatalf("read of a damaged object: %v", err)
			}
			store.n.Store(0)
			if d, err = b.m.Read(t.Context(), w.tip(), 0, readAnything); err != nil {
				t.Fatalf("damage was cached: %v", err)
			}
			d.Release()
		})
	}
}

func TestDamagedIndexAndMissingObjectsAreNamed(t *testing.T) {
	w := newWorld(t)
	store := &damagedStore{Store: w.store, suffix: ".idx"}
	b := w.mustStart(settings{config: smallLog(), store: store})
	if err := b.produce(60); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	store.n.Store(-1)
	var oe *bucket.ObjectError
	if _, err := b.m.Read(t.Context(), w.tip(), 0, readAnything); !errors.Is(err, manifest.ErrCorrupt) || !errors.As(err, &oe) || !strings.HasSuffix(oe.Object, ".idx") {
		t.Fatalf("read with a damaged index: %v", err)
	}
	store.n.Store(0)
	for key := range w.objects() {
		if strings.HasSuffix(key, ".log") {
			if err := w.store.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := b.m.Read(t.Context(), w.tip(), 0, readAnything); !errors.Is(err, manifest.ErrMissing) || !errors.As(err, &oe) || !strings.HasSuffix(oe.Object, ".log") {
		t.Fatalf("read of a missing object: %v", err)
	}
}

func TestReadThatIsGivenUpFinishesIntoTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var slow atomic.Bool
		var gets atomic.Int64
		store := object.WithFaults(w.store, func(ctx context.Context, op object.Op) error {
			if op.Kind == object.OpGet && slow.Load() && strings.Contains(op.Key, "/segments/") { // housekeeping reads, too
				gets.Add(1)
				select {
				case <-time.After(2 * time.Second):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		slow.Store(true)
		start := time.Now()
		polls := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			d, err := b.m.Read(ctx, w.tip(), 0, segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 100, MinOne: true})
			cancel()
			polls++
			if err == nil {
				d.Release()
				break
			}
			if !errors.Is(err, context.DeadlineExceeded) || polls > 20 {
				t.Fatal(err)
			}
		}
		// Index head and chunk: two seconds each, fetched once.
		if took := time.Since(start); took > 4500*time.Millisecond || gets.Load() != 2 {
			t.Errorf("%d polls, %d requests, %v", polls, gets.Load(), took)
		}
	})
}

package tiering

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// logGets counts the GETs of .log objects, and lets each take so long.
type logGets struct {
	object.Store
	gets, bytes atomic.Int64
	pause       atomic.Int64
}

func countLogGets(s object.Store) *logGets {
	c := &logGets{}
	c.Store = object.WithFaults(s, func(ctx context.Context, op object.Op) error {
		if op.Kind != object.OpGet || !strings.HasSuffix(op.Key, manifest.LogSuffix) {
			return nil
		}
		c.gets.Add(1)
		c.bytes.Add(op.Len)
		if d := c.pause.Load(); d > 0 && !bucket.Sleep(ctx, time.Duration(d)) {
			return ctx.Err()
		}
		return nil
	})
	return c
}

func (c *logGets) reset() {
	c.gets.Store(0)
	c.bytes.Store(0)
}

// largeBatches is a cold log with two batches of some 400 KB among small ones, and a cache of 64 KiB.
func largeBatches(t *testing.T) (b *broker, store *logGets, large [2]int64) {
	w := newWorld(t)
	store = countLogGets(w.store)
	cfg := smallLog()
	cfg.SegmentBytes = 1 << 20
	b = w.mustStart(settings{config: cfg, store: store, memory: 64 << 10})
	for i := range large {
		if err := b.produce(100); err != nil {
			t.Fatal(err)
		}
		large[i] = b.log.LogEnd()
		b.append(testBatch(b.log.LogEnd(), 2000), segment.Client)
	}
	if err := b.produce(6000); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	if err := b.evict(); err != nil {
		t.Fatal(err)
	}
	return b, store, large
}

// poll asks as a consumer does, half a second at a time, until there is an answer.
func (b *broker) poll(ctx context.Context, offset int64, max int) (int64, error) {
	for range 100 {
		attempt, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		bytes, next, err := b.readAt(attempt, offset, max)
		cancel()
		if err == nil {
			return next, checkRecords(bytes, offset, next)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			return 0, err
		}
	}
	return 0, errors.New("never answered")
}

func TestBatchLargerThanTheCacheIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store, large := largeBatches(t)
		if _, err := b.readAll(t.Context(), 0, 10<<10); err != nil {
			t.Fatal(err)
		}
		// Longer than a consumer waits, and two of them want different ones at a time.
		synctest.Wait() // read-ahead has ended
		store.reset()
		store.pause.Store(int64(2 * time.Second))
		done := make(chan error, 4)
		for i := range 4 {
			go func() {
				next, err := b.poll(t.Context(), large[i%2]+1000, 1)
				if err == nil && next != large[i%2]+2000 {
					err = errors.New("not the whole batch")
				}
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := store.gets.Load(); n > 4 {
			t.Errorf("%d GETs for two batches, wanted by two readers each", n)
		}
		if n := b.m.reader.Reserved(); n != 0 {
			t.Errorf("%d bytes are held with no reader", n)
		}
		// Whoever may not have it does not have it fetched.
		store.reset()
		d, err := b.m.Read(t.Context(), b.tip(), large[0], segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 100 << 10})
		if err != nil || d.Len() != 0 || store.gets.Load() != 0 {
			t.Errorf("a read of less than the batch: %d bytes, %v, %d GETs", d.Len(), err, store.gets.Load())
		}
		d.Release()
	})
}

func TestOutsizedPieceNobodyComesForIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store, large := largeBatches(t)
		store.pause.Store(int64(time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, _, err := b.readAt(ctx, large[0], 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if b.m.reader.Reserved() == 0 {
			t.Fatal("the batch was thrown away though its reader may come back")
		}
		time.Sleep(10 * time.Second)
		if b.m.reader.Reserved() != 0 {
			t.Error("the batch is still held")
		}
	})
}

package tiering

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestHungGetIsHedged: one GET of a chunk never answers; its reader gets the bytes by the second one.
func TestHungGetIsHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var hang atomic.Bool
		var hung atomic.Int64
		store := object.WithFaults(w.store, func(ctx context.Context, op object.Op) error {
			if op.Kind != object.OpGet {
				return nil
			}
			if hang.CompareAndSwap(true, false) {
				hung.Add(1)
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(2 * time.Millisecond) // virtual
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store, chunk: 1 << 10, memory: 8 << 10, o: Options{ReadAhead: 1}})
		if err := b.produce(1000); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.readAll(t.Context(), 0, 1<<10); err != nil { // learns the pace
			t.Fatal(err)
		}
		for n := range 5 {
			hang.Store(true)
			begun := time.Now()
			if _, err := b.readAll(t.Context(), 0, 1<<10); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 30*time.Second {
				t.Fatalf("pass %d took %v with one hung GET", n, took)
			}
		}
		if hung.Load() != 5 {
			t.Errorf("%d GETs hung, want 5", hung.Load())
		}
	})
}

func TestOneAnswerCrossesSegments(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog(), chunk: 1 << 10})
	if err := b.produce(300); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	if err := b.evict(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.readAll(t.Context(), 0, 1<<10); err != nil { // everything is in the cache now
		t.Fatal(err)
	}
	var second int64
	n := 0
	for e, err := range b.m.Entries(t.Context(), w.tip(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			second = e.BaseOffset
		}
	}
	_, next, err := b.readAt(t.Context(), 0, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	if next <= second {
		t.Errorf("the answer ends at %d, the second segment begins at %d", next, second)
	}
}

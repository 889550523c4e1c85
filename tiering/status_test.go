package tiering

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// A wait for "nothing is pending" must not end on what was true before the last seal.
func TestStatusCountsWhatWasJustSealed(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog(), noRun: true}) // no pass will notice
	if err := b.produce(20); err != nil {
		t.Fatal(err)
	}
	if err := b.log.Roll(); err != nil {
		t.Fatal(err)
	}
	want := int64(len(b.log.Sealed(0)))
	s := b.m.Status(time.Now())
	if len(s) != 1 || want == 0 || s[0].View.PendingSegments != want || s[0].View.PendingBytes == 0 || s[0].View.OldestUnuploaded.IsZero() {
		t.Errorf("%d segments are sealed, status %+v", want, s)
	}
}

// A store that hangs must not hold a broker up that is told to stop.
func TestStopDoesNotWaitForAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hangs := make(chan struct{}, 1000)
		store := object.WithFaults(w.store, func(ctx context.Context, _ object.Op) error {
			hangs <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		b := w.mustStart(settings{config: smallLog(), store: store})
		if err := b.produce(20); err != nil {
			t.Fatal(err)
		}
		if err := b.log.Roll(); err != nil {
			t.Fatal(err)
		}
		<-hangs
		began := time.Now()
		b.close()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopped after %v", took)
		}
	})
}

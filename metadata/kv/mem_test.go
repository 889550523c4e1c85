package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

func TestCutOffClientLosesItsLeaseAndLearnsItWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewMem()
		cut := make(chan bool, 1)
		cut <- false
		isCut := func() bool { c := <-cut; cut <- c; return c }
		client := srv.Client(func(ctx context.Context, c Call) error {
			if isCut() {
				return fmt.Errorf("%w: cut off", ErrUnavailable)
			}
			return nil
		})
		l, err := StartLease(t.Context(), client, 3*time.Second, discard)
		if err != nil {
			t.Fatal(err)
		}
		mustTxn(t, client, Txn{Then: []Op{Put("me", nil, l.ID())}})
		time.Sleep(time.Hour)
		if age := time.Since(l.Confirmed()); age > time.Second {
			t.Errorf("confirmed %s ago, want at most a third of the time to live", age)
		}
		<-cut
		cut <- true
		time.Sleep(2500 * time.Millisecond)
		if len(mustRange(t, srv, RangeRequest{Key: "me"}).KVs) != 0 && time.Since(l.Confirmed()) > l.TTL() {
			t.Error("the key outlived the lease")
		}
		time.Sleep(time.Second)
		if got := mustRange(t, srv, RangeRequest{Key: "me"}).KVs; len(got) != 0 {
			t.Error("the key of a client that is cut off stayed")
		}
		select {
		case <-l.Done():
			t.Error("called lost while the store was not heard")
		default:
		}
		<-cut
		cut <- false
		time.Sleep(time.Second)
		select {
		case <-l.Done():
		default:
			t.Error("not called lost though the store said so")
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAnswerCanBeLostAfterTheWrite(t *testing.T) {
	srv := NewMem()
	client := srv.Client(func(_ context.Context, c Call) error {
		if c.Kind == CallTxn && c.After {
			return ErrUnavailable
		}
		return nil
	})
	_, err := client.Txn(t.Context(), Txn{Then: []Op{Put("k", []byte("v"), 0)}})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if got := pairs(mustRange(t, srv, RangeRequest{Key: "k"}).KVs); got != "k=v" {
		t.Errorf("got %q, want k=v", got)
	}
}

func TestMemKeepsBoundedHistory(t *testing.T) {
	m := NewMemWith(MemOptions{History: 100})
	for i := range 1000 {
		put(t, m, fmt.Sprintf("k%d", i%7), "v")
	}
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	if n := len(m.srv.events); n > 200 {
		t.Errorf("%d events kept, want at most 200", n)
	}
}

func TestClosedViewRefusesAndOthersGoOn(t *testing.T) {
	srv := NewMem()
	view := srv.Client(nil)
	w := watch(t, view, t.Context(), WatchRequest{Key: "k"})
	defer w.stop()
	closeKV(t, view)
	if _, err, _ := w.next(); !errors.Is(err, ErrClosed) {
		t.Errorf("watch: got %v, want ErrClosed", err)
	}
	if _, err := view.Range(t.Context(), RangeRequest{Key: "k"}); !errors.Is(err, ErrClosed) {
		t.Errorf("range: got %v, want ErrClosed", err)
	}
	put(t, srv, "k", "v")
}

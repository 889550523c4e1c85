package kv

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlowStoreDoesNotPutTheLeaseInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := NewMem().Client(func(ctx context.Context, c Call) error {
			if c.Kind == CallKeepAlive && c.After {
				time.Sleep(1500 * time.Millisecond) // the answer is on its way
			}
			return nil
		})
		l, err := StartLease(t.Context(), client, 3*time.Second, discard)
		if err != nil {
			t.Fatal(err)
		}
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if age := time.Since(l.Confirmed()); age > 2600*time.Millisecond {
				t.Fatalf("confirmed %s ago, want at most an interval and the time of an answer", age)
			}
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRenewalThatIsNeverAnsweredDoesNotHoldUpTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan int, 1)
		asked <- 0
		client := NewMem().Client(func(ctx context.Context, c Call) error {
			if c.Kind != CallKeepAlive || c.After {
				return nil
			}
			n := <-asked
			asked <- n + 1
			if n%2 == 0 { // one of two members is gone
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		l, err := StartLease(t.Context(), client, 3*time.Second, discard)
		if err != nil {
			t.Fatal(err)
		}
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if age := time.Since(l.Confirmed()); age > 2*time.Second {
				t.Fatalf("confirmed %s ago, want at most two intervals", age)
			}
		}
		l.Abandon()
	})
}

func TestConfirmedIsWhenTheRenewalWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := NewMem().Client(func(ctx context.Context, c Call) error {
			if c.Kind == CallKeepAlive && !c.After {
				time.Sleep(900 * time.Millisecond) // on its way there
			}
			return nil
		})
		l, err := StartLease(t.Context(), client, 3*time.Second, discard)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Abandon()
		begun := l.Confirmed()
		time.Sleep(1950 * time.Millisecond) // sent after 1 s, answered after 1.9 s
		if got := l.Confirmed().Sub(begun); got != time.Second {
			t.Errorf("confirmed %s after the start, want 1s: the store may have looked at its clock then", got)
		}
	})
}

func TestLeaseIsGrantedAnewAfterALoss(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		first, err := StartLease(t.Context(), kv, time.Second, discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.Revoke(t.Context(), first.ID()); err != nil {
			t.Fatal(err)
		}
		<-first.Done()
		if _, err := kv.Txn(t.Context(), Txn{Then: []Op{Put("me", nil, first.ID())}}); !errors.Is(err, ErrLeaseNotFound) {
			t.Errorf("a key under the lost lease: got %v, want ErrLeaseNotFound", err)
		}
		if err := first.Close(t.Context()); err != nil {
			t.Error(err)
		}
		second, err := StartLease(t.Context(), kv, time.Second, discard)
		if err != nil {
			t.Fatal(err)
		}
		if second.ID() == first.ID() {
			t.Errorf("lease %d again", second.ID())
		}
		mustTxn(t, kv, Txn{Then: []Op{Put("me", []byte(fmt.Sprint(2)), second.ID())}})
		if err := second.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := mustRange(t, kv, RangeRequest{Key: "me"}).KVs; len(got) != 0 {
			t.Error("the key of a closed lease stayed")
		}
	})
}

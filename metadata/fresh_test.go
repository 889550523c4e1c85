package metadata

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// A watch that is late makes an image that shows too little. Who asks is told when
// it shows all that was decided before, and not earlier.
func TestImageIsConfirmedOnlyWhenItShowsAllThatWasDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		var late atomic.Bool
		s := openStore(t, mem.Client(func(ctx context.Context, c kv.Call) error {
			if late.Load() && c.Kind == kv.CallEvents {
				select {
				case <-time.After(8 * time.Second):
				case <-ctx.Done():
				}
			}
			return nil
		}), true)
		other := openStore(t, mem, true)
		is := func(ch <-chan struct{}) bool {
			synctest.Wait()
			select {
			case <-ch:
				return true
			default:
				return false
			}
		}
		if !is(s.Confirm()) {
			t.Error("an image of which nothing is missing is not confirmed")
		}
		late.Store(true)
		createTopic(t, other, "t", 1)
		asked := time.Now()
		confirmed := s.Confirm()
		time.Sleep(7 * time.Second)
		if is(confirmed) || s.Confirmed().After(asked) {
			t.Error("an image that lacks a topic is confirmed")
		}
		time.Sleep(time.Second + time.Millisecond)
		if _, ok := s.Image().Topic("t"); !is(confirmed) || !ok {
			t.Error("an image that has caught up is not confirmed")
		}
	})
}

// Another user of the same etcd moves its revision on, of which this cluster's
// watch sees nothing.
func TestImageIsConfirmedBesideForeignKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		for range 3 {
			if _, err := mem.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("/foreign", nil, 0)}}); err != nil {
				t.Fatal(err)
			}
			at := s.Image()
			select {
			case <-s.Confirm():
			case <-time.After(time.Second):
				t.Fatal("the image is not confirmed")
			}
			if s.Image() != at {
				t.Error("the image was made anew")
			}
		}
	})
}

// replaceable is a store in whose place another one is put while clients are
// connected. Their watches hear nothing of it, or, where reopen is closed, go on in
// the other one, as etcd's client has them do.
type replaceable struct {
	now    atomic.Pointer[kv.Mem]
	reopen chan struct{}
}

func (r *replaceable) Range(ctx context.Context, q kv.RangeRequest) (kv.RangeResponse, error) {
	return r.now.Load().Range(ctx, q)
}
func (r *replaceable) Txn(ctx context.Context, t kv.Txn) (kv.TxnResponse, error) {
	return r.now.Load().Txn(ctx, t)
}
func (r *replaceable) Watch(ctx context.Context, w kv.WatchRequest) iter.Seq2[kv.WatchResponse, error] {
	return func(yield func(kv.WatchResponse, error) bool) {
		first, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-r.reopen:
				cancel()
			case <-first.Done():
			}
		}()
		for resp, err := range r.now.Load().Watch(first, w) {
			w.Revision = resp.Revision + 1
			if !yield(resp, err) {
				return
			}
		}
		if ctx.Err() == nil {
			r.now.Load().Watch(ctx, w)(yield)
		}
	}
}
func (r *replaceable) RequestProgress(ctx context.Context) error {
	return r.now.Load().RequestProgress(ctx)
}
func (r *replaceable) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, time.Duration, error) {
	return r.now.Load().Grant(ctx, ttl)
}
func (r *replaceable) KeepAlive(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	return r.now.Load().KeepAlive(ctx, id)
}
func (r *replaceable) Revoke(ctx context.Context, id kv.LeaseID) error {
	return r.now.Load().Revoke(ctx, id)
}
func (r *replaceable) MaxTxnOps() int { return r.now.Load().MaxTxnOps() }
func (r *replaceable) Close() error   { return r.now.Load().Close() }

// backup copies the keys of a store into another one, at the same revisions.
func backup(t *testing.T, from *kv.Mem) *kv.Mem {
	t.Helper()
	to := kv.NewMem()
	all, err := from.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/")})
	for rev := int64(2); err == nil && rev <= all.Revision; rev++ {
		ops := []kv.Op{kv.Put("/superseded", nil, 0)}
		for _, have := range all.KVs {
			if have.ModRevision == rev {
				ops = append(ops, kv.Put(have.Key, have.Value, 0))
			}
		}
		_, err = to.Txn(t.Context(), kv.Txn{Then: ops})
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// The client's library opens a watch again by itself. What it brings of another
// past does not hide that the rest of the image is of this one.
func TestStoreThatWasSetBackIsNoticedThoughTheWatchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &replaceable{reopen: make(chan struct{})}
		r.now.Store(kv.NewMem())
		s := openStore(t, r, true)
		synctest.Wait() // it watches
		createTopic(t, s, "kept", 1)
		old := backup(t, r.now.Load())
		createTopic(t, s, "lost", 1)
		time.Sleep(time.Second + time.Millisecond) // it was asked
		other := openStore(t, old, false)
		for i := range 5 {
			createTopic(t, other, fmt.Sprint("new-", i), 1)
		}
		r.now.Store(old)
		close(r.reopen)
		synctest.Wait()
		if _, ok := s.Image().Topic("new-4"); !ok {
			t.Fatal("the watch did not go on")
		}
		time.Sleep(2*time.Second + time.Millisecond)
		synctest.Wait()
		sameImage(t, other.Image(), s.Image())
	})
}

// Somebody restores etcd from a backup under brokers that run: within a second or
// two they see what it has, however far it has come again by then.
func TestStoreThatWasSetBackIsNoticed(t *testing.T) {
	for _, since := range []int{0, 1, 30, 31, 100} {
		t.Run(fmt.Sprint(since, " changes since"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &replaceable{}
				r.now.Store(kv.NewMem())
				s := openStore(t, r, true)
				synctest.Wait() // it watches
				createTopic(t, s, "kept", 1)
				old := backup(t, r.now.Load())
				for i := range 30 {
					createTopic(t, s, fmt.Sprint("lost-", i), 1)
				}
				other := openStore(t, old, false)
				for i := range since {
					createTopic(t, other, fmt.Sprint("new-", i), 1)
				}
				r.now.Store(old)
				time.Sleep(2*time.Second + time.Millisecond)
				synctest.Wait()
				sameImage(t, other.Image(), s.Image())
				createTopic(t, openStore(t, old, false), "later", 1)
				synctest.Wait()
				if _, ok := s.Image().Topic("later"); !ok {
					t.Error("what came after is not seen")
				}
			})
		})
	}
}

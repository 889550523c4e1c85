package kv

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Tests wait for elections and time-outs: more of them fit beside each other
	// than the machine has cores.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	// What etcd's members leave behind when they are closed: idle connections to
	// each other, on both ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

// eachKV runs one contract over every implementation.
func eachKV(t *testing.T, test func(t *testing.T, kv KV)) {
	t.Parallel() // most of the time goes by waiting
	t.Run("memory", func(t *testing.T) {
		kv := NewMem()
		defer closeKV(t, kv)
		test(t, kv)
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		e := startEmbedded(t)
		test(t, e.KV())
	})
	t.Run("dialed", func(t *testing.T) {
		t.Parallel()
		e := startEmbedded(t)
		kv, err := Dial(t.Context(), DialOptions{Endpoints: []string{e.Endpoint()}})
		if err != nil {
			t.Fatal(err)
		}
		defer closeKV(t, kv)
		test(t, kv)
	})
	t.Run("three members", func(t *testing.T) {
		t.Parallel()
		// On a machine with few cores a large transaction keeps all three busy.
		c := startCluster(t, 3, func(o *EmbeddedOptions) { o.RequestTimeout = 30 * time.Second })
		test(t, c.kv((c.leader()+1)%3)) // a follower has to ask the leader
	})
	t.Run("external", func(t *testing.T) {
		t.Parallel()
		o, _ := startExternal(t, nil)
		test(t, dial(t, o))
	})
}

func closeKV(t *testing.T, kv io.Closer) {
	t.Helper()
	if err := kv.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func startEmbedded(t *testing.T) *Embedded {
	t.Helper()
	e, err := StartEmbedded(t.Context(), EmbeddedOptions{Dir: filepath.Join(t.TempDir(), "etcd"), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func put(t *testing.T, kv KV, key, value string) int64 {
	t.Helper()
	return mustTxn(t, kv, Txn{Then: []Op{Put(key, []byte(value), 0)}}).Revision
}

func mustTxn(t *testing.T, kv KV, txn Txn) TxnResponse {
	t.Helper()
	resp, err := kv.Txn(t.Context(), txn)
	for end := time.Now().Add(time.Minute); errors.Is(err, ErrUnavailable) && time.Now().Before(end); {
		resp, err = kv.Txn(t.Context(), txn) // an election
	}
	if err != nil {
		t.Fatalf("txn of %d conditions, %d operations: %v", len(txn.If), len(txn.Then), err)
	}
	return resp
}

func mustRange(t *testing.T, kv KV, r RangeRequest) RangeResponse {
	t.Helper()
	resp, err := kv.Range(t.Context(), r)
	if err != nil {
		t.Fatalf("range %+v: %v", r, err)
	}
	return resp
}

func pairs(kvs []KeyValue) string {
	var b strings.Builder
	for _, kv := range kvs {
		fmt.Fprintf(&b, "%s=%s ", kv.Key, kv.Value)
	}
	return strings.TrimSpace(b.String())
}

func TestRangeReturnsKeysInOrderAtARevision(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		put(t, kv, "a/2", "x")
		put(t, kv, "b/1", "other")
		mid := put(t, kv, "a/1", "y")
		put(t, kv, "a/2", "z")
		last := mustTxn(t, kv, Txn{Then: []Op{Delete("a/1", "")}}).Revision
		for _, c := range []struct {
			name string
			r    RangeRequest
			want string
			more bool
		}{
			{"prefix now", RangeRequest{Key: "a/", End: PrefixEnd("a/")}, "a/2=z", false},
			{"prefix then", RangeRequest{Key: "a/", End: PrefixEnd("a/"), Revision: mid}, "a/1=y a/2=x", false},
			{"one key", RangeRequest{Key: "b/1"}, "b/1=other", false},
			{"absent key", RangeRequest{Key: "a/1"}, "", false},
			{"all from", RangeRequest{Key: "a/2", End: PrefixEnd("")}, "a/2=z b/1=other", false},
			{"limit", RangeRequest{Key: "a/", End: PrefixEnd("a/"), Revision: mid, Limit: 1}, "a/1=y", true},
		} {
			resp := mustRange(t, kv, c.r)
			if got := pairs(resp.KVs); got != c.want || resp.More != c.more || resp.Revision != last {
				t.Errorf("%s: got %q more=%v revision %d, want %q more=%v revision %d", c.name, got, resp.More, resp.Revision, c.want, c.more, last)
			}
		}
		if _, err := kv.Range(t.Context(), RangeRequest{Key: "a", Revision: last + 10}); err == nil {
			t.Error("a range of the future succeeded")
		}
	})
}

func TestTxnComparesAndWritesAtomically(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		first := mustTxn(t, kv, Txn{If: []Cmp{Absent("k")}, Then: []Op{Put("k", []byte("1"), 0), Put("l", []byte("1"), 0)}})
		if !first.Succeeded {
			t.Fatal("create of an absent key was refused")
		}
		again := mustTxn(t, kv, Txn{If: []Cmp{Absent("k")}, Then: []Op{Put("k", []byte("2"), 0)}, Else: []Op{Get("k", ""), Get("m", "")}})
		if again.Succeeded || len(again.Gets) != 2 || pairs(again.Gets[0]) != "k=1" || len(again.Gets[1]) != 0 {
			t.Fatalf("second create: got %+v, want refusal with k=1 and nothing", again)
		}
		if got := again.Gets[0][0]; got.CreateRevision != first.Revision || got.ModRevision != first.Revision {
			t.Errorf("revisions %+v, want both %d", got, first.Revision)
		}
		swap := mustTxn(t, kv, Txn{
			If:   []Cmp{Unchanged("k", first.Revision), CreatedAt("k", first.Revision), Exists("l")},
			Then: []Op{Put("k", []byte("3"), 0), Delete("l", ""), Get("k", "")},
		})
		if !swap.Succeeded || pairs(swap.Gets[2]) != "k=3" {
			t.Fatalf("swap: got %+v, want success that reads its own write", swap)
		}
		if got := swap.Gets[2][0]; got.CreateRevision != first.Revision || got.ModRevision != swap.Revision {
			t.Errorf("after swap: revisions %+v, want created %d, changed %d", got, first.Revision, swap.Revision)
		}
		for _, c := range []Cmp{Unchanged("k", first.Revision), Exists("l"), Unchanged("l", first.Revision), Absent("k"), CreatedAt("k", swap.Revision)} {
			resp := mustTxn(t, kv, Txn{If: []Cmp{c}, Then: []Op{Put("wrong", nil, 0)}})
			if resp.Succeeded {
				t.Errorf("%+v held", c)
			}
			if resp.Revision != swap.Revision {
				t.Errorf("a transaction without writes moved the revision to %d from %d", resp.Revision, swap.Revision)
			}
		}
	})
}

func TestTxnRefusesTheSameAsEtcd(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		refused := map[string]Txn{
			"put twice":      {Then: []Op{Put("a", nil, 0), Put("a", nil, 0)}},
			"put and delete": {Then: []Op{Put("a", nil, 0), Delete("a", "")}},
			"delete and put": {Then: []Op{Delete("a", "b"), Put("a1", nil, 0)}},
			"empty key":      {Then: []Op{Put("", nil, 0)}},
			"unknown lease":  {Then: []Op{Put("a", nil, 12345)}},
		}
		for name, txn := range refused {
			if _, err := kv.Txn(t.Context(), txn); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		if _, err := kv.Txn(t.Context(), refused["unknown lease"]); !errors.Is(err, ErrLeaseNotFound) {
			t.Errorf("unknown lease: got %v, want ErrLeaseNotFound", err)
		}
		// What is not applied is checked for its form, not for its leases.
		notApplied := Txn{If: []Cmp{Exists("a")}, Then: []Op{Put("a", nil, 12345)}}
		if resp, err := kv.Txn(t.Context(), notApplied); err != nil || resp.Succeeded {
			t.Errorf("unknown lease not applied: got %+v, %v", resp, err)
		}
		notApplied.Then = append(notApplied.Then, Put("a", nil, 0))
		if _, err := kv.Txn(t.Context(), notApplied); err == nil {
			t.Error("put twice, not applied: accepted")
		}
		if got := mustRange(t, kv, RangeRequest{Key: "a", End: "b"}).KVs; len(got) != 0 {
			t.Errorf("refused transactions left %q", pairs(got))
		}
	})
}

func TestTxnTakesMaxTxnOpsAndNotOneMore(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		var txn Txn
		for i := range kv.MaxTxnOps() {
			key := fmt.Sprintf("k%06d", i)
			txn.If = append(txn.If, Absent(key))
			txn.Then = append(txn.Then, Put(key, []byte("v"), 0))
			txn.Else = append(txn.Else, Get(key, ""))
		}
		if resp := mustTxn(t, kv, txn); !resp.Succeeded {
			t.Error("a transaction of the largest size did not succeed")
		}
		txn.Then = append(txn.Then, Put("one more", nil, 0))
		if _, err := kv.Txn(t.Context(), txn); !errors.Is(err, ErrTooManyOps) {
			t.Errorf("one more operation: got %v, want ErrTooManyOps", err)
		}
	})
}

// watcher pulls the responses of one watch.
type watcher struct {
	t    *testing.T
	next func() (WatchResponse, error, bool)
	stop func()
}

func watch(t *testing.T, kv KV, ctx context.Context, w WatchRequest) *watcher {
	next, stop := iter.Pull2(kv.Watch(ctx, w))
	return &watcher{t, next, stop}
}

// events reads until n events came and describes them with revisions relative to base.
func (w *watcher) events(n int, base int64) []string {
	w.t.Helper()
	var got []string
	for len(got) < n {
		resp, err, ok := w.next()
		if !ok || err != nil {
			w.t.Fatalf("watch ended after %v: %v", got, err)
		}
		for _, e := range resp.Events {
			s := fmt.Sprintf("%s=%s@%d", e.KV.Key, e.KV.Value, e.KV.ModRevision-base)
			if e.Deleted {
				s = fmt.Sprintf("-%s@%d", e.KV.Key, e.KV.ModRevision-base)
			}
			got = append(got, s)
		}
		if len(resp.Events) > 0 && resp.Revision != resp.Events[len(resp.Events)-1].KV.ModRevision && resp.Revision-base < int64(n) {
			w.t.Errorf("response revision %d is below its last event %v", resp.Revision-base, got)
		}
	}
	return got
}

func TestWatchSeesEachChangeOnceFromARevision(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		base := put(t, kv, "w/0", "old")
		put(t, kv, "w/1", "a")
		put(t, kv, "elsewhere", "x")
		w := watch(t, kv, t.Context(), WatchRequest{Key: "w/", End: PrefixEnd("w/"), Revision: base + 1})
		defer w.stop()
		if got, want := w.events(1, base), []string{"w/1=a@1"}; !slices.Equal(got, want) {
			t.Errorf("the past: got %v, want %v", got, want)
		}
		mustTxn(t, kv, Txn{Then: []Op{Put("w/1", []byte("b"), 0), Put("w/2", []byte("c"), 0), Delete("w/0", "")}})
		mustTxn(t, kv, Txn{Then: []Op{Delete("w/", PrefixEnd("w/"))}})
		want := []string{"w/1=b@3", "w/2=c@3", "-w/0@3", "-w/1@4", "-w/2@4"}
		got := w.events(5, base)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the present (-want +got):\n%s", diff)
		}
	})
}

func TestWatchEndsQuietlyWithItsContext(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		ctx, cancel := context.WithCancel(t.Context())
		w := watch(t, kv, ctx, WatchRequest{Key: "w"})
		defer w.stop()
		cancel()
		if resp, err, ok := w.next(); ok {
			t.Errorf("got %+v, %v, want the end", resp, err)
		}
	})
}

func TestWatchSaysHowFarItIsWhereOthersKeysChange(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		base := put(t, kv, "mine/a", "1")
		w := watch(t, kv, t.Context(), WatchRequest{Key: "mine/", End: PrefixEnd("mine/"), Revision: base})
		defer w.stop()
		w.events(1, base)
		want := put(t, kv, "theirs", "1")
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		asking.Go(func() { // a member may be a little behind
			for ctx.Err() == nil {
				if err := kv.RequestProgress(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("request progress: %v", err)
				}
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
		for at := base; at < want; {
			resp, err, ok := w.next()
			if !ok || err != nil || len(resp.Events) > 0 {
				t.Fatalf("got %+v, %v, want no events", resp, err)
			}
			at = resp.Revision
		}
		cancel()
		asking.Wait()
	})
}

func TestRevisionsToComeAreAnError(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		at := put(t, kv, "a", "1")
		if _, err := kv.Range(t.Context(), RangeRequest{Key: "a", Revision: at + 1}); !errors.Is(err, ErrFutureRevision) {
			t.Errorf("got %v, want ErrFutureRevision", err)
		}
	})
}

func TestCompactedRevisionsAreAnErrorNotAGap(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		old := put(t, kv, "c", "1")
		var last int64
		for i := range 10 {
			last = put(t, kv, "c", fmt.Sprint(i))
		}
		compact(t, kv, last-2)
		if _, err := kv.Range(t.Context(), RangeRequest{Key: "c", Revision: old}); !errors.Is(err, ErrCompacted) {
			t.Errorf("old range: got %v, want ErrCompacted", err)
		}
		w := watch(t, kv, t.Context(), WatchRequest{Key: "c", Revision: old})
		defer w.stop()
		if _, err, ok := w.next(); !ok || !errors.Is(err, ErrCompacted) {
			t.Errorf("old watch: got %v, want ErrCompacted", err)
		}
		if got := pairs(mustRange(t, kv, RangeRequest{Key: "c", Revision: last - 2}).KVs); got != "c=7" {
			t.Errorf("at the compacted revision: got %q, want c=7", got)
		}
		fresh := watch(t, kv, t.Context(), WatchRequest{Key: "c", Revision: last - 1})
		defer fresh.stop()
		if got, want := fresh.events(2, last), []string{"c=8@-1", "c=9@0"}; !slices.Equal(got, want) {
			t.Errorf("watch after the compaction: got %v, want %v", got, want)
		}
	})
}

func compact(t *testing.T, kv KV, rev int64) {
	t.Helper()
	switch kv := kv.(type) {
	case *Mem:
		kv.Compact(rev)
	case *etcd:
		if _, err := kv.client.Compact(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLeaseTakesItsKeysWithIt(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		id, ttl, err := kv.Grant(t.Context(), 5*time.Second)
		if err != nil || ttl != 5*time.Second {
			t.Fatalf("grant: %v, %v, want 5s", ttl, err)
		}
		base := mustTxn(t, kv, Txn{Then: []Op{Put("l/1", nil, id), Put("l/2", nil, id), Put("l/3", nil, id)}}).Revision
		if kvs := mustRange(t, kv, RangeRequest{Key: "l/1"}).KVs; len(kvs) != 1 || kvs[0].Lease != id {
			t.Errorf("got %+v, want lease %d on the key", kvs, id)
		}
		put(t, kv, "l/3", "no lease any more")
		if ttl, err := kv.KeepAlive(t.Context(), id); err != nil || ttl != 5*time.Second {
			t.Errorf("keep alive: %v, %v, want 5s", ttl, err)
		}
		w := watch(t, kv, t.Context(), WatchRequest{Key: "l/", End: PrefixEnd("l/"), Revision: base + 2})
		defer w.stop()
		if err := kv.Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if got, want := w.events(2, base), []string{"-l/1@2", "-l/2@2"}; !slices.Equal(got, want) {
			t.Errorf("after revoke: got %v, want %v in one revision", got, want)
		}
		if _, err := kv.KeepAlive(t.Context(), id); !errors.Is(err, ErrLeaseNotFound) {
			t.Errorf("keep alive after revoke: got %v, want ErrLeaseNotFound", err)
		}
		if err := kv.Revoke(t.Context(), id); !errors.Is(err, ErrLeaseNotFound) {
			t.Errorf("second revoke: got %v, want ErrLeaseNotFound", err)
		}
	})
}

func TestLeaseExpiresWhenNobodyKeepsIt(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		id, _, err := kv.Grant(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		base := mustTxn(t, kv, Txn{Then: []Op{Put("gone", nil, id)}}).Revision
		w := watch(t, kv, t.Context(), WatchRequest{Key: "gone", Revision: base + 1})
		defer w.stop()
		if got, want := w.events(1, base), []string{"-gone@1"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestStartedLeaseIsKeptUntilRevokedElsewhere(t *testing.T) {
	eachKV(t, func(t *testing.T, kv KV) {
		l, err := StartLease(t.Context(), kv, 3*time.Second, discard)
		if err != nil {
			t.Fatal(err)
		}
		put := mustTxn(t, kv, Txn{Then: []Op{Put("kept", nil, l.ID())}})
		first := l.Confirmed()
		for !l.Confirmed().After(first.Add(l.TTL())) { // outlives its time to live
			select {
			case <-l.Done():
				t.Fatal("lost a lease that was kept")
			case <-time.After(20 * time.Millisecond):
			}
		}
		if !mustTxn(t, kv, Txn{If: []Cmp{CreatedAt("kept", put.Revision)}}).Succeeded {
			t.Error("the key of a kept lease is gone")
		}
		if err := kv.Revoke(t.Context(), l.ID()); err != nil {
			t.Fatal(err)
		}
		<-l.Done()
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("close of a lost lease: %v", err)
		}
	})
}

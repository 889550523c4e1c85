package cost

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// ledgerOf is a ledger of a cluster with topics that a test may delete.
type ledgerOf struct {
	*Ledger
	mu     sync.Mutex
	topics map[metadata.TopicID]string
}

func newLedgerOf(names ...string) *ledgerOf {
	l := &ledgerOf{topics: map[metadata.TopicID]string{}}
	for i, name := range names {
		l.topics[metadata.TopicID{byte(i + 1)}] = name
	}
	l.Ledger = NewLedger("c", func(id metadata.TopicID) (string, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		name, ok := l.topics[id]
		return name, ok
	})
	return l
}

func (l *ledgerOf) drop(id metadata.TopicID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, id)
}

// path is a key of topic n below the cluster's prefix.
func (l *ledgerOf) path(n byte) string {
	return manifest.TopicDir(l.topics[metadata.TopicID{n}], metadata.TopicID{n}) + "0/segments/x.log"
}

func (l *ledgerOf) byName() map[string]Used {
	all, _ := l.usages()
	out := map[string]Used{}
	for _, u := range all {
		out[u.name] = u.used
	}
	return out
}

func TestRequestsAreCountedByTopic(t *testing.T) {
	l := newLedgerOf("a", "b.with.dots")
	a, b := "c/"+l.path(1), "c/"+l.path(2)
	l.Request(object.OpPut, a, 1, 100)
	l.Request(object.OpGet, a, 1, 0)
	l.Request(object.OpRead, a, 0, 40)
	l.Request(object.OpHead, b, 1, 0)
	l.Request(object.OpDelete, b, 1, 0)
	l.Request(object.OpList, "c/"+manifest.TopicDir("b.with.dots", metadata.TopicID{2}), 3, 0)
	l.Request(object.OpList, "c/topics/", 1, 0)
	l.Request(object.OpList, "", 1, 0)
	l.Request(object.OpPut, "c/cluster/1.json", 1, 5)
	l.Request(object.OpPut, "another/topics/x", 1, 5)
	l.Request(object.OpGet, "c/"+manifest.TopicDir("unknown", metadata.TopicID{9})+"topic.json", 1, 0)
	l.Cache(l.path(1), 7, true)
	l.Cache(l.path(1), 9, false)
	want := map[string]Used{
		"a":           {Put: 1, Get: 1, BytesIn: 100, BytesOut: 40, CacheHits: 1, CacheMisses: 1, CacheHitBytes: 7, CacheMissBytes: 9},
		"b.with.dots": {Head: 1, Delete: 1, List: 3},
		ClusterRow:    {Put: 2, List: 2, BytesIn: 10},
		OtherRow:      {Get: 1},
	}
	if d := cmp.Diff(want, l.byName()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestDeletedTopicsAreAddedUpInOneRow(t *testing.T) {
	l := newLedgerOf("a", "b")
	l.Request(object.OpPut, "c/"+l.path(1), 5, 50)
	l.Request(object.OpPut, "c/"+l.path(2), 3, 30)
	l.mark(time.Now())
	l.Request(object.OpGet, "c/"+l.path(1), 2, 0)
	key := "c/" + l.path(1)
	l.drop(metadata.TopicID{1})
	want := map[string]Used{"b": {Put: 3, BytesIn: 30}, OtherRow: {Put: 5, Get: 2, BytesIn: 50}}
	if d := cmp.Diff(want, l.byName()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	l.Request(object.OpDelete, key, 1, 0) // its objects go later
	want[OtherRow] = Used{Put: 5, Get: 2, BytesIn: 50, Delete: 1}
	if d := cmp.Diff(want, l.byName()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if n := len(*l.rows.Load()); n != 1 {
		t.Errorf("%d rows of topics, one topic is left", n)
	}
}

// A read of old records counts its requests and pieces, and pays nothing for it.
func TestCountingTakesNoMemory(t *testing.T) {
	l := newLedgerOf("a")
	path := l.path(1)
	key := "c/" + path
	l.Request(object.OpGet, key, 1, 0)
	if n := testing.AllocsPerRun(100, func() {
		l.Request(object.OpGet, key, 1, 0)
		l.Request(object.OpRead, key, 0, 100)
		l.Cache(path, 100, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestADayCostsWhatTheLastOneDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedgerOf("a", "late")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		p := Prices{PutPer1000: 1000, GetPer1000: 10, EgressGB: gb} // 1 a put, 0.01 a get, 1 a byte
		perDay := func() map[string]float64 {
			all, since := l.usages()
			out := map[string]float64{}
			for _, u := range all {
				out[u.name] = math.Round(p.perDay(u.window, time.Since(since), 0))
			}
			return out
		}
		hours := func(n int) {
			for range n {
				time.Sleep(30 * time.Minute)
				l.Request(object.OpPut, "c/"+l.path(1), 2, 0)
				l.Request(object.OpList, "c/"+l.path(1), 1, 0)
				l.Request(object.OpGet, "c/"+l.path(1), 100, 0)
				l.Request(object.OpRead, "c/"+l.path(1), 0, 6)
				time.Sleep(30 * time.Minute)
				synctest.Wait()
			}
		}
		const want = 24 * (2 + 1 + 1 + 6)
		hours(3) // told from three hours
		if got := perDay(); got["a"] != want {
			t.Errorf("after three hours: %v, want %d", got, want)
		}
		l.Request(object.OpPut, "c/"+l.path(1), 1_000_000, 0) // two days ago, soon
		hours(48)
		if got := perDay(); got["a"] != want {
			t.Errorf("after two days: %v, want %d", got, want)
		}
		l.Request(object.OpPut, "c/"+l.path(2), 46, 0) // in 23 hours of window
		if got := perDay(); got["late"] != 48 {
			t.Errorf("a topic that is new: %v", got)
		}
		if len(l.marks) > marksKept {
			t.Errorf("%d marks", len(l.marks))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestStorageIsPaidByTheMonthAndABurstAtTheStartIsNoDay(t *testing.T) {
	p := Prices{PutPer1000: 1000, GBMonth: 30}
	if got := p.perDay(billed{}, time.Hour, 2*gb); got != 2 {
		t.Errorf("2 GiB at 30 a month: %v a day", got)
	}
	if got := p.perDay(billed{puts: 1}, time.Second, 0); got != 144 {
		t.Errorf("one put a second after the start: %v a day", got)
	}
}

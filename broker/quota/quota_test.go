package quota

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Unix(1_700_000_000, 0)

func set(t testing.TB, m *Manager, e Entity, kind Kind, value float64) {
	t.Helper()
	if err := m.Set(e, kind, value); err != nil {
		t.Fatal(err)
	}
}

func TestMostSpecificQuotaApplies(t *testing.T) {
	// Most specific last: each one beats all before it.
	order := []Entity{
		{Name{}, Default()},
		{Name{}, Named("c")},
		{Default(), Name{}},
		{Default(), Default()},
		{Default(), Named("c")},
		{Named("u"), Name{}},
		{Named("u"), Default()},
		{Named("u"), Named("c")},
	}
	m := New(Options{})
	for i, e := range order {
		set(t, m, e, Produce, float64(i+1))
		if got, ok := m.Limit(Produce, "u", "c"); !ok || got != float64(i+1) {
			t.Errorf("with %s: limit %g, %t; want %d", e, got, ok, i+1)
		}
	}
	for i := len(order) - 1; i > 0; i-- {
		m.Remove(order[i], Produce)
		if got, ok := m.Limit(Produce, "u", "c"); !ok || got != float64(i) {
			t.Errorf("without %s: limit %g, %t; want %d", order[i], got, ok, i)
		}
	}
	if _, ok := m.Limit(Fetch, "u", "c"); ok {
		t.Error("a produce quota limits fetching")
	}
	m.Remove(order[0], Produce)
	if _, ok := m.Limit(Produce, "u", "c"); ok || m.rules.Load() != nil {
		t.Error("something is left of no quota")
	}
}

func TestThrottleBringsAClientBackToItsRate(t *testing.T) {
	m := New(Options{})
	set(t, m, Entity{User: Named("alice")}, Produce, 1000)
	now := epoch
	// Ten windows' worth may be used at once.
	if d := m.Record(Produce, "alice", "", 10_000, now); d != 0 {
		t.Errorf("within ten windows: throttled for %v", d)
	}
	if d := m.Record(Produce, "alice", "", 2500, now); d != 2500*time.Millisecond {
		t.Errorf("2500 above: throttled for %v, want 2.5s", d)
	}
	now = now.Add(2 * time.Second)
	if d := m.Peek(Produce, "alice", "", now); d != 500*time.Millisecond {
		t.Errorf("2 s later: throttled for %v, want 500ms", d)
	}
	m.Refund(Produce, "alice", "", 500, now)
	if d := m.Peek(Produce, "alice", "", now); d != 0 {
		t.Errorf("after a refund: throttled for %v", d)
	}
	// A client that obeys gets exactly its rate.
	sent, end := 0.0, now.Add(100*time.Second)
	for now.Before(end) {
		d := m.Record(Produce, "alice", "", 700, now)
		sent += 700
		now = now.Add(max(d, time.Millisecond))
	}
	if sent < 99_000 || sent > 101_500 {
		t.Errorf("%g bytes in 100 s at 1000 a second", sent)
	}
}

func TestDefaultQuotaIsNotShared(t *testing.T) {
	m := New(Options{Samples: 2})
	set(t, m, Entity{User: Default()}, Fetch, 100)
	set(t, m, Entity{User: Named("team")}, Fetch, 100)
	if d := m.Record(Fetch, "alice", "x", 200, epoch); d != time.Second {
		t.Errorf("alice: %v, want 1s", d)
	}
	if d := m.Record(Fetch, "bob", "x", 100, epoch); d != 0 {
		t.Errorf("bob pays for alice: %v", d)
	}
	m.Record(Fetch, "team", "x", 100, epoch)
	if d := m.Record(Fetch, "team", "y", 100, epoch); d != time.Second {
		t.Errorf("two clients of one user share its quota: %v, want 1s", d)
	}
}

func TestRequestTimeIsPercentOfACoreAndMutesAtMostAWindow(t *testing.T) {
	m := New(Options{})
	set(t, m, Entity{ClientID: Named("c")}, Request, 50)
	if d := m.Record(Request, "", "c", 5, epoch); d != 0 {
		t.Errorf("5 s of a core in 10 s at 50%%: throttled for %v", d)
	}
	if d := m.Record(Request, "", "c", 0.1, epoch); d != 200*time.Millisecond {
		t.Errorf("0.1 s more: throttled for %v, want 200ms", d)
	}
	if d := m.Record(Request, "", "c", 100, epoch); d != time.Second {
		t.Errorf("100 s more: throttled for %v, want a window", d)
	}
}

func TestChangedQuotaKeepsWhatWasUsed(t *testing.T) {
	m := New(Options{Samples: 2})
	e := Entity{User: Named("u")}
	set(t, m, e, Produce, 100)
	m.Record(Produce, "u", "", 300, epoch) // 200 in debt
	set(t, m, e, Produce, 200)
	if d := m.Peek(Produce, "u", "", epoch); d != 500*time.Millisecond {
		t.Errorf("throttled for %v, want 100 / 200 s", d)
	}
}

func TestRulesComeBackAsSet(t *testing.T) {
	want := []Rule{
		{Entity{ClientID: Default()}, Fetch, 5},
		{Entity{Default(), Named("c")}, Produce, 2},
		{Entity{Default(), Named("c")}, Request, 3},
		{Entity{User: Named("u")}, ControllerMutation, 1},
	}
	m := New(Options{})
	if err := m.Replace(want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, m.Rules(), cmp.AllowUnexported(Name{})); diff != "" {
		t.Error(diff)
	}
	for name, r := range map[string]Rule{
		"nobody":   {Entity{}, Produce, 1},
		"kind":     {Entity{User: Default()}, kinds, 1},
		"zero":     {Entity{User: Default()}, Produce, 0},
		"negative": {Entity{User: Default()}, Produce, -1},
		"nan":      {Entity{User: Default()}, Produce, math.NaN()},
	} {
		if err := m.Replace([]Rule{r}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
	if got := len(m.Rules()); got != len(want) {
		t.Errorf("%d rules after refused ones, want %d", got, len(want))
	}
	for k := range kinds {
		if got, ok := ParseKind(k.String()); !ok || got != k {
			t.Errorf("kind %s became %s", k, got)
		}
	}
}

func TestClientsFromOutsideDoNotFillMemory(t *testing.T) {
	m := New(Options{})
	set(t, m, Entity{ClientID: Default()}, Produce, 1e6)
	now := epoch
	for i := range 20_000 {
		m.Record(Produce, "", fmt.Sprint(i), 1000, now)
		now = now.Add(time.Millisecond)
	}
	if got := len(m.buckets); got > 2*firstSweep {
		t.Errorf("%d buckets for clients that are gone", got)
	}
}

func TestNoQuotaCostsNothing(t *testing.T) {
	m := New(Options{})
	if n := testing.AllocsPerRun(100, func() { m.Record(Produce, "u", "c", 1, epoch) }); n != 0 {
		t.Errorf("%g allocations without a quota", n)
	}
	set(t, m, Entity{User: Named("u"), ClientID: Default()}, Produce, 1)
	m.Record(Produce, "u", "c", 1, epoch)
	if n := testing.AllocsPerRun(100, func() { m.Record(Produce, "u", "c", 1, epoch) }); n != 0 {
		t.Errorf("%g allocations with one", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := New(Options{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 1000 {
				m.Record(Produce, "u", fmt.Sprint(j%7), 1, epoch)
				if j%100 == i {
					set(t, m, Entity{User: Named("u")}, Produce, float64(j+1))
					m.Remove(Entity{User: Named("u")}, Produce)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkRecord(b *testing.B) {
	for _, configured := range []bool{false, true} {
		b.Run(fmt.Sprintf("configured=%t", configured), func(b *testing.B) {
			m := New(Options{})
			if configured {
				set(b, m, Entity{User: Default()}, Produce, 1e9)
			}
			b.ReportAllocs()
			for b.Loop() {
				m.Record(Produce, "u", "c", 1, epoch)
			}
		})
	}
}

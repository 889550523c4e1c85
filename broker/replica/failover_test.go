package replica_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
)

// history is what clients of one topic saw.
type history struct {
	t     *testing.T
	next  atomic.Int64
	mu    sync.Mutex
	acked map[int64]string
	seen  map[int64]string // by consumers
	marks map[string]int64 // high watermark by broker, run and leader epoch
}

func newHistory(t *testing.T) *history {
	return &history{t: t, acked: map[int64]string{}, seen: map[int64]string{}, marks: map[string]int64{}}
}

// ack notes an ack: invariant 2 for producers.
func (h *history) ack(offset int64, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, ok := h.acked[offset]; ok && other != value {
		h.t.Errorf("offset %d was acked for %q and for %q", offset, other, value)
	}
	h.acked[offset] = value
}

// read notes what a consumer read: invariant 2.
func (h *history) read(values map[int64]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for o, v := range values {
		if other, ok := h.seen[o]; ok && other != v {
			h.t.Errorf("offset %d showed %q and %q", o, other, v)
		}
		h.seen[o] = v
	}
}

// mark notes a replica's ends: invariant 3.
func (h *history) mark(n *node, name string) {
	p, err := n.m.Partition(tp(name))
	if err != nil || n.dead.Load() {
		return
	}
	log, epoch := p.Log(), p.LeaderEpoch()
	start, stable, hw, end := log.LogStart(), log.LastStableOffset(), log.HighWatermark(), log.LogEnd()
	h.mu.Lock()
	defer h.mu.Unlock()
	if start > stable || stable > hw || hw > end {
		h.t.Errorf("broker %d: log start %d, last stable %d, high watermark %d, log end %d", n.id, start, stable, hw, end)
	}
	line := fmt.Sprint(n.id, n.runs, epoch)
	if p.LeaderEpoch() != epoch {
		return
	}
	if was := h.marks[line]; hw < was {
		h.t.Errorf("broker %d in epoch %d: high watermark from %d back to %d", n.id, epoch, was, hw)
	}
	h.marks[line] = hw
}

// check compares all replicas with what was acked and seen.
func (h *history) check(f *fleet, name string) {
	h.t.Helper()
	var first map[int64]string
	for _, n := range f.nodes {
		all := n.all(name, 0)
		for what, want := range map[string]map[int64]string{"acked": h.acked, "seen": h.seen} {
			for o, v := range want {
				if all[o] != v {
					h.t.Errorf("broker %d has %q at offset %d, %s was %q", n.id, all[o], o, what, v)
				}
			}
		}
		if first == nil {
			first = all
		} else if !maps.Equal(first, all) {
			h.t.Errorf("broker %d has other records than broker 1: %d and %d", n.id, len(all), len(first))
		}
	}
}

// TestAckedRecordsSurviveLeaderChanges is invariants 1, 2 and 3: the power of
// leaders goes off, or leadership is taken from them, under a load of acks=all and
// consumers that read from any replica.
func TestAckedRecordsSurviveLeaderChanges(t *testing.T) {
	for seed := range int64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
				surviveLeaderChanges(t, f, rand.New(rand.NewSource(seed)))
			})
		})
	}
}

func surviveLeaderChanges(t *testing.T, f *fleet, rng *rand.Rand) {
	f.topic("t", 1, 2, 3)
	h := newHistory(t)
	for range 6 {
		stop := h.clients(f)
		time.Sleep(time.Duration(rng.Intn(3000)) * time.Millisecond)
		n := f.leader("t")
		switch rng.Intn(3) {
		case 0:
			n.crash(rng, rng.Intn(101))
			time.Sleep(time.Duration(rng.Intn(6000)) * time.Millisecond)
			stop()
			n.start()
			stop = h.clients(f)
		case 1:
			n.cutOff.Store(true)
			n.part(true)
			time.Sleep(time.Duration(rng.Intn(8000)) * time.Millisecond)
			n.cutOff.Store(false)
			n.part(false)
		default:
			n.part(true) // it can still ask the store
			time.Sleep(time.Duration(rng.Intn(15000)) * time.Millisecond)
			n.part(false)
		}
		f.inSync("t", 1, 2, 3)
		stop()
	}
	f.put("t", "last")
	f.until("all have all", func() bool {
		end := f.leader("t").partition("t").Log().LogEnd()
		for _, n := range f.nodes {
			if log := n.partition("t").Log(); log.SyncedOffset() != end || log.HighWatermark() != end {
				return false
			}
		}
		return true
	})
	h.check(f, "t")
	t.Logf("%d acked, %d seen, leader epoch %d", len(h.acked), len(h.seen), f.leader("t").image("t").LeaderEpoch)
	if len(h.acked) < 100 {
		t.Errorf("only %d records were acked: the test tested little", len(h.acked))
	}
}

// clients starts producers and consumers, and returns what stops them.
func (h *history) clients(f *fleet) (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var g sync.WaitGroup
	for range 3 {
		g.Go(func() {
			for ctx.Err() == nil {
				h.produce(ctx, f, fmt.Sprint("record ", h.next.Add(1)))
				time.Sleep(7 * time.Millisecond)
			}
		})
	}
	for _, n := range f.nodes {
		g.Go(func() {
			for offset := int64(0); ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
				h.mark(n, "t")
				if r, values := n.read("t", offset, nil); r.Err == nil && !n.dead.Load() {
					h.read(values)
					offset += int64(len(values))
				}
			}
		})
	}
	return func() {
		cancel()
		g.Wait()
	}
}

// produce appends to whoever believes to lead, and notes an ack.
func (h *history) produce(ctx context.Context, f *fleet, value string) {
	for _, n := range f.nodes {
		if n.dead.Load() {
			continue
		}
		a, err := n.append("t", replica.AcksAll, value)
		if err != nil {
			continue
		}
		gone := make(chan time.Time)
		give := time.AfterFunc(2*time.Second, func() { close(gone) })
		err = a.WaitOr(ctx, gone)
		give.Stop()
		if err == nil && !n.dead.Load() {
			h.ack(a.FirstOffset, value)
			return
		}
	}
}

// TestADeposedLeaderMovesNothing parts a leader from the store and from its
// followers: what it takes meanwhile is not acked, not even with acks=1 once its
// lease may be over, is not shown, and is gone when it has heard the news.
func TestADeposedLeaderMovesNothing(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		old := f.node(1)
		old.cutOff.Store(true)
		old.part(true)
		a, err := old.append("t", replica.Acks1, "leased")
		f.must(err)
		f.must(a.WaitOr(t.Context(), time.After(time.Second))) // it is the leader for certain
		f.until("another leads", func() bool { return f.leader("t") != old })
		same(t, "it believes to lead", old.partition("t").Leading(), true)
		var stale []replica.Appended
		for _, acks := range []replica.Acks{replica.Acks1, replica.AcksAll} {
			a, err := old.append("t", acks, "stale")
			f.must(err)
			stale = append(stale, a)
		}
		f.put("t", "b", "c")
		for _, a := range stale {
			if err := a.WaitOr(t.Context(), time.After(5*time.Second)); err == nil {
				t.Error("an append to a deposed leader was acked")
			}
		}
		same(t, "high watermark of the deposed", old.partition("t").Log().HighWatermark(), 1)
		_, values := old.read("t", 0, nil)
		same(t, "it shows", fmt.Sprint(values), "map[0:a]")

		old.cutOff.Store(false)
		old.part(false)
		f.inSync("t", 1, 2, 3)
		f.until("it has what the others have", func() bool { return old.partition("t").Log().HighWatermark() == 3 })
		for _, n := range f.nodes {
			same(t, fmt.Sprint("records of broker ", n.id), fmt.Sprint(n.all("t", 0)), "map[0:a 1:b 2:c]")
		}
		for _, a := range stale {
			if err := a.Wait(t.Context()); err == nil {
				t.Error("an append to a deposed leader was acked in the end")
			}
		}
	})
}

// TestOneAckWaitsForAllWithoutALease takes the store away from everybody: acks=1
// waits until the in-sync replicas have the records, so that whoever may have been
// elected has them; all other service goes on.
func TestOneAckWaitsForAllWithoutALease(t *testing.T) {
	inFleet(t, 2, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2)
		f.put("t", "a")
		for _, n := range f.nodes {
			n.cutOff.Store(true)
		}
		time.Sleep(10 * time.Second)
		leader := f.nodes[0]
		ack := func(acks replica.Acks) error {
			a, err := leader.append("t", acks, "b")
			f.must(err)
			return a.WaitOr(t.Context(), time.After(2*time.Second))
		}
		f.must(ack(replica.Acks1))
		f.must(ack(replica.AcksAll))
		f.node(2).part(true)
		if err := ack(replica.Acks1); err == nil {
			t.Error("acks=1 did not wait for the follower")
		}
		same(t, "in sync, by what is known", fmt.Sprint(leader.image("t").ISR), fmt.Sprint([]metadata.BrokerID{1, 2}))
		for _, n := range f.nodes {
			n.cutOff.Store(false)
		}
		time.Sleep(5 * time.Second)
		f.must(func() error {
			a, err := leader.append("t", replica.Acks1, "c")
			f.must(err)
			return a.WaitOr(t.Context(), time.After(time.Second))
		}())
	})
}

// TestABrokenDiskGivesItsLeadershipsAway fails the leader's disk while the broker
// lives: an in-sync follower leads, though nobody's lease ended.
func TestABrokenDiskGivesItsLeadershipsAway(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		f.node(1).badDisk.Store(true)
		began := time.Now()
		a, err := f.node(1).append("t", replica.AcksAll, "b")
		f.must(err)
		if err := a.Wait(t.Context()); err == nil {
			t.Error("acked by a disk that failed")
		}
		f.until("another leads", func() bool { return f.node(2).partition("t").Leading() })
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		f.must(func() error {
			a, err := f.node(2).append("t", replica.AcksAll, "c")
			f.must(err)
			return a.Wait(t.Context())
		}())
		same(t, "in sync", fmt.Sprint(f.node(2).image("t").ISR), "[2 3]")

		// One that cannot begin to lead hands over, too.
		f.decide("t", func(p *metadata.Partition) {
			p.Leader, p.LeaderBrokerEpoch, p.ISR = 1, f.node(1).inForce.Load().Epoch, []metadata.BrokerID{1, 2, 3}
			p.LeaderEpoch++
		})
		f.until("another leads again", func() bool { return f.node(2).partition("t").Leading() && f.node(2).image("t").Leader == 2 })
	})
}

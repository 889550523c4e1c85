package replica_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TestFollowersThatFallBehindLeaveTheInSyncReplicas cuts one off: producers wait
// for it no longer than replica.lag.time.max.ms and a half, and it comes back
// once it has all.
func TestFollowersThatFallBehindLeaveTheInSyncReplicas(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.node(3).part(true)
		began := time.Now()
		a, err := f.node(1).append("t", replica.AcksAll, "b")
		f.must(err)
		f.must(a.Wait(t.Context()))
		if took := time.Since(began); took < 9*time.Second || took > 16*time.Second {
			t.Errorf("acked after %s, want the lag of 10s and up to half more", took)
		}
		f.inSync("t", 1, 2)
		began = time.Now()
		f.put("t", "c")
		if took := time.Since(began); took > time.Second {
			t.Errorf("acked by the two after %s", took)
		}
		f.node(3).part(false)
		f.inSync("t", 1, 2, 3)
		same(t, "it has", f.node(3).all("t", 0)[2], "c")
	})
}

// TestALeaderStaysInSyncWithItself loses all followers and goes on, but shows
// nothing that fewer than min.insync.replicas have (KIP-966).
func TestALeaderStaysInSyncWithItself(t *testing.T) {
	for least := 1; least <= 2; least++ {
		inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = least }, func(t *testing.T, f *fleet) {
			f.topic("t", 1, 2, 3)
			f.put("t", "a")
			leader := f.node(1)
			leader.part(true)
			all, err := leader.append("t", replica.AcksAll, "b")
			f.must(err)
			one, err := leader.append("t", replica.Acks1, "c")
			f.must(err)
			f.must(one.Wait(t.Context()))
			err = all.Wait(t.Context())
			same(t, "in sync", fmt.Sprint(leader.image("t").ISR), "[1]")
			want, hw := error(nil), int64(3)
			if least == 2 {
				want, hw = replica.ErrNotEnoughReplicasAfterAppend, 1
			}
			wants(t, "acks=all", err, want)
			time.Sleep(time.Second)
			same(t, "high watermark", leader.partition("t").Log().HighWatermark(), hw)
			leader.part(false)
			f.inSync("t", 1, 2, 3)
			f.until("all is committed", func() bool { return leader.partition("t").Log().HighWatermark() == 3 })
		})
	}
}

// TestTooFewInSyncIsNoCommit is what a coordinator waits for before it answers:
// records that fewer than min.insync.replicas have are not committed, and those
// that were before stay so.
func TestTooFewInSyncIsNoCommit(t *testing.T) {
	inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		leader := f.node(1)
		leader.part(true)
		a, err := leader.append("t", replica.AcksAll, "b")
		f.must(err)
		p := leader.partition("t")
		wants(t, "the client's wait", a.Wait(t.Context()), replica.ErrNotEnoughReplicasAfterAppend)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wants(t, "the coordinator's wait", p.WaitCommitted(ctx, a.LastOffset), context.DeadlineExceeded)
		f.must(p.WaitCommitted(t.Context(), a.LastOffset-1))
		leader.part(false)
		f.must(p.WaitCommitted(t.Context(), a.LastOffset))
		same(t, "high watermark", p.Log().HighWatermark(), a.LastOffset+1)
	})
}

// TestWhoIsAboutToGoDoesNotJoin keeps a draining follower out (KIP-841).
func TestWhoIsAboutToGoDoesNotJoin(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.node(3).part(true)
		f.put("t", "a")
		f.inSync("t", 1, 2)
		f.must(f.node(3).inForce.Load().Drain(t.Context()))
		f.node(3).part(false)
		f.until("it has all", func() bool { return f.node(3).partition("t").Log().LogEnd() == 1 })
		f.unchanged("t", time.Minute, func() { f.put("t", "b") })
	})
}

// fetchAs asks as a follower.
func (n *node) fetchAs(name string, id metadata.BrokerID, registration, offset int64, epoch int32) replica.FetchResult {
	r, _ := n.read(name, offset, func(r *replica.FetchRequest) {
		r.Replica, r.ReplicaEpoch, r.AnyReplica = id, registration, false
		r.Partitions[0].CurrentEpoch = epoch
	})
	return r
}

// TestFormerFollowersAreFenced refuses what a follower sent in a former life or to
// a former leader, and never takes a follower for in sync under a registration
// that it does not have (KIP-903).
func TestFormerFollowersAreFenced(t *testing.T) {
	inFleet(t, 2, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 3) // there is no broker 3: the test is it
		leader := f.node(1)
		f.put("t", "a")
		f.inSync("t", 1)
		f.decide("t", func(p *metadata.Partition) { p.LeaderEpoch++ })
		session, err := leader.md.RegisterBroker(t.Context(), metadata.Registration{ID: 3, DirectoryID: "d3", Incarnation: "i", LeaseTTL: time.Hour})
		f.must(err)
		defer session.Abandon()
		epoch := leader.image("t").LeaderEpoch
		refused := func(what string, registration, offset int64, want error) {
			t.Helper()
			f.unchanged("t", 5*time.Second, func() { wants(t, what, leader.fetchAs("t", 3, registration, offset, epoch).Err, want) })
		}
		wants(t, "of a leader to come", leader.fetchAs("t", 3, session.Epoch, 1, epoch+1).Err, replica.ErrUnknownEpoch)
		refused("under a former registration", session.Epoch-1, 1, nil)
		refused("a follower that lacks a record", session.Epoch, 0, nil)
		refused("of a former life", session.Epoch-1, 1, replica.ErrNotLeader)
		wants(t, "a follower that has all", leader.fetchAs("t", 3, session.Epoch, 1, epoch).Err, nil)
		f.inSync("t", 1, 3)
		f.until("it is late", func() bool { f.put("t", "b"); return len(leader.image("t").ISR) == 1 })
		wants(t, "of a former leader", leader.fetchAs("t", 3, session.Epoch, 1, epoch-1).Err, replica.ErrFencedEpoch)
	})
}

// TestWhoWasAskedToJoinCounts asks for a follower to be in sync and gets no answer:
// it may be, and so it is waited for until the store says (KIP-497).
func TestWhoWasAskedToJoinCounts(t *testing.T) {
	for _, made := range []bool{false, true} {
		inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
			f.topic("t", 1, 2, 3)
			f.node(3).part(true)
			f.put("t", "a")
			f.inSync("t", 1, 2)
			leader := f.node(1)
			var asked, deaf atomic.Bool
			silent := func(_ context.Context, c kv.Call) error {
				if c.Kind == kv.CallEvents && deaf.Load() {
					return fmt.Errorf("%w: no news", kv.ErrUnavailable)
				}
				if c.Kind != kv.CallTxn || !strings.Contains(c.Key, "/partitions/") || c.After != made {
					return nil
				}
				asked.Store(true)
				deaf.Store(true)
				return fmt.Errorf("%w: no answer", kv.ErrUnavailable)
			}
			leader.onKV.Store(&silent)
			f.node(3).part(false)
			f.until("the store is asked", asked.Load)
			f.node(3).part(true)
			a, err := leader.append("t", replica.AcksAll, "b")
			f.must(err)
			if err := a.WaitOr(t.Context(), time.After(time.Minute)); err == nil {
				t.Error("acked without a follower that may be in sync")
			}
			leader.onKV.Store(nil)
			f.must(a.Wait(t.Context())) // it is late, and leaves
			f.inSync("t", 1, 2)
		})
	}
}

// TestFollowersHearOfTheHighWatermarkAtOnce lets followers ask with much patience:
// what is committed is known to them without waiting for the next record.
func TestFollowersHearOfTheHighWatermarkAtOnce(t *testing.T) {
	inFleet(t, 3, func(f *fleet) {
		f.options = func(_ *node, o *replica.Options) { o.FetchWait = time.Minute }
	}, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		time.Sleep(5 * time.Second)
		began := time.Now()
		f.put("t", "a")
		f.until("all know", func() bool {
			return f.node(2).partition("t").Log().HighWatermark() == 1 && f.node(3).partition("t").Log().HighWatermark() == 1
		})
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("known after %s", took)
		}
	})
}

// TestManyChangesAreFewWrites has a broker's followers of many partitions leave and
// come back: that costs a few transactions, and each image what changed in it.
func TestManyChangesAreFewWrites(t *testing.T) {
	const partitions = 300
	var configs atomic.Int64
	inFleet(t, 3, func(f *fleet) {
		f.options = func(_ *node, o *replica.Options) {
			topic := o.TopicConfig
			o.TopicConfig = func(overrides map[string]string) (replica.TopicConfig, error) {
				configs.Add(1)
				return topic(overrides)
			}
		}
	}, func(t *testing.T, f *fleet) {
		spec := metadata.TopicSpec{Name: "t"}
		for range partitions {
			spec.Assignments = append(spec.Assignments, []metadata.BrokerID{1, 2, 3})
		}
		_, err := f.nodes[0].md.CreateTopic(t.Context(), spec)
		f.must(err)
		leader := f.leader("t")
		for n := range int32(partitions) {
			_, err := leader.m.Append(metadata.TopicPartition{Topic: "t", Partition: n}, batch("a"), replica.AcksAll, 0, time.Now())
			f.must(err)
		}
		inSync := func(n int) func() bool {
			return func() bool {
				topic, _ := leader.md.Image().Topic("t")
				for _, p := range topic.Partitions {
					if len(p.ISR) != n {
						return false
					}
				}
				return true
			}
		}
		f.until("all have all", func() bool {
			for n := range int32(partitions) {
				p, err := leader.m.Partition(metadata.TopicPartition{Topic: "t", Partition: n})
				if err != nil || p.Log().HighWatermark() != 1 {
					return false
				}
			}
			return true
		})
		var writes atomic.Int64
		count := func(_ context.Context, c kv.Call) error {
			if c.Kind == kv.CallTxn && !c.After && strings.Contains(c.Key, "/partitions/") {
				writes.Add(1)
			}
			return nil
		}
		leader.onKV.Store(&count)
		configs.Store(0)
		f.node(3).part(true)
		for n := range int32(partitions) {
			_, err := leader.m.Append(metadata.TopicPartition{Topic: "t", Partition: n}, batch("b"), replica.AcksAll, 0, time.Now())
			f.must(err)
		}
		f.until("all lost one", inSync(2))
		f.node(3).part(false)
		f.until("all have it back", inSync(3))
		if n := writes.Load(); n > partitions/5 {
			t.Errorf("%d transactions for %d changes", n, 2*partitions)
		}
		same(t, "configurations resolved", configs.Load(), 0)
	})
}

// TestLateFollowersAreHeldToTheRate copies under leader.replication.throttled.rate,
// which holds nobody up who is in sync (KIP-73).
func TestLateFollowersAreHeldToTheRate(t *testing.T) {
	const rate = 1000
	inFleet(t, 3, func(f *fleet) {
		f.config.LeaderThrottled = func(_ int32, id metadata.BrokerID) bool { return id == 1 }
		f.options = func(_ *node, o *replica.Options) {
			o.LeaderThrottle = func() int64 { return rate }
			o.FetchBytes = 500
			o.LagMax = 2 * time.Second
		}
	}, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.node(3).part(true)
		f.fill("t", 200)
		bytes := f.node(1).partition("t").Log().LocalBytes()
		f.inSync("t", 1, 2)
		began := time.Now()
		f.put("t", "x")
		if took := time.Since(began); took > time.Second {
			t.Errorf("a record took %s while the rate is used up", took)
		}
		f.node(3).part(false)
		f.inSync("t", 1, 2, 3)
		took := time.Since(began)
		if least := time.Duration(bytes/rate) * time.Second; took < least*8/10 || took > least*3 {
			t.Errorf("%d bytes were copied in %s at %d bytes a second", bytes, took, rate)
		}
	})
}

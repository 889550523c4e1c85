package replica_test

import (
	"context"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
)

func (n *node) offset(at int64) (int64, error) {
	found, err := n.m.ListOffset(n.t.Context(), replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: at, Epoch: -1})
	return found.Offset, err
}

// TestADeposedLeaderMisleadsNoReader: a leader that was deposed and does not know
// shows what was committed, and does not say where the log ends: neither that an
// offset is out of range, nor the latest, nor that there is nothing newer.
func TestADeposedLeaderMisleadsNoReader(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		old := f.node(1)
		future := time.Now().Add(time.Hour).UnixMilli()
		r, _ := old.read("t", 3, nil)
		wants(t, "beyond the end, of the leader", r.Err, segment.ErrOffsetOutOfRange)
		for _, at := range []int64{replica.Latest, replica.MaxTimestamp, future} {
			_, err := old.offset(at)
			wants(t, "of the leader", err, nil)
		}
		old.cutOff.Store(true)
		old.part(true)
		f.until("another leads", func() bool { return f.leader("t") != old })
		f.put("t", "b", "c", "d")
		same(t, "it believes to lead", old.partition("t").Leading(), true)

		for _, v := range []bool{false, true} {
			r, _ := old.read("t", 3, func(r *replica.FetchRequest) { r.AnyReplica = v })
			wants(t, "beyond its end", r.Err, replica.ErrNotLeader)
			r, _ = old.read("t", -5, func(r *replica.FetchRequest) { r.AnyReplica = v })
			wants(t, "before its start", r.Err, replica.ErrNotLeader)
		}
		r, _ = old.read("t", 1, func(r *replica.FetchRequest) { r.Partitions[0].FetchedEpoch = 1 })
		wants(t, "who read more in a later epoch", r.Err, replica.ErrNotLeader)
		r, values := old.read("t", 0, nil)
		wants(t, "what was committed", r.Err, nil)
		same(t, "what was committed", values[0], "a")
		for _, at := range []int64{replica.Latest, replica.MaxTimestamp, future} {
			got, err := old.offset(at)
			wants(t, "offset", err, replica.ErrNotLeader)
			same(t, "offset", got, -1)
		}
		for at, want := range map[int64]int64{replica.Earliest: 0, 0: 0} {
			got, err := old.offset(at)
			wants(t, "offset that does not change", err, nil)
			same(t, "offset that does not change", got, want)
		}
		_, _, err := old.m.EndOffsetForEpoch(t.Context(), tp("t"), -1, 0)
		wants(t, "end of a leader epoch", err, replica.ErrNotLeader)
	})
}

// TestReadersAreServedWithoutALease takes the store away from everybody: where the
// log ends the leader knows from its followers, as long as all of them ask it.
func TestReadersAreServedWithoutALease(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a", "b")
		f.inSync("t", 1, 2, 3)
		leader := f.node(1)
		for _, n := range f.nodes {
			n.cutOff.Store(true)
		}
		time.Sleep(10 * time.Second)
		began := time.Now()
		latest, err := leader.offset(replica.Latest)
		f.must(err)
		same(t, "latest", latest, 2)
		if took := time.Since(began); took == 0 || took > 2*time.Second {
			t.Errorf("the answer took %v, want some long polls", took)
		}
		none, err := leader.offset(time.Now().Add(time.Hour).UnixMilli())
		f.must(err)
		same(t, "nothing newer", none, -1)
		_, end, err := leader.m.EndOffsetForEpoch(t.Context(), tp("t"), -1, 0)
		f.must(err)
		same(t, "end of the epoch", end, 2)
		if !leader.m.MayWait(replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: replica.Latest}) {
			t.Error("the answer comes at once, it says")
		}

		f.node(3).part(true)
		_, err = leader.offset(replica.Latest)
		wants(t, "one of them may lead", err, replica.ErrNotLeader)
		f.node(3).part(false)
		for _, n := range f.nodes {
			n.cutOff.Store(false)
		}
		f.until("the lease is confirmed", func() bool {
			return !leader.m.MayWait(replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: replica.Latest})
		})
		latest, err = f.leader("t").offset(replica.Latest)
		f.must(err)
		same(t, "latest", latest, 2)
	})
}

// TestALoneReplicaIsCertain: nobody else can be elected.
func TestALoneReplicaIsCertain(t *testing.T) {
	inFleet(t, 1, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1)
		f.put("t", "a")
		f.node(1).cutOff.Store(true)
		time.Sleep(10 * time.Second)
		began := time.Now()
		latest, err := f.node(1).offset(replica.Latest)
		f.must(err)
		same(t, "latest", latest, 1)
		same(t, "waited", time.Since(began), 0)
	})
}

// TestAMovedLeaderMisleadsNobody moves leadership away while the former leader's
// lease lasts and its watch is late, as a reassignment, a drain or the election of
// the preferred leader does.
func TestAMovedLeaderMisleadsNobody(t *testing.T) {
	for what, replicas := range map[string][]metadata.BrokerID{"reassigned": {2, 3}, "preferred": {2, 1, 3}} {
		t.Run(what, func(t *testing.T) {
			inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
				f.topic("t", 1, 2, 3)
				f.put("t", "a")
				f.inSync("t", 1, 2, 3)
				old, md := f.node(1), f.node(2).md
				future := time.Now().Add(time.Hour).UnixMilli()
				late := func(ctx context.Context, c kv.Call) error {
					if c.Kind == kv.CallEvents {
						pause(ctx, 25*time.Second)
					}
					return nil
				}
				old.onKV.Store(&late)
				topic, _ := md.Image().Topic("t")
				to := topic.Partitions[0]
				to.Replicas, to.ISR, to.Leader, to.LeaderBrokerEpoch = replicas, replicas, 2, f.node(2).inForce.Load().Epoch
				to.LeaderEpoch++
				move := []metadata.PartitionChange{{TopicIDPartition: metadata.TopicIDPartition{Topic: topic.ID}, From: topic.Partitions[0], To: to}}
				f.must(md.AlterPartitions(t.Context(), move)[0])
				f.until("2 leads", func() bool { return f.node(2).partition("t").Leading() })

				_, err := old.offset(replica.Latest)
				wants(t, "latest offset, at once", err, replica.ErrNotLeader)
				time.Sleep(time.Second)
				same(t, "it believes to lead", old.partition("t").Leading(), true)
				for _, at := range []int64{replica.Latest, replica.MaxTimestamp, future} {
					_, err := old.offset(at)
					wants(t, "offset", err, replica.ErrNotLeader)
				}
				r, _ := old.read("t", 3, nil)
				wants(t, "beyond its end", r.Err, replica.ErrNotLeader)
				r, _ = old.read("t", 1, func(r *replica.FetchRequest) { r.Partitions[0].FetchedEpoch = 1 })
				wants(t, "who read more in a later epoch", r.Err, replica.ErrNotLeader)
				_, _, err = old.m.EndOffsetForEpoch(t.Context(), tp("t"), -1, 0)
				wants(t, "end of a leader epoch", err, replica.ErrNotLeader)
				wants(t, "what a coordinator asks", old.partition("t").Confirm(t.Context()), replica.ErrNotLeader)
				a, err := old.append("t", replica.Acks1, "lost")
				f.must(err)
				if err := a.WaitOr(t.Context(), time.After(2*time.Second)); err == nil {
					t.Error("acks=1 was given by a leader that was moved")
				}
				r, values := old.read("t", 0, nil)
				wants(t, "what was committed", r.Err, nil)
				same(t, "what was committed", values[0], "a")
			})
		})
	}
}

// TestOneAckNeedsAFreshImageOnce: a leader that nobody moved acks with acks=1 what
// no follower has, also where its watch has been silent for long.
func TestOneAckNeedsAFreshImageOnce(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		leader := f.node(1)
		leader.part(true)
		time.Sleep(300 * time.Millisecond)
		for range 5 {
			a, err := leader.append("t", replica.Acks1, "b")
			f.must(err)
			f.must(a.WaitOr(t.Context(), time.After(time.Second)))
			time.Sleep(time.Minute)
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

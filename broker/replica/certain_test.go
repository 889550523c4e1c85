package replica_test

import (
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
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

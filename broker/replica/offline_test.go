package replica_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
)

func ids(ids ...metadata.BrokerID) []metadata.BrokerID { return ids }

// becomes waits, for less than any follower may be late, until a partition's state
// is as wanted.
func (f *fleet) becomes(name string, leader metadata.BrokerID, isr, offline []metadata.BrokerID) {
	f.t.Helper()
	began := time.Now()
	f.until(fmt.Sprintf("%s is led by %d with %v in sync and %v offline", name, leader, isr, offline), func() bool {
		p := f.node(2).image(name)
		now := slices.Sorted(slices.Values(p.ISR))
		return p.Leader == leader && slices.Equal(now, isr) && slices.Equal(p.Offline, offline)
	})
	if took := time.Since(began); took > time.Second {
		f.t.Errorf("it took %v", took)
	}
}

// TestAFollowersDeadDiskHoldsUpNoAck: its broker lives on, says that the replica is
// offline, and leaves the in-sync replicas at once.
func TestAFollowersDeadDiskHoldsUpNoAck(t *testing.T) {
	inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		f.node(3).badDisk.Store(true)
		a, err := f.node(1).append("t", replica.AcksAll, "b")
		f.must(err)
		began := time.Now()
		f.must(a.WaitOr(t.Context(), time.After(time.Minute)))
		if took := time.Since(began); took > time.Second {
			t.Errorf("the ack took %v", took)
		}
		f.becomes("t", 1, ids(1, 2), ids(3))
	})
}

// TestADeadDiskLeadsNothing: leadership of what it leads, and of topics that are
// created on it later, goes to another broker at once, and stays there.
func TestADeadDiskLeadsNothing(t *testing.T) {
	inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		f.node(1).badDisk.Store(true)
		_, err := f.node(1).append("t", replica.AcksAll, "b")
		f.must(err)
		f.becomes("t", 2, ids(2, 3), ids(1))
		_, err = f.node(1).md.CreateTopic(t.Context(), metadata.TopicSpec{Name: "u", Assignments: [][]metadata.BrokerID{{1, 2, 3}}})
		f.must(err)
		f.becomes("u", 2, ids(2, 3), ids(1))
		f.put("u", "c")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		f.becomes("t", 2, ids(2, 3), ids(1))
		f.becomes("u", 2, ids(2, 3), ids(1))
	})
}

// TestADeadDiskHandsOverToWhoIsInSync, though another replica lives and comes first.
func TestADeadDiskHandsOverToWhoIsInSync(t *testing.T) {
	inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		f.node(2).slowSync.Store(int64(3 * time.Minute))
		a, err := f.node(1).append("t", replica.AcksAll, "b")
		f.must(err)
		f.must(a.Wait(t.Context()))
		f.inSync("t", 1, 3)
		epoch := f.node(3).image("t").LeaderEpoch
		f.node(1).badDisk.Store(true)
		_, err = f.node(1).append("t", replica.AcksAll, "c")
		f.must(err)
		f.becomes("t", 3, ids(3), ids(1))
		if p := f.node(3).image("t"); p.LeaderEpoch != epoch+1 {
			t.Errorf("leader epoch %d, want %d: somebody led in between", p.LeaderEpoch, epoch+1)
		}
	})
}

// TestALogThatDoesNotOpenIsLedByAnother takes the segments of a leader's log away
// while it restarts within its lease, and does not know enough to heal it.
func TestALogThatDoesNotOpenIsLedByAnother(t *testing.T) {
	inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a", "b")
		f.inSync("t", 1, 2, 3)
		time.Sleep(2 * time.Minute) // checkpoints
		n := f.node(1)
		n.crash(rand.New(rand.NewSource(1)), 100)
		removeLogs(n)
		n.neverSure()
		n.start()
		f.becomes("t", 2, ids(2, 3), ids(1))
		_, err := n.m.Partition(tp("t"))
		wants(t, "its leader that was", err, replica.ErrPartitionOffline)
		f.put("t", "c")
	})
}

// TestTheOnlyReplicaThatHasAllWaitsForItsDisk: nobody leads while it cannot be
// used, it leads again when it can, and the store is not written to meanwhile.
func TestTheOnlyReplicaThatHasAllWaitsForItsDisk(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1)
		f.put("t", "a")
		time.Sleep(2 * time.Minute)
		n := f.node(1)
		n.crash(rand.New(rand.NewSource(1)), 100)
		kept := n.disk
		n.disk = kept.Crash(rand.New(rand.NewSource(1)), 100)
		removeLogs(n)
		n.start()
		f.becomes("t", metadata.NoBroker, ids(1), ids(1))
		before := f.node(2).image("t")
		time.Sleep(10 * time.Minute)
		if after := f.node(2).image("t"); !after.Equal(before) {
			t.Errorf("became %+v, was %+v", after, before)
		}
		n.crash(rand.New(rand.NewSource(1)), 100)
		n.disk = kept
		n.start()
		f.until("it leads again", func() bool { return n.image("t").Leader == 1 && len(n.image("t").Offline) == 0 })
		f.put("t", "b")
		same(t, "records", fmt.Sprint(n.all("t", 0)), "map[0:a 1:b]")
	})
}

func removeLogs(n *node) {
	n.t.Helper()
	names, err := n.disk.List("/data/t-0")
	n.must(err)
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			n.must(n.disk.Remove("/data/t-0/" + name))
		}
	}
}

// TestOnlyWhoFetchesJoinsTheInSyncReplicas: a follower that is cut off has all as
// long as nothing is appended, but would hold up what is.
func TestOnlyWhoFetchesJoinsTheInSyncReplicas(t *testing.T) {
	inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		leader := f.node(1)
		leader.part(true)
		_, err := leader.append("t", replica.Acks1, "b")
		f.must(err)
		f.inSync("t", 1)
		time.Sleep(time.Minute)
		f.net.SetFault("broker1", "broker3", wire.Fault{})
		f.net.SetFault("broker3", "broker1", wire.Fault{})
		f.inSync("t", 1, 3)
		a, err := leader.append("t", replica.AcksAll, "c")
		f.must(err)
		f.must(a.WaitOr(t.Context(), time.After(2*time.Second)))
		leader.part(false)
		f.inSync("t", 1, 2, 3)
	})
}

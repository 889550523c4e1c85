package controller

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// restoredCluster has one partition with the replicas 1, 2 and 3, as a restore
// makes it, and the given live brokers.
func restoredCluster(t *testing.T, live ...metadata.BrokerID) *metadata.Store {
	t.Helper()
	mem := kv.NewMem()
	r := metadata.Restored{ClusterID: "c", Topics: []metadata.RestoredTopic{{
		Name: "t", ID: metadata.TopicID{1}, Partitions: []metadata.RestoredPartition{{Replicas: ids(1, 2, 3), LeaderEpoch: 100}},
	}}}
	if err := metadata.RestoreCluster(t.Context(), mem, "", r, false); err != nil {
		t.Fatal(err)
	}
	s, err := metadata.Open(t.Context(), metadata.Options{KV: mem})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range live {
		session, err := s.RegisterBroker(t.Context(), metadata.Registration{ID: id, DirectoryID: fmt.Sprint("d", id), Incarnation: "i"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(session.Abandon)
	}
	return s
}

// says has a broker say what it has of the partition.
func says(t *testing.T, s *metadata.Store, id metadata.BrokerID, leaderEpoch int32, end int64) {
	t.Helper()
	b, _ := s.Image().Broker(id)
	alter(t, s, func(p *metadata.Partition) {
		p.Found = append(p.Found[:len(p.Found):len(p.Found)], metadata.FoundLog{Broker: id, BrokerEpoch: b.Epoch, LeaderEpoch: leaderEpoch, End: end})
	})
}

func alter(t *testing.T, s *metadata.Store, change func(p *metadata.Partition)) {
	t.Helper()
	topic, _ := s.Image().Topic("t")
	to := topic.Partitions[0]
	change(&to)
	c := metadata.PartitionChange{TopicIDPartition: metadata.TopicIDPartition{Topic: topic.ID}, From: topic.Partitions[0], To: to}
	if err := s.AlterPartitions(t.Context(), []metadata.PartitionChange{c})[0]; err != nil {
		t.Fatal(err)
	}
}

// What a replica found under a registration that is gone says nothing of the disk that
// it has by now.
func TestRestoredPartitionWaitsForWhoRegisteredAnew(t *testing.T) {
	s := restoredCluster(t, 1, 2, 3)
	for id := metadata.BrokerID(1); id <= 3; id++ {
		says(t, s, id, 4, int64(id))
	}
	session, err := s.RegisterBroker(t.Context(), metadata.Registration{ID: 3, DirectoryID: "d3", Incarnation: "another"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Abandon)
	if changes := Plan(s.Image(), nil, s.Image().Topics()...); len(changes) > 0 {
		t.Errorf("decided by what broker 3 had: %+v", changes[0].To)
	}
	says(t, s, 3, 2, 9)
	changes := Plan(s.Image(), nil, s.Image().Topics()...)
	if len(changes) != 1 || changes[0].To.Leader != 2 {
		t.Errorf("changes %+v, want broker 2 to lead", changes)
	}
}

// A restored partition is led by the replica with the longest log of the highest
// leader epoch, in an epoch above all that any log has, and by nobody before all
// have said what they have.
func TestRestoredPartitionIsLedByWhoFoundMost(t *testing.T) {
	for _, c := range []struct {
		epochs []int32
		ends   []int64
		want   metadata.BrokerID
		epoch  int32
	}{
		{[]int32{4, 4, 4}, []int64{2, 5, 4}, 2, 101},
		{[]int32{4, 3, 4}, []int64{2, 9, 4}, 3, 101},
		{[]int32{-1, -1, -1}, []int64{0, 0, 0}, 1, 101},
		{[]int32{-1, -1, 0}, []int64{0, 0, 1}, 3, 101},
		{[]int32{7, 300, 7}, []int64{8, 8, 8}, 2, 301},
	} {
		s := restoredCluster(t, 1, 2, 3)
		for i := range c.ends {
			if changes := Plan(s.Image(), func(string) bool { return true }, s.Image().Topics()...); len(changes) != 0 {
				t.Fatalf("%v: with %d of 3 heard: %+v", c, i, changes)
			}
			says(t, s, metadata.BrokerID(i+1), c.epochs[i], c.ends[i])
		}
		changes := Plan(s.Image(), nil, s.Image().Topics()...)
		if len(changes) != 1 {
			t.Fatalf("%v: changes %+v", c, changes)
		}
		to := changes[0].To
		if to.Leader != c.want || !to.Recovering || to.LeaderEpoch != c.epoch || !cmp.Equal(to.ISR, ids(c.want)) || to.Found != nil {
			t.Errorf("%v: becomes %+v", c, to)
		}
		if err := s.AlterPartitions(t.Context(), changes)[0]; err != nil {
			t.Fatal(err)
		}
		// From now on it is as any other: an empty ISR means that nobody is known to have all.
		alter(t, s, func(p *metadata.Partition) { p.ISR, p.Leader, p.LeaderBrokerEpoch = nil, metadata.NoBroker, 0 })
		if changes := Plan(s.Image(), nil, s.Image().Topics()...); len(changes) != 0 {
			t.Errorf("a partition whose disks were lost: %+v", changes)
		}
	}
}

// What a broker said under another registration counts for nothing, and an
// operator can give up the one that does not come.
func TestRestoredPartitionWaitsForAllOrForTheOperator(t *testing.T) {
	s := restoredCluster(t, 1, 2)
	says(t, s, 1, 4, 2)
	says(t, s, 2, 4, 5)
	says(t, s, 3, 4, 9) // in a former life
	if changes := Plan(s.Image(), nil, s.Image().Topics()...); len(changes) != 0 {
		t.Errorf("without broker 3: %+v", changes)
	}
	if n, brokers := awaited(s.Image()); n != 1 || !cmp.Equal(brokers, ids(3)) {
		t.Errorf("%d partitions wait for %v, want 1 for broker 3", n, brokers)
	}
	topic, _ := s.Image().Topic("t")
	if _, err := Reassign(s.Image(), topic, 0, ids(1, 2)); !errors.Is(err, ErrInvalidReplicas) {
		t.Errorf("a reassignment before anybody leads: %v", err)
	}
	c, err := Elect(s.Image(), topic, 0, true)
	if err != nil || c.To.Leader != 2 || c.To.LeaderEpoch != 101 || !c.To.Recovering {
		t.Errorf("an unclean election: %+v, %v, want broker 2", c.To, err)
	}
}

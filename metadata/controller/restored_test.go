package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// A partition that a restore made is led by whichever replica lives first, which
// recovers from the tier; one that lost its disks meanwhile is not.
func TestRestoredPartitionIsLedByAnyReplica(t *testing.T) {
	mem := kv.NewMem()
	r := metadata.Restored{ClusterID: "c", Topics: []metadata.RestoredTopic{{
		Name: "t", ID: metadata.TopicID{1}, Partitions: []metadata.RestoredPartition{{Replicas: []metadata.BrokerID{1, 2, 3}, LeaderEpoch: 100}},
	}}}
	if err := metadata.RestoreCluster(t.Context(), mem, "", r, false); err != nil {
		t.Fatal(err)
	}
	s, err := metadata.Open(t.Context(), metadata.Options{KV: mem})
	if err != nil {
		t.Fatal(err)
	}
	if changes := Plan(s.Image(), nil, s.Image().Topics()...); len(changes) != 0 {
		t.Errorf("without a broker: %+v", changes)
	}
	session, err := s.RegisterBroker(t.Context(), metadata.Registration{ID: 2, DirectoryID: "d", Incarnation: "i"})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Abandon()
	changes := Plan(s.Image(), nil, s.Image().Topics()...)
	if len(changes) != 1 {
		t.Fatalf("changes %+v", changes)
	}
	to := changes[0].To
	if to.Leader != 2 || !to.Recovering || to.LeaderEpoch != 101 || !cmp.Equal(to.ISR, []metadata.BrokerID{2}) {
		t.Errorf("becomes %+v", to)
	}
	if errs := s.AlterPartitions(t.Context(), changes); errs[0] != nil {
		t.Fatal(errs[0])
	}
	// From now on it is as any other: an empty ISR means that nobody is known to have all.
	p, _ := s.Image().PartitionByID(changes[0].TopicIDPartition)
	p.ISR, p.Leader, p.LeaderBrokerEpoch = nil, metadata.NoBroker, 0
	d := decider{im: s.Image()}
	if got := d.decide(p, p); got.Leader != metadata.NoBroker {
		t.Errorf("a partition whose disks were lost is led by %d", got.Leader)
	}
}

package controller

import (
	"slices"
	"testing"

	"github.com/coldbrook/coldbrook/metadata"
)

// A replica whose broker cannot use its log is not elected, gives way to others in
// sync, and is kept in sync while nobody else has all.
func TestReplicaThatIsOfflineIsNotElected(t *testing.T) {
	im := restoredCluster(t, 1, 2, 3).Image()
	epoch := func(id metadata.BrokerID) int64 { b, _ := im.Broker(id); return b.Epoch }
	for _, c := range []struct {
		what         string
		p            metadata.Partition
		leader       metadata.BrokerID
		isr, offline []metadata.BrokerID
	}{
		{"the leader", metadata.Partition{Replicas: ids(1, 2, 3), ISR: ids(1, 2, 3), Leader: 1, Offline: ids(1)}, 2, ids(2, 3), ids(1)},
		{"the leader, and the next", metadata.Partition{Replicas: ids(1, 2, 3), ISR: ids(1, 2, 3), Leader: 1, Offline: ids(1, 2)}, 3, ids(3), ids(1, 2)},
		{"a follower", metadata.Partition{Replicas: ids(1, 2, 3), ISR: ids(1, 2, 3), Leader: 1, Offline: ids(3)}, 1, ids(1, 2), ids(3)},
		{"the only one in sync", metadata.Partition{Replicas: ids(1, 2, 3), ISR: ids(1), Leader: 1, Offline: ids(1)}, metadata.NoBroker, ids(1), ids(1)},
		{"one that is no replica any more", metadata.Partition{Replicas: ids(1, 2), ISR: ids(1, 2), Leader: 1, Offline: ids(3)}, 1, ids(1, 2), nil},
	} {
		c.p.LeaderBrokerEpoch = epoch(c.p.Leader)
		to := decider{im: im}.decide(c.p, c.p)
		if to.Leader != c.leader || !slices.Equal(to.ISR, c.isr) || !slices.Equal(to.Offline, c.offline) {
			t.Errorf("%s: becomes %+v", c.what, to)
		}
		if moved := to.LeaderEpoch != c.p.LeaderEpoch; moved != (c.leader != c.p.Leader) {
			t.Errorf("%s: leader epoch %d", c.what, to.LeaderEpoch)
		}
	}
}

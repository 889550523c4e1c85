package controller

import (
	"errors"
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

// An unclean election rests on nobody who is in sync being there. One who came back
// since it was decided is not passed over.
func TestUncleanElectionIsNotMadeWhenAnInSyncReplicaIsBack(t *testing.T) {
	s := restoredCluster(t, 2)
	register := func() *metadata.Session {
		t.Helper()
		session, err := s.RegisterBroker(t.Context(), metadata.Registration{ID: 1, DirectoryID: "d1", Incarnation: "i"})
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	leave := func(session *metadata.Session) {
		t.Helper()
		if err := session.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	session := register()
	alter(t, s, func(p *metadata.Partition) { p.ISR, p.Recovering = ids(1), false })
	leave(session)
	alter(t, s, func(p *metadata.Partition) { p.LeaderEpoch++ }) // and sees that it left
	unclean := func(string) bool { return true }
	changes := Plan(s.Image(), unclean, s.Image().Topics()...)
	if len(changes) != 1 || changes[0].To.Leader != 2 {
		t.Fatalf("changes %+v", changes)
	}
	session = register()
	if err := s.AlterPartitions(t.Context(), changes)[0]; !errors.Is(err, metadata.ErrConflict) {
		t.Errorf("with broker 1 back: %v, want a conflict", err)
	}
	leave(session)
	if err := s.AlterPartitions(t.Context(), changes)[0]; err != nil {
		t.Errorf("with broker 1 gone again: %v", err)
	}
}

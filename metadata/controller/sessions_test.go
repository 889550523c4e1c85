package controller

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

func TestBrokerCampaignsUnderOneSessionAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var session atomic.Pointer[metadata.Session]
		ctl, _ := c.run(session.Load, Options{})
		time.Sleep(time.Minute)
		if ctl.Active() || c.store.Image().Controller() != metadata.NoBroker {
			t.Fatal("campaigned without a session")
		}
		var epochs []int64
		for range 3 {
			session.Store(c.up(1, ""))
			time.Sleep(time.Second)
			if !ctl.Active() || c.store.Image().Controller() != 1 {
				t.Fatalf("not elected under session %d", len(epochs))
			}
			epochs = append(epochs, c.store.Image().ControllerEpoch())
			c.create(fmt.Sprintf("t%d", len(epochs)), ids(1))
			c.down(1)
			time.Sleep(time.Second)
			if ctl.Active() || c.store.Image().Controller() != metadata.NoBroker {
				t.Error("a term outlived its session")
			}
		}
		if !slices.IsSorted(epochs) || len(slices.Compact(epochs)) != 3 {
			t.Errorf("controller epochs %v, want three", epochs)
		}
	})
}

// The session in force changes while the old one's lease still lasts.
func TestTermOfATakenOverSessionEndsBeforeTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var session atomic.Pointer[metadata.Session]
		first := c.up(1, "")
		delete(c.sessions, 1)
		t.Cleanup(first.Abandon)
		session.Store(first)
		ctl, _ := c.run(session.Load, Options{})
		c.create("t", ids(1))
		before := c.store.Image().ControllerEpoch()
		session.Store(c.up(1, ""))
		<-first.Done()
		time.Sleep(time.Second)
		if now := c.store.Image().ControllerEpoch(); !ctl.Active() || now <= before {
			t.Errorf("active %v in epoch %d, want a later one than %d", ctl.Active(), now, before)
		}
		if p := c.partition("t", 0); p.LeaderBrokerEpoch != session.Load().Epoch || p.LeaderEpoch != 1 {
			t.Errorf("got %+v, want it led under the new registration", p)
		}
	})
}

func TestReplayBrokerIsNoCandidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		replay := c.register(metadata.Registration{ID: 7, DirectoryID: "dir-7", Role: metadata.RoleReplay})
		ctl, _ := c.start(replay, Options{})
		time.Sleep(time.Hour)
		if ctl.Active() || c.store.Image().Controller() != metadata.NoBroker {
			t.Error("a replay broker became controller")
		}
		one, _ := c.start(c.up(1, ""), Options{})
		time.Sleep(time.Second)
		if !one.Active() {
			t.Error("nobody became controller")
		}
	})
}

func TestUncleanElectionWaitsForItsPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.up(2, "")
		byBroker := atomic.Bool{}
		c.start(c.up(3, ""), Options{Unclean: func(topic string) bool {
			return c.store.Image().TopicConfig(topic)["unclean.leader.election.enable"] == "true" || byBroker.Load()
		}})
		c.up(1, "")
		for _, topic := range []string{"t", "u"} {
			made := c.create(topic, ids(1, 2))
			from := made.Partitions[0]
			to := from
			to.ISR = ids(1)
			if errs := c.store.AlterPartitions(t.Context(), []metadata.PartitionChange{change(made, 0, to)}); errs[0] != nil {
				t.Fatal(errs[0])
			}
		}
		c.down(1)
		time.Sleep(time.Minute)
		for _, topic := range []string{"t", "u"} {
			if p := c.partition(topic, 0); p.Leader != metadata.NoBroker || !slices.Equal(p.ISR, ids(1)) {
				t.Fatalf("%s is %+v, want it to wait for broker 1", topic, p)
			}
		}
		err := c.store.AlterConfigs(t.Context(), metadata.Resource{Kind: metadata.TopicResource, Name: "t"},
			map[string]string{"unclean.leader.election.enable": "true"}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := c.partition("t", 0); p.Leader != 2 || !p.Recovering || !slices.Equal(p.ISR, ids(2)) {
			t.Errorf("t is %+v, want 2 to lead and recover", p)
		}
		if p := c.partition("u", 0); p.Leader != metadata.NoBroker {
			t.Errorf("u is %+v", p)
		}
		byBroker.Store(true) // nothing in the image says so
		time.Sleep(reviewInterval + time.Second)
		if p := c.partition("u", 0); p.Leader != 2 || !p.Recovering {
			t.Errorf("u is %+v, want 2 to lead and recover", p)
		}
	})
}

func TestReassignmentEndsByItselfAndTheTargetLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		one := c.up(1, "")
		c.start(one, Options{})
		three := c.up(3, "")
		made := c.create("t", ids(1))
		ch, err := Reassign(c.store.Image(), made, 0, ids(3))
		if err != nil {
			t.Fatal(err)
		}
		if errs := c.store.AlterPartitions(t.Context(), []metadata.PartitionChange{ch}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		made, _ = c.store.Image().Topic("t")
		to := made.Partitions[0]
		to.ISR = ids(1, 3)
		if errs := c.store.AlterPartitions(t.Context(), []metadata.PartitionChange{change(made, 0, to)}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		synctest.Wait()
		want := metadata.Partition{Replicas: ids(3), ISR: ids(3), Leader: 3, LeaderEpoch: 1, Epoch: 3, LeaderBrokerEpoch: three.Epoch}
		if p := c.partition("t", 0); !p.Equal(want) {
			t.Errorf("got %+v, want %+v", p, want)
		}
	})
}

func TestLeadersMoveBeforeFollowersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		one := c.up(1, "")
		c.up(2, "")
		c.create("t", slices.Concat(slices.Repeat([][]metadata.BrokerID{ids(2, 1)}, 5), slices.Repeat([][]metadata.BrokerID{ids(1, 2)}, 5))...)
		if err := one.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		im := c.store.Image()
		for i, ch := range Plan(im, nil, im.Topics()...) {
			if moved := ch.From.Leader != ch.To.Leader; moved != (i < 5) || !slices.Equal(ch.To.ISR, ids(2)) {
				t.Errorf("change %d is %+v", i, ch)
			}
		}
	})
}

// run is start with sessions that may change.
func (c *cluster) run(sessions func() *metadata.Session, o Options) (*Controller, func()) {
	c.t.Helper()
	o.Sessions, o.Store = sessions, c.store
	ctl, err := New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- ctl.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	}
	c.t.Cleanup(stop)
	synctest.Wait()
	return ctl, stop
}

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// start runs a controller under a session of the cluster until stop is called or
// the test ends.
func (c *cluster) start(session *metadata.Session, o Options) (ctl *Controller, stop func()) {
	c.t.Helper()
	o.Sessions = func() *metadata.Session { return session }
	if o.Store == nil {
		o.Store = c.store
	}
	ctl, err := New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- ctl.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(stop)
	synctest.Wait()
	return ctl, stop
}

func ids(n ...metadata.BrokerID) []metadata.BrokerID { return n }

func TestDeadLeaderIsReplacedWhenItsLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		one, two := c.up(1, ""), c.up(2, "")
		c.start(one, Options{})
		c.start(two, Options{})
		c.create("t", ids(1, 2), ids(2, 1))
		one.Abandon() // the controller itself dies
		died := time.Now()
		wake, stop := c.store.Watch()
		defer stop()
		for c.partition("t", 0).Leader != 2 {
			<-wake
		}
		if took := time.Since(died); took > metadata.DefaultLeaseTTL {
			t.Errorf("elected after %s, want the lease's %s at most", took, metadata.DefaultLeaseTTL)
		}
		synctest.Wait()
		if p := c.partition("t", 0); p.LeaderEpoch != 1 || !slices.Equal(p.ISR, ids(2)) || p.LeaderBrokerEpoch != two.Epoch {
			t.Errorf("got %+v", p)
		}
		if got := c.store.Image().Controller(); got != 2 {
			t.Errorf("controller %d, want 2", got)
		}
	})
}

func TestRestartedLeaderGetsANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		_, stop := c.start(c.up(1, ""), Options{})
		c.create("t", slices.Repeat([][]metadata.BrokerID{ids(1)}, 500)...)
		stop()
		again := c.up(1, "") // the same data directory, another run
		before := c.store.Image().Revision()
		c.start(again, Options{})
		for n := range int32(500) {
			if p := c.partition("t", n); p.Leader != 1 || p.LeaderEpoch != 1 || p.LeaderBrokerEpoch != again.Epoch {
				t.Fatalf("partition %d is %+v", n, p)
			}
		}
		// One election, and 500 partitions in transactions of up to 127.
		if n := c.store.Image().Revision() - before; n != 1+4 {
			t.Errorf("%d revisions, want 5", n)
		}
		time.Sleep(time.Hour)
		if n := c.store.Image().Revision() - before; n != 1+4 {
			t.Errorf("%d revisions after an idle hour, want still 5", n)
		}
	})
}

func TestStoppedControllerHandsOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		first, stop := c.start(c.up(1, ""), Options{})
		second, _ := c.start(c.up(2, ""), Options{})
		if !first.Active() || second.Active() {
			t.Fatalf("active: %v, %v, want the first alone", first.Active(), second.Active())
		}
		stop()
		synctest.Wait()
		if first.Active() || !second.Active() {
			t.Errorf("active: %v, %v, want the second alone", first.Active(), second.Active())
		}
	})
}

// TestOneControllerWhereItsKeyIsGone: etcd that was set back, or somebody's hand, ends
// a term whose session lasts.
func TestOneControllerWhereItsKeyIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		first, _ := c.start(c.up(1, ""), Options{})
		second, _ := c.start(c.up(2, ""), Options{})
		for range 5 {
			if _, err := c.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete("/coldbrook/coldbrook/controller", "")}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if first.Active() == second.Active() {
				t.Fatalf("active: %v, %v, want one of them", first.Active(), second.Active())
			}
		}
	})
}

func TestControllerCutOffFromTheStoreDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var cut atomic.Bool
		view := c.kv.Client(func(context.Context, kv.Call) error {
			if cut.Load() {
				return fmt.Errorf("%w: cut off", kv.ErrUnavailable)
			}
			return nil
		})
		store, err := metadata.Open(t.Context(), metadata.Options{KV: view})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		one, err := store.RegisterBroker(t.Context(), metadata.Registration{ID: 1, DirectoryID: "dir-1", Incarnation: "a"})
		if err != nil {
			t.Fatal(err)
		}
		defer one.Abandon()
		old, stop := c.start(one, Options{Store: store})
		defer stop()
		two := c.up(2, "")
		c.start(two, Options{})
		c.up(3, "")
		c.create("t", ids(3, 2))
		cut.Store(true)
		time.Sleep(2 * metadata.DefaultLeaseTTL)
		if !old.Active() || c.store.Image().Controller() != 2 {
			t.Fatalf("old active %v, controller %d: want both to believe it is them", old.Active(), c.store.Image().Controller())
		}
		cut.Store(false) // now it hears of everything at once
		c.down(3)
		time.Sleep(time.Minute)
		if p := c.partition("t", 0); p.Leader != 2 || p.LeaderEpoch != 1 {
			t.Errorf("got %+v, want one election", p)
		}
		if old.Active() {
			t.Error("the deposed controller does not know it")
		}
	})
}

func TestElectionIsRetriedUntilTheStoreAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.up(1, "")
		two := c.up(2, "")
		c.create("t", ids(1, 2))
		var failing atomic.Bool
		view := c.kv.Client(func(_ context.Context, call kv.Call) error {
			if failing.Load() && call.Kind == kv.CallTxn {
				return kv.ErrUnavailable
			}
			return nil
		})
		store, err := metadata.Open(t.Context(), metadata.Options{KV: view})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		defer func() { cancel(); <-done }()
		_, stop := c.start(two, Options{Store: store})
		defer stop()
		failing.Store(true)
		c.down(1)
		time.Sleep(10 * time.Second)
		if p := c.partition("t", 0); p.Leader != 1 {
			t.Fatalf("got %+v, want nothing decided", p)
		}
		failing.Store(false)
		time.Sleep(time.Second)
		if p := c.partition("t", 0); p.Leader != 2 {
			t.Errorf("got %+v, want 2 elected", p)
		}
	})
}

func TestTombstonesAreWorkedOffUntilPurgeIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		one := c.up(1, "")
		calls := map[string][]time.Duration{}
		began := time.Now()
		purge := func(_ context.Context, grave metadata.Tombstone) (bool, error) {
			name := grave.Topic.Name
			calls[name] = append(calls[name], time.Since(began))
			if len(grave.Topic.Partitions) != 2 {
				t.Errorf("%s: %d partitions in the tombstone", name, len(grave.Topic.Partitions))
			}
			switch n := len(calls[name]); {
			case name == "slow" && n < 3:
				return false, nil
			case name == "failing" && n < 2:
				return false, errors.New("no answer")
			}
			return true, nil
		}
		c.start(one, Options{Purge: purge, PurgeInterval: time.Minute})
		for _, name := range []string{"quick", "slow", "failing"} {
			c.create(name, ids(1), ids(1))
			if err := c.store.DeleteTopic(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := len(c.store.Image().Tombstones()); n != 2 {
			t.Errorf("%d tombstones at once, want 2", n)
		}
		time.Sleep(time.Minute + time.Second)
		if n := len(c.store.Image().Tombstones()); n != 1 {
			t.Errorf("%d tombstones after a minute, want 1", n)
		}
		time.Sleep(time.Hour)
		if n := len(c.store.Image().Tombstones()); n != 0 {
			t.Errorf("%d tombstones at last", n)
		}
		if len(calls["quick"]) != 1 || len(calls["slow"]) != 3 || len(calls["failing"]) != 2 {
			t.Errorf("calls %v", calls)
		}
	})
}

func TestUnfinishedCreationIsRemovedAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		n := 0
		dying, err := metadata.Open(t.Context(), metadata.Options{KV: c.kv.Client(func(_ context.Context, call kv.Call) error {
			if call.Kind == kv.CallTxn && !call.After {
				if n++; n > 2 {
					return kv.ErrUnavailable
				}
			}
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dying.CreateTopic(t.Context(), metadata.TopicSpec{Name: "t", Assignments: slices.Repeat([][]metadata.BrokerID{ids(1)}, 300)}); err == nil {
			t.Fatal("created")
		}
		c.start(c.up(1, ""), Options{CreateTimeout: 5 * time.Minute, Purge: func(context.Context, metadata.Tombstone) (bool, error) {
			t.Error("asked to purge a topic that never was")
			return true, nil
		}})
		time.Sleep(4 * time.Minute)
		if len(c.store.Image().Tombstones()) != 1 {
			t.Error("a creation that may still run was given up")
		}
		time.Sleep(2 * time.Minute)
		if len(c.store.Image().Tombstones()) != 0 {
			t.Error("an unfinished creation stays for ever")
		}
		c.create("t", ids(1))
	})
}

func TestPreferredLeadersComeBackByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		one, two := c.up(1, ""), c.up(2, "")
		c.start(one, Options{})
		topic := c.create("t", ids(2, 1))
		two.Abandon()
		time.Sleep(2 * metadata.DefaultLeaseTTL)
		if p := c.partition("t", 0); p.Leader != 1 {
			t.Fatalf("got %+v", p)
		}
		c.up(2, "")
		from := c.partition("t", 0)
		to := from
		to.ISR = ids(1, 2)
		tip := metadata.TopicIDPartition{Topic: topic.ID}
		if errs := c.store.AlterPartitions(t.Context(), []metadata.PartitionChange{{TopicIDPartition: tip, From: from, To: to}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		time.Sleep(5 * time.Minute)
		if p := c.partition("t", 0); p.Leader != 2 || p.LeaderEpoch != 2 {
			t.Errorf("got %+v, want 2 leading in epoch 2", p)
		}
	})
}

func TestControllerRestsAfterItsSessionEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		one := c.up(1, "")
		ctl, _ := c.start(one, Options{})
		delete(c.sessions, 1)
		defer one.Abandon()
		c.up(1, "") // takes the registration over from a run that lives
		<-one.Done()
		synctest.Wait()
		if ctl.Active() {
			t.Error("still active without a session")
		}
	})
}

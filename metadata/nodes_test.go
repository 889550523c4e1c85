package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// newDisk registers broker 1 with a directory it never had.
func newDisk(ctx context.Context, s *Store, run int) (*Session, error) {
	return s.RegisterBroker(ctx, Registration{ID: 1, DirectoryID: "dir-new", Incarnation: fmt.Sprintf("new-%d", run)})
}

// counted returns the partitions that count on a broker's data.
func counted(s *Store, id BrokerID) (out []string) {
	for _, t := range s.Image().Topics() {
		for n, p := range t.Partitions {
			if p.Leader == id || slices.Contains(p.ISR, id) {
				out = append(out, fmt.Sprintf("%s-%d", t.Name, n))
			}
		}
	}
	return out
}

func TestBrokerWithTheSameDirectoryStaysInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		one := register(t, s, 1)
		topic := createTopic(t, s, "t", 3)
		if err := one.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		before, _ := s.Image().Node(1)
		time.Sleep(time.Hour)
		again, err := s.RegisterBroker(t.Context(), Registration{ID: 1, Rack: "b", DirectoryID: "dir-1", Incarnation: "run-2"})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Abandon()
		after, _ := s.Image().Topic("t")
		if diff := cmp.Diff(topic, after); diff != "" {
			t.Errorf("the topic changed (-before +after):\n%s", diff)
		}
		n, _ := s.Image().Node(1)
		if want := (Node{ID: 1, DirectoryID: "dir-1", Rack: "b", Since: before.Since, Epoch: again.Epoch}); n != want {
			t.Errorf("node %+v, want %+v", n, want)
		}
	})
}

func TestBrokerThatLostItsDiskIsInSyncNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		one, two := register(t, s, 1), register(t, s, 2)
		createTopic(t, s, "both", 2)
		if _, err := s.CreateTopic(t.Context(), TopicSpec{Name: "alone", Assignments: [][]BrokerID{{1}, {2, 1}}}); err != nil {
			t.Fatal(err)
		}
		graved := createTopic(t, s, "deleted", 1)
		if err := s.DeleteTopic(t.Context(), "deleted"); err != nil {
			t.Fatal(err)
		}
		if err := one.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		again, err := newDisk(t.Context(), s, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Abandon()
		if left := counted(s, 1); left != nil {
			t.Errorf("still counted on in %v", left)
		}
		for _, c := range []struct {
			tp   TopicPartition
			want Partition
		}{
			{TopicPartition{"both", 0}, Partition{Replicas: []BrokerID{1, 2}, ISR: []BrokerID{2}, Leader: NoBroker, LeaderEpoch: 1, Epoch: 1}},
			{TopicPartition{"alone", 0}, Partition{Replicas: []BrokerID{1}, ISR: []BrokerID{}, Leader: NoBroker, LeaderEpoch: 1, Epoch: 1}},
			{TopicPartition{"alone", 1}, Partition{Replicas: []BrokerID{2, 1}, ISR: []BrokerID{2}, Leader: 2, LeaderEpoch: 0, Epoch: 1, LeaderBrokerEpoch: two.Epoch}},
		} {
			if p, _ := s.Image().Partition(c.tp); !p.Equal(c.want) {
				t.Errorf("%s is %+v, want %+v", c.tp, p, c.want)
			}
		}
		if p := s.Image().Tombstones()[0].Topic.Partitions[0]; slices.Contains(p.ISR, 1) {
			t.Errorf("topic %s, which may be undeleted, counts on the lost disk: %+v", graved.Name, p)
		}
		if n, _ := s.Image().Node(1); n.DirectoryID != "dir-new" {
			t.Errorf("node %+v", n)
		}
	})
}

// Wherever the process dies while it registers with a new disk, nobody counts on
// the old one once it is registered, and the next try, with either disk, succeeds.
func TestRegistrationWithANewDiskMayCrashAnywhere(t *testing.T) {
	for _, oldDisk := range []bool{false, true} {
		for at := 1; ; at++ {
			crashed := false
			synctest.Test(t, func(t *testing.T) {
				mem := kv.NewMemWith(kv.MemOptions{MaxTxnOps: 8})
				s := openStore(t, mem, true)
				one := register(t, s, 1)
				createTopic(t, s, "t", 20)
				if err := one.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				calls, armed := 0, false
				dying := openStore(t, mem.Client(func(_ context.Context, c kv.Call) error {
					if !armed || c.Kind == kv.CallWatch || c.Kind == kv.CallEvents {
						return nil
					}
					if calls++; calls >= at {
						crashed = true
						return kv.ErrUnavailable
					}
					return nil
				}), false)
				armed = true
				if session, err := newDisk(t.Context(), dying, 1); err == nil {
					session.Abandon()
				}
				synctest.Wait()
				if _, live := s.Image().Broker(1); live && counted(s, 1) != nil {
					t.Errorf("crash at call %d: registered, and counted on in %v", at, counted(s, 1))
				}
				time.Sleep(2 * DefaultLeaseTTL)
				left := counted(s, 1)
				if oldDisk {
					n, _ := s.Image().Node(1)
					session, err := s.RegisterBroker(t.Context(), Registration{ID: 1, DirectoryID: "dir-1", Incarnation: "old"})
					if err != nil {
						t.Fatalf("crash at call %d: %v", at, err)
					}
					defer session.Abandon()
					if n.DirectoryID == "dir-1" && !slices.Equal(counted(s, 1), left) {
						t.Errorf("crash at call %d: the old disk is counted on in %v, was in %v", at, counted(s, 1), left)
					}
					return
				}
				session, err := newDisk(t.Context(), s, 2)
				if err != nil {
					t.Fatalf("crash at call %d: %v", at, err)
				}
				defer session.Abandon()
				if left := counted(s, 1); left != nil {
					t.Errorf("crash at call %d: counted on in %v", at, left)
				}
			})
			if !crashed {
				if at < 12 {
					t.Errorf("only %d calls were tried", at-1)
				}
				break
			}
		}
	}
}

// A leader that has not heard of the broker's death adds it to the in-sync
// replicas, as its last fetch deserved, at any moment of the new registration.
func TestLateLeaderDoesNotCountOnALostDisk(t *testing.T) {
	for at := 1; ; at++ {
		reached := false
		synctest.Test(t, func(t *testing.T) {
			mem := kv.NewMem()
			s := openStore(t, mem, true)
			one := register(t, s, 1)
			register(t, s, 2)
			topic, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: [][]BrokerID{{2, 1}}})
			if err != nil {
				t.Fatal(err)
			}
			tip := TopicIDPartition{topic.ID, 0}
			out := topic.Partitions[0]
			out.ISR = []BrokerID{2}
			if errs := s.AlterPartitions(t.Context(), []PartitionChange{{TopicIDPartition: tip, From: topic.Partitions[0], To: out}}); errs[0] != nil {
				t.Fatal(errs[0])
			}
			late := openStore(t, mem, false) // sees broker 1 for ever
			if err := one.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			calls, armed := 0, false
			registering := openStore(t, mem.Client(func(ctx context.Context, c kv.Call) error {
				if !armed {
					return nil
				}
				if calls++; calls == at {
					reached = true
					from, _ := late.Image().PartitionByID(tip)
					to := from
					to.ISR = []BrokerID{2, 1}
					for _, joins := range []map[BrokerID]int64{nil, {1: one.Epoch}} {
						errs := late.AlterPartitions(ctx, []PartitionChange{{TopicIDPartition: tip, From: from, To: to, Joins: joins}})
						if !errors.Is(errs[0], ErrConflict) {
							t.Errorf("call %d, joins %v: got %v, want ErrConflict", at, joins, errs[0])
						}
					}
				}
				return nil
			}), false)
			armed = true
			session, err := newDisk(t.Context(), registering, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Abandon()
			armed = false
			synctest.Wait()
			if left := counted(s, 1); left != nil {
				t.Errorf("call %d: counted on in %v", at, left)
			}
		})
		if !reached {
			break
		}
	}
}

func TestJoinsHoldForTheirPartitionsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMemWith(kv.MemOptions{MaxTxnOps: 8}), true)
		one := register(t, s, 1)
		two := register(t, s, 2)
		topic, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(20, 3)})
		if err != nil {
			t.Fatal(err)
		}
		var changes []PartitionChange
		for n, from := range topic.Partitions {
			c := PartitionChange{TopicIDPartition: TopicIDPartition{topic.ID, int32(n)}, From: from, To: from}
			switch n % 4 {
			case 0:
				c.To.ISR, c.Joins = []BrokerID{3, 1}, map[BrokerID]int64{1: one.Epoch}
			case 1:
				c.To.ISR, c.Joins = []BrokerID{3, 2, 1}, map[BrokerID]int64{2: two.Epoch + 1000}
			case 2:
				c.To.ISR = []BrokerID{3, 9}
			case 3: // changes nothing
			}
			changes = append(changes, c)
		}
		for n, err := range s.AlterPartitions(t.Context(), changes) {
			var want error
			if n%4 == 1 || n%4 == 2 {
				want = ErrConflict
			}
			if !errors.Is(err, want) {
				t.Errorf("partition %d: got %v, want %v", n, err, want)
			}
			if p, _ := s.Image().PartitionByID(changes[n].TopicIDPartition); (p.Epoch == 1) != (n%4 == 0) {
				t.Errorf("partition %d is %+v", n, p)
			}
		}
	})
}

func TestUnregisteredBrokerIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		one := register(t, s, 1)
		createTopic(t, s, "t", 1)
		want := func(want error) {
			t.Helper()
			if err := s.UnregisterBroker(t.Context(), 1); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		want(ErrBrokerLive)
		if err := one.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := s.Image().Nodes(); len(n) != 1 || n[0].Host != "host" || n[0].Port != 9001 || n[0].Epoch != one.Epoch {
			t.Errorf("nodes %+v, want the broker that is down", n)
		}
		want(ErrBrokerHasReplicas)
		if err := s.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		want(nil)
		want(ErrUnknownBroker)
		if n := s.Image().Nodes(); len(n) != 0 {
			t.Errorf("nodes %+v, want none", n)
		}
	})
}

func TestProcessRegistersAgainAfterItsSessionEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		other := openStore(t, mem, true)
		var cut atomic.Bool
		s := openStore(t, mem.Client(func(_ context.Context, c kv.Call) error {
			if cut.Load() {
				return kv.ErrUnavailable
			}
			return nil
		}), true)
		first := register(t, s, 1)
		createTopic(t, other, "t", 1)
		cut.Store(true)
		time.Sleep(2 * DefaultLeaseTTL)
		cut.Store(false)
		<-first.Done()
		second := register(t, s, 1)
		if second.Epoch <= first.Epoch || len(counted(other, 1)) != 1 {
			t.Errorf("epoch %d after %d, counted on in %v", second.Epoch, first.Epoch, counted(other, 1))
		}
		// Its own registration, which it gave up too early, is taken over.
		third := register(t, s, 1)
		<-second.Done()
		if b, _ := other.Image().Broker(1); b.Epoch != third.Epoch {
			t.Errorf("registered is %+v, want epoch %d", b, third.Epoch)
		}
		// Another run on a copy of the disk wins; this one does not fight back.
		stolen, err := other.RegisterBroker(t.Context(), Registration{ID: 1, DirectoryID: "dir-1", Incarnation: "copy"})
		if err != nil {
			t.Fatal(err)
		}
		defer stolen.Abandon()
		<-third.Done()
		_, err = s.RegisterBroker(t.Context(), Registration{ID: 1, DirectoryID: "dir-1", Incarnation: "run-1"})
		var conflict *BrokerConflictError
		if !errors.As(err, &conflict) || conflict.Registered.Incarnation != "copy" || conflict.Refused.Incarnation != "run-1" {
			t.Errorf("got %v, want a conflict of copy and run-1", err)
		}
	})
}

// Two brokers with new disks for one dead broker's id: one gets it.
func TestOneOfTwoReplacementsGetsTheID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		one := register(t, s, 1)
		createTopic(t, s, "t", 300)
		if err := one.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 5)
		for n := range cap(errs) {
			mine := openStore(t, mem, true)
			go func() {
				session, err := mine.RegisterBroker(t.Context(), Registration{ID: 1, DirectoryID: fmt.Sprintf("new-%d", n), Incarnation: "run"})
				if session != nil {
					t.Cleanup(session.Abandon)
				}
				errs <- err
			}()
		}
		won := 0
		for range cap(errs) {
			if err := <-errs; err == nil {
				won++
			} else if !errors.Is(err, ErrBrokerIDTaken) {
				t.Error(err)
			}
		}
		synctest.Wait()
		if won != 1 || counted(s, 1) != nil {
			t.Errorf("%d registered, counted on in %v", won, counted(s, 1))
		}
	})
}

// The old disk is put back while the broker with the new one is registering.
func TestOldDiskThatComesBackMeanwhileIsNotLost(t *testing.T) {
	for _, dies := range []bool{false, true} {
		for at := 1; ; at++ {
			reached := false
			synctest.Test(t, func(t *testing.T) {
				mem := kv.NewMemWith(kv.MemOptions{MaxTxnOps: 8})
				s := openStore(t, mem, true)
				one := register(t, s, 1)
				register(t, s, 2)
				topic, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(12, 2, 1)})
				if err != nil {
					t.Fatal(err)
				}
				if err := one.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				var back *Session
				var had []string
				calls, armed := 0, false
				comeBack := func() {
					var err error
					if back, err = s.RegisterBroker(t.Context(), Registration{ID: 1, DirectoryID: "dir-1", Incarnation: "old disk"}); err != nil {
						return // too late
					}
					for n, from := range topic.Partitions { // the leader takes it in again
						from, _ = s.Image().PartitionByID(TopicIDPartition{topic.ID, int32(n)})
						to := from
						to.ISR = []BrokerID{2, 1}
						s.AlterPartitions(t.Context(), []PartitionChange{{TopicIDPartition: TopicIDPartition{topic.ID, int32(n)}, From: from, To: to}})
					}
					had = counted(s, 1)
					if !dies {
						return
					}
					if err := back.Close(t.Context()); err != nil {
						t.Error(err)
					}
				}
				registering := openStore(t, mem.Client(func(context.Context, kv.Call) error {
					if armed {
						if calls++; calls == at {
							reached = true
							comeBack()
						}
					}
					return nil
				}), false)
				armed = true
				session, err := newDisk(t.Context(), registering, 1)
				armed = false
				synctest.Wait()
				switch left := counted(s, 1); {
				case err == nil:
					session.Abandon()
					if left != nil || back != nil && !dies {
						t.Errorf("call %d: the new disk is registered and counted on in %v", at, left)
					}
				case !errors.Is(err, ErrBrokerIDTaken) || back == nil || dies:
					t.Errorf("call %d: %v", at, err)
				case len(had) != 12 || !slices.Equal(left, had):
					t.Errorf("call %d: the old disk lives and is counted on in %v, was in %v", at, left, had)
				}
				if back != nil {
					back.Abandon()
				}
			})
			if !reached {
				break
			}
		}
	}
}

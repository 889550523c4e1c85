package metadata

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func TestSecondBrokerWithAnIDIsRefusedNamingBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		first := register(t, s, 1)
		other := Registration{ID: 1, DirectoryID: "dir-other", Incarnation: "run-other", Listeners: []Listener{{Host: "elsewhere", Port: 1}}}
		_, err := s.RegisterBroker(t.Context(), other)
		if !errors.Is(err, ErrBrokerIDTaken) {
			t.Fatalf("got %v, want ErrBrokerIDTaken", err)
		}
		for _, want := range []string{"dir-1", "host:9001", "dir-other", "elsewhere:1"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("message %q does not name %s", err, want)
			}
		}
		if b, ok := s.Image().Broker(1); !ok || b.DirectoryID != "dir-1" || b.Epoch != first.Epoch {
			t.Errorf("got %+v, want the first one registered", b)
		}
		first.Abandon()
		time.Sleep(DefaultLeaseTTL + time.Millisecond)
		second, err := s.RegisterBroker(t.Context(), other) // a replaced disk: the old one is dead
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(s.Image().Brokers()) != 0 {
			t.Error("a closed session is still registered")
		}
	})
}

func TestRestartedBrokerTakesItsRegistrationOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		first := register(t, s, 1)
		again, err := s.RegisterBroker(t.Context(), Registration{ID: 1, DirectoryID: "dir-1", Incarnation: "run-2"})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Abandon()
		if again.Epoch <= first.Epoch {
			t.Errorf("epoch %d after %d, want a larger one", again.Epoch, first.Epoch)
		}
		if b, ok := s.Image().Broker(1); !ok || b.Incarnation != "run-2" || b.Epoch != again.Epoch {
			t.Errorf("got %+v, want run-2 with epoch %d", b, again.Epoch)
		}
		<-first.Done() // if the former run lives after all, it learns it
		select {
		case <-again.Done():
			t.Error("the new session ended")
		default:
		}
	})
}

func TestDrainingBrokerKeepsItsEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		session := register(t, s, 1)
		if err := session.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, _ := s.Image().Broker(1); !b.Draining || b.Epoch != session.Epoch {
			t.Errorf("got %+v, want draining with epoch %d", b, session.Epoch)
		}
		if err := session.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := session.Drain(t.Context()); err == nil {
			t.Error("drained a broker that is gone")
		}
		synctest.Wait()
		if len(s.Image().Brokers()) != 0 {
			t.Error("draining brought the broker back")
		}
	})
}

func TestLostLeaseEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		var cut atomic.Bool
		mine := openStore(t, mem.Client(func(_ context.Context, c kv.Call) error {
			if cut.Load() {
				return kv.ErrUnavailable
			}
			return nil
		}), true)
		session := register(t, mine, 1)
		time.Sleep(time.Minute)
		if len(s.Image().Brokers()) != 1 {
			t.Fatal("a live broker was forgotten")
		}
		cut.Store(true)
		time.Sleep(DefaultLeaseTTL + time.Millisecond)
		if len(s.Image().Brokers()) != 0 {
			t.Error("a broker that is cut off is still registered")
		}
		if at, ttl := session.Confirmed(); time.Since(at) < ttl {
			t.Error("the broker cannot tell that its lease may be gone")
		}
		cut.Store(false)
		<-session.Done()
	})
}

func TestOneControllerAtATimeAndOldOnesAreFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		one, two := register(t, s, 1), register(t, s, 2)
		topic := createTopic(t, s, "t", 1)
		campaign := func(session *Session) *Term {
			t.Helper()
			term, err := s.Campaign(t.Context(), session)
			if err != nil {
				t.Fatal(err)
			}
			return term
		}
		first := campaign(one)
		if first == nil || s.Image().Controller() != 1 || s.Image().ControllerEpoch() != first.Epoch {
			t.Fatalf("term %+v, controller %d epoch %d", first, s.Image().Controller(), s.Image().ControllerEpoch())
		}
		if again := campaign(one); again == nil || again.Epoch != first.Epoch {
			t.Errorf("second campaign of the controller: %+v, want the same term", again)
		}
		if term := campaign(two); term != nil {
			t.Error("two controllers")
		}
		if err := one.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := s.Image().Controller(); got != NoBroker {
			t.Errorf("controller %d, want none", got)
		}
		if term := campaign(one); term != nil {
			t.Error("a broker that is gone was elected")
		}
		second := campaign(two)
		if second == nil || second.Epoch <= first.Epoch {
			t.Fatalf("second term %+v", second)
		}
		to := topic.Partitions[0]
		to.LeaderEpoch++
		change := []PartitionChange{{TopicIDPartition: TopicIDPartition{topic.ID, 0}, From: topic.Partitions[0], To: to}}
		if errs := first.AlterPartitions(t.Context(), change); !errors.Is(errs[0], ErrFenced) {
			t.Errorf("the old controller: got %v, want ErrFenced", errs[0])
		}
		if errs := second.AlterPartitions(t.Context(), change); errs[0] != nil {
			t.Errorf("the new controller: %v", errs[0])
		}
		if err := s.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		grave := s.Image().Tombstones()[0]
		if err := first.FinishTombstone(t.Context(), grave); err != nil || len(s.Image().Tombstones()) != 1 {
			t.Errorf("the old controller finished a tombstone: %v", err)
		}
		if err := second.FinishTombstone(t.Context(), grave); err != nil || len(s.Image().Tombstones()) != 0 {
			t.Errorf("the new controller could not: %v", err)
		}
		if err := second.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

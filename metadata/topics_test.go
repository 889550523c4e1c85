package metadata

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func TestCreatedTopicIsSeenByItsCreatorAndByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		mine, other := openStore(t, mem, true), openStore(t, mem, true)
		session := register(t, mine, 1)
		want, err := mine.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(3, 1, 2), Configs: map[string]string{"retention.ms": "7"}})
		if err != nil {
			t.Fatal(err)
		}
		got, ok := mine.Image().Topic("t")
		if !ok {
			t.Fatal("the creator's image does not have the topic")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("returned and seen topic differ (-returned +seen):\n%s", diff)
		}
		p := got.Partitions[2]
		if p.Leader != 1 || p.LeaderEpoch != 0 || p.LeaderBrokerEpoch != session.Epoch || !slices.Equal(p.ISR, []BrokerID{1, 2}) {
			t.Errorf("got partition %+v", p)
		}
		synctest.Wait()
		sameImage(t, mine.Image(), other.Image())
		if got := other.Image().TopicConfig("t")["retention.ms"]; got != "7" {
			t.Errorf("retention.ms %q, want 7", got)
		}
		if _, err := other.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(1, 1)}); !errors.Is(err, ErrTopicExists) {
			t.Errorf("second creation: got %v, want ErrTopicExists", err)
		}
	})
}

func TestCreateRefusesNonsense(t *testing.T) {
	s := openStore(t, kv.NewMem(), false)
	for name, spec := range map[string]TopicSpec{
		"bad name":          {Name: "a/b", Assignments: assign(1, 1)},
		"no partitions":     {Name: "t"},
		"no replicas":       {Name: "t", Assignments: assign(1)},
		"duplicate replica": {Name: "t", Assignments: assign(1, 1, 1)},
		"negative replica":  {Name: "t", Assignments: assign(1, -1)},
	} {
		if _, err := s.CreateTopic(t.Context(), spec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := len(s.Image().Topics()); n != 0 {
		t.Errorf("%d topics were made", n)
	}
}

func TestLargeTopicAppearsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		reader := openStore(t, mem, true)
		txns := 0
		writer := openStore(t, mem.Client(func(_ context.Context, c kv.Call) error {
			if c.Kind == kv.CallTxn && !c.After {
				txns++
				synctest.Wait()
				if topic, ok := reader.Image().Topic("big"); ok && len(topic.Partitions) != 1000 {
					t.Errorf("seen with %d partitions", len(topic.Partitions))
				}
			}
			return nil
		}), true)
		createTopic(t, writer, "big", 1000)
		if want := 1 + 8 + 1; txns != want { // begin, 1000/128, end
			t.Errorf("%d transactions, want %d", txns, want)
		}
		synctest.Wait()
		topic, _ := reader.Image().Topic("big")
		if len(topic.Partitions) != 1000 || len(reader.Image().Tombstones()) != 0 {
			t.Errorf("got %d partitions and %d tombstones", len(topic.Partitions), len(reader.Image().Tombstones()))
		}
		if err := writer.AddPartitions(t.Context(), "big", assign(500, 1)); err != nil {
			t.Fatal(err)
		}
		if topic, _ = writer.Image().Topic("big"); len(topic.Partitions) != 1500 || topic.Partitions[1499].ModRevision == 0 {
			t.Errorf("got %d partitions after growth", len(topic.Partitions))
		}
	})
}

func TestCrashWhileCreatingLeavesATopicOrATombstone(t *testing.T) {
	for stop := 1; stop <= 5; stop++ {
		for _, after := range []bool{false, true} {
			mem := kv.NewMem()
			watcher := openStore(t, mem, false)
			n := 0
			s := openStore(t, mem.Client(func(_ context.Context, c kv.Call) error {
				if c.Kind == kv.CallTxn && c.After == after {
					if n++; n == stop {
						return kv.ErrUnavailable
					}
				}
				return nil
			}), false)
			_, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(300, 1)})
			if _, loadErr := watcher.load(t.Context()); loadErr != nil {
				t.Fatal(loadErr)
			}
			im := watcher.Image()
			topic, there := im.Topic("t")
			if there && len(topic.Partitions) != 300 {
				t.Errorf("stop %d after %v: topic with %d partitions", stop, after, len(topic.Partitions))
			}
			if err == nil && !there {
				t.Errorf("stop %d after %v: created but not there", stop, after)
			}
			for _, grave := range im.Tombstones() {
				if there || !grave.Creating {
					t.Errorf("stop %d after %v: tombstone %+v beside topic %v", stop, after, grave, there)
				}
				if err := watcher.FinishTombstone(t.Context(), grave.Topic.ID); err != nil {
					t.Fatal(err)
				}
			}
			want := 1 // the cluster's id
			if there {
				want += 301
			}
			all, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/")})
			if err != nil || len(all.KVs) != want {
				t.Errorf("stop %d after %v: %d keys left, want %d: %v", stop, after, len(all.KVs), want, err)
			}
		}
	}
}

func TestControllerCanGiveUpACreationThatStillRuns(t *testing.T) {
	mem := kv.NewMem()
	other := openStore(t, mem, false)
	n := 0
	s := openStore(t, mem.Client(func(ctx context.Context, c kv.Call) error {
		if c.Kind == kv.CallTxn && !c.After {
			if n++; n == 3 {
				if _, err := other.load(ctx); err != nil {
					return err
				}
				return other.FinishTombstone(ctx, other.Image().Tombstones()[0].Topic.ID)
			}
		}
		return nil
	}), false)
	if _, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(300, 1)}); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	all, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/"), Limit: 5})
	if err != nil || len(all.KVs) != 1 {
		t.Errorf("%d keys left, want the cluster's alone: %v", len(all.KVs), err)
	}
}

func TestDeletedTopicLeavesAllItsStateToTheTombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		topic := createTopic(t, s, "t", 200)
		tip := TopicIDPartition{topic.ID, 7}
		if err := s.AlterConfigs(t.Context(), Resource{TopicResource, "t"}, map[string]string{"a": "b"}, nil, false); err != nil {
			t.Fatal(err)
		}
		pointer, err := s.SwapRemotePointer(t.Context(), tip, RemotePointer{}, 0, RemotePointer{Manifest: "m1", Sequence: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		im := s.Image()
		if _, ok := im.Topic("t"); ok || im.TopicConfig("t") != nil || len(im.Topics()) != 0 {
			t.Error("the deleted topic is still seen")
		}
		if _, ok := im.TopicByID(topic.ID); ok {
			t.Error("the deleted topic is still seen by id")
		}
		graves := im.Tombstones()
		if len(graves) != 1 {
			t.Fatalf("%d tombstones, want 1", len(graves))
		}
		if diff := cmp.Diff(topic.Partitions, graves[0].Topic.Partitions); diff != "" || graves[0].Configs["a"] != "b" || graves[0].Topic.Name != "t" {
			t.Errorf("tombstone %s %v (-topic +tombstone):\n%s", graves[0].Topic.Name, graves[0].Configs, diff)
		}
		if got, ok := im.RemotePointer(tip); !ok || got != pointer {
			t.Errorf("remote pointer %+v, want %+v", got, pointer)
		}
		if _, err := s.SwapRemotePointer(t.Context(), tip, pointer, 0, RemotePointer{Manifest: "m2"}); !errors.Is(err, ErrFenced) {
			t.Errorf("swap after delete: got %v, want ErrFenced", err)
		}
		if err := s.DeleteTopic(t.Context(), "t"); !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("second delete: got %v, want ErrUnknownTopic", err)
		}
		again := createTopic(t, s, "t", 1) // the name is free at once
		if again.ID == topic.ID {
			t.Error("the new topic has the old id")
		}
		for range 2 { // twice does no harm
			if err := s.FinishTombstone(t.Context(), topic.ID); err != nil {
				t.Fatal(err)
			}
		}
		keys, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/")})
		if err != nil || len(keys.KVs) != 3 { // cluster, topics/t, partitions/…/0
			t.Errorf("%d keys left, want 3: %v", len(keys.KVs), err)
		}
	})
}

func TestAlterPartitionsComparesEachPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		topic := createTopic(t, s, "t", 300)
		change := func(n int32) PartitionChange {
			tip := TopicIDPartition{topic.ID, n}
			from, _ := s.Image().PartitionByID(tip)
			to := from
			to.LeaderEpoch++
			to.ISR = []BrokerID{2}
			return PartitionChange{TopicIDPartition: tip, From: from, To: to}
		}
		stale := change(5)
		stale.To.Leader = 2
		if errs := s.AlterPartitions(t.Context(), []PartitionChange{change(5)}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		var changes []PartitionChange
		for n := range int32(300) {
			changes = append(changes, change(n))
		}
		changes[5] = stale
		changes[200].TopicIDPartition.Topic = NewTopicID()
		changes[201].From.ModRevision = 0
		for n, err := range s.AlterPartitions(t.Context(), changes) {
			var want error
			switch n {
			case 5:
				want = ErrConflict
			case 200, 201:
				want = ErrUnknownPartition
			}
			if !errors.Is(err, want) {
				t.Errorf("partition %d: got %v, want %v", n, err, want)
			}
			p, _ := s.Image().PartitionByID(TopicIDPartition{topic.ID, int32(n)})
			if want == nil && (p.LeaderEpoch != 1 || p.Epoch != 1 || !slices.Equal(p.ISR, []BrokerID{2})) {
				t.Errorf("partition %d is %+v", n, p)
			}
		}
	})
}

func TestLostAnswerOfAChangeIsNoConflict(t *testing.T) {
	mem := kv.NewMem()
	lose := false
	s := openStore(t, mem.Client(func(_ context.Context, c kv.Call) error {
		if lose && c.Kind == kv.CallTxn && c.After {
			lose = false
			return kv.ErrUnavailable
		}
		return nil
	}), false)
	topic := createTopic(t, s, "t", 1)
	tip := TopicIDPartition{topic.ID, 0}
	to := topic.Partitions[0]
	to.LeaderEpoch = 4
	change := []PartitionChange{{TopicIDPartition: tip, From: topic.Partitions[0], To: to}}
	lose = true
	if errs := s.AlterPartitions(t.Context(), change); !Retriable(errs[0]) {
		t.Fatalf("got %v, want a retriable error", errs[0])
	}
	if errs := s.AlterPartitions(t.Context(), change); errs[0] != nil {
		t.Errorf("alter again: %v", errs[0])
	}
	next := RemotePointer{Manifest: "m", Sequence: 1, LeaderEpoch: 4, EndOffset: 10}
	lose = true
	if _, err := s.SwapRemotePointer(t.Context(), tip, RemotePointer{}, 4, next); !Retriable(err) {
		t.Fatalf("got %v, want a retriable error", err)
	}
	got, err := s.SwapRemotePointer(t.Context(), tip, RemotePointer{}, 4, next)
	next.ModRevision = got.ModRevision
	if err != nil || got != next || got.ModRevision == 0 {
		t.Errorf("swap again: got %+v, %v", got, err)
	}
}

func TestOnlyTheLeaderOfTheCurrentEpochSwapsThePointer(t *testing.T) {
	mem := kv.NewMem()
	s, other := openStore(t, mem, false), openStore(t, mem, false)
	topic := createTopic(t, s, "t", 1)
	tip := TopicIDPartition{topic.ID, 0}
	ctx := t.Context()
	first, err := s.SwapRemotePointer(ctx, tip, RemotePointer{}, 0, RemotePointer{Manifest: "m1", Sequence: 1, EndOffset: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SwapRemotePointer(ctx, tip, RemotePointer{}, 0, RemotePointer{Manifest: "m1b", Sequence: 1}); !errors.Is(err, ErrConflict) {
		t.Errorf("swap of none though there is one: got %v, want ErrConflict", err)
	}
	// An ISR change changes the partition's key, not its leader epoch.
	isr := topic.Partitions[0]
	isr.ISR = []BrokerID{1}
	if errs := other.AlterPartitions(ctx, []PartitionChange{{TopicIDPartition: tip, From: topic.Partitions[0], To: isr}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	second, err := s.SwapRemotePointer(ctx, tip, first, 0, RemotePointer{Manifest: "m2", Sequence: 2, EndOffset: 20})
	if err != nil {
		t.Fatalf("after an ISR change: %v", err)
	}
	if _, err := other.load(ctx); err != nil {
		t.Fatal(err)
	}
	from, _ := other.Image().PartitionByID(tip)
	to := from
	to.LeaderEpoch, to.Leader = 1, 2
	if errs := other.AlterPartitions(ctx, []PartitionChange{{TopicIDPartition: tip, From: from, To: to}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	fresh := openStore(t, mem, false)
	for _, epoch := range []int32{0, 2} {
		for name, by := range map[string]*Store{"old image": s, "new image": fresh} {
			if _, err := by.SwapRemotePointer(ctx, tip, second, epoch, RemotePointer{Manifest: "m3"}); !errors.Is(err, ErrFenced) {
				t.Errorf("leader epoch %d, %s: got %v, want ErrFenced", epoch, name, err)
			}
		}
	}
	if _, err := other.SwapRemotePointer(ctx, tip, second, 1, RemotePointer{Manifest: "m3", Sequence: 3, LeaderEpoch: 1}); err != nil {
		t.Errorf("the new leader: %v", err)
	}
	got, ok, err := s.RemotePointer(ctx, tip)
	if err != nil || !ok || got.Manifest != "m3" {
		t.Errorf("got %+v, %v, %v, want m3", got, ok, err)
	}
	all, err := s.RemotePointers(ctx)
	if err != nil || len(all) != 1 || all[tip] != got {
		t.Errorf("all pointers: got %v, %v", all, err)
	}
	if err := s.DeleteRemotePointer(ctx, tip, second); !errors.Is(err, ErrConflict) {
		t.Errorf("delete of an old pointer: got %v, want ErrConflict", err)
	}
	for range 2 {
		if err := s.DeleteRemotePointer(ctx, tip, got); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := s.SwapRemotePointer(ctx, TopicIDPartition{NewTopicID(), 0}, RemotePointer{}, 0, RemotePointer{Manifest: "x"}); !errors.Is(err, ErrFenced) {
		t.Errorf("unknown partition: got %v, want ErrFenced", err)
	}
}

func TestDeleteByIDNeverHitsATopicCreatedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		old := createTopic(t, s, "t", 1)
		late := openStore(t, mem, false) // does not hear of what follows
		if err := s.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		again := createTopic(t, s, "t", 1)
		for _, store := range []*Store{late, s} {
			if err := store.DeleteTopicByID(t.Context(), old.ID); !errors.Is(err, ErrUnknownTopic) {
				t.Errorf("got %v, want ErrUnknownTopic", err)
			}
		}
		if got, ok := s.Image().Topic("t"); !ok || got.ID != again.ID {
			t.Fatalf("the topic created anew is gone: %+v", got)
		}
		if err := s.DeleteTopicByID(t.Context(), again.ID); err != nil {
			t.Error(err)
		}
		if _, ok := s.Image().Topic("t"); ok {
			t.Error("not deleted by its id")
		}
	})
}

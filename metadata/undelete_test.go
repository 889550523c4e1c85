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

// TestUndeletedTopicIsTheOneThatWasDeleted: name, id, configuration, partitions and pointers come back; who led
// before is fenced, and the leader starts from the tier.
func TestUndeletedTopicIsTheOneThatWasDeleted(t *testing.T) {
	for _, partitions := range []int{3, 300} { // one transaction, several
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t, kv.NewMem(), true)
			session := register(t, s, 2)
			before, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(partitions, 1, 2), Configs: map[string]string{"retention.ms": "7"}})
			if err != nil {
				t.Fatal(err)
			}
			tip := TopicIDPartition{Topic: before.ID, Partition: 2}
			pointer, err := s.SwapRemotePointer(t.Context(), tip, RemotePointer{}, 0, RemotePointer{Manifest: "m", EndOffset: 9})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteTopic(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			got, err := s.UndeleteTopic(t.Context(), before.ID)
			if err != nil {
				t.Fatal(err)
			}
			im := s.Image()
			if seen, ok := im.Topic("t"); !ok || seen != got || len(im.Tombstones()) != 0 {
				t.Fatalf("seen %v, %d tombstones", seen, len(im.Tombstones()))
			}
			if got.ID != before.ID || !got.Created.Equal(before.Created) || len(got.Partitions) != partitions {
				t.Errorf("got %+v, want %+v", got, before)
			}
			if diff := cmp.Diff(map[string]string{"retention.ms": "7"}, im.TopicConfig("t")); diff != "" {
				t.Error(diff)
			}
			for n, p := range got.Partitions {
				if p.Leader != 2 || p.LeaderBrokerEpoch != session.Epoch || p.LeaderEpoch != 1 || !p.Recovering || !slices.Equal(p.ISR, []BrokerID{2}) || !slices.Equal(p.Replicas, []BrokerID{1, 2}) {
					t.Fatalf("partition %d is %+v", n, p)
				}
			}
			if have, ok := im.RemotePointer(tip); !ok || have != pointer {
				t.Errorf("pointer %+v, want %+v", have, pointer)
			}
			if _, err := s.SwapRemotePointer(t.Context(), tip, pointer, 0, RemotePointer{Manifest: "late"}); !errors.Is(err, ErrFenced) {
				t.Errorf("the former leader moves the pointer: %v", err)
			}
			if _, err := s.UndeleteTopic(t.Context(), before.ID); !errors.Is(err, ErrUnknownTopic) {
				t.Errorf("undeleted twice: %v", err)
			}
		})
	}
}

func TestUndeleteRefusesWhatCannotComeBack(t *testing.T) {
	s := openStore(t, kv.NewMem(), false)
	old := createTopic(t, s, "t", 1)
	if _, err := s.UndeleteTopic(t.Context(), old.ID); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("a topic that was not deleted: %v", err)
	}
	if err := s.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	createTopic(t, s, "t", 1)
	if _, err := s.UndeleteTopic(t.Context(), old.ID); !errors.Is(err, ErrTopicExists) {
		t.Errorf("its name was taken: %v", err)
	}
	if err := s.BeginPurge(t.Context(), s.Image().Tombstones()[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UndeleteTopic(t.Context(), old.ID); !errors.Is(err, ErrPurging) {
		t.Errorf("its data is being removed: %v", err)
	}
}

// TestPurgeOrUndeleteWinsNeverBoth: whoever writes the tombstone first.
func TestPurgeOrUndeleteWinsNeverBoth(t *testing.T) {
	s := openStore(t, kv.NewMem(), false)
	topic := createTopic(t, s, "t", 1)
	if err := s.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	grave := s.Image().Tombstones()[0]
	if _, err := s.UndeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.BeginPurge(t.Context(), grave); !errors.Is(err, ErrConflict) {
		t.Errorf("purge of a topic that came back: %v", err)
	}
	if err := s.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := s.BeginPurge(t.Context(), grave); !errors.Is(err, ErrConflict) {
		t.Errorf("purge by the tombstone of an earlier deletion: %v", err)
	}
	grave = s.Image().Tombstones()[0]
	for range 2 { // the second as if the answer to the first was lost
		if err := s.BeginPurge(t.Context(), grave); err != nil {
			t.Fatal(err)
		}
	}
	if now := s.Image().Tombstones()[0]; !now.Purging || now.Deleted != grave.Deleted || now.Topic.Name != "t" || len(now.Topic.Partitions) != 1 {
		t.Errorf("tombstone is %+v", now)
	}
}

func TestFreshImageDoesNotWaitForTheWatch(t *testing.T) {
	mem := kv.NewMem()
	late, writer := openStore(t, mem, false), openStore(t, mem, false)
	topic := createTopic(t, writer, "t", 2)
	im, err := late.Fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := im.TopicByID(topic.ID); !ok || len(got.Partitions) != 2 {
		t.Errorf("got %+v", got)
	}
	if _, ok := late.Image().TopicByID(topic.ID); ok {
		t.Error("the image of the store changed")
	}
	if _, err := writer.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(writer.keys.topic("x"), []byte("{"), 0)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Fresh(context.WithoutCancel(t.Context())); err == nil {
		t.Error("an unreadable topic was passed over")
	}
}

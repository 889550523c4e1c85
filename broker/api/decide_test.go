package api

import (
	"errors"
	"testing"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// decider is an API with metadata alone, and a topic of four partitions.
func decider(t *testing.T) *API {
	t.Helper()
	md, err := metadata.Open(t.Context(), metadata.Options{KV: kv.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- md.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	replicas := []metadata.BrokerID{1, 2}
	spec := metadata.TopicSpec{Name: "t", Assignments: [][]metadata.BrokerID{replicas, replicas, replicas, replicas}}
	if _, err := md.CreateTopic(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	return &API{o: Options{Metadata: md}}
}

// lead asks for broker 2 to lead a partition; before is called with each attempt.
func lead(n int32, before func(p metadata.Partition)) decision {
	return decision{
		tp: metadata.TopicPartition{Topic: "t", Partition: n},
		plan: func(_ *metadata.Image, t *metadata.Topic) (metadata.PartitionChange, error) {
			from := t.Partitions[n]
			if before != nil {
				before(from)
			}
			to := from
			to.Leader, to.LeaderEpoch = 2, from.LeaderEpoch+1
			return metadata.PartitionChange{TopicIDPartition: metadata.TopicIDPartition{Topic: t.ID, Partition: n}, From: from, To: to}, nil
		},
	}
}

// TestDecisionsAreMadeAgainWhenSomebodyWasFaster lets a leader shrink the in-sync
// replicas of one partition between each plan and its write.
func TestDecisionsAreMadeAgainWhenSomebodyWasFaster(t *testing.T) {
	for _, q := range []struct {
		rivals int
		want   error
	}{{0, nil}, {1, nil}, {decideAttempts - 1, nil}, {decideAttempts, metadata.ErrConflict}} {
		a := decider(t)
		rivals := 0
		asked := []decision{lead(0, nil), lead(1, func(p metadata.Partition) {
			if rivals++; rivals > q.rivals {
				return
			}
			topic, _ := a.o.Metadata.Image().Topic("t")
			to := p
			to.ISR = []metadata.BrokerID{2, 1}
			if rivals%2 == 0 {
				to.ISR = []metadata.BrokerID{1, 2}
			}
			change := metadata.PartitionChange{TopicIDPartition: metadata.TopicIDPartition{Topic: topic.ID, Partition: 1}, From: p, To: to}
			if err := errors.Join(a.o.Metadata.AlterPartitions(t.Context(), []metadata.PartitionChange{change})...); err != nil {
				t.Fatal(err)
			}
		})}
		a.decide(t.Context(), asked)
		if asked[0].err != nil || !errors.Is(asked[1].err, q.want) {
			t.Errorf("%d rivals: %v and %v, want nil and %v", q.rivals, asked[0].err, asked[1].err, q.want)
		}
		topic, _ := a.o.Metadata.Image().Topic("t")
		if got := topic.Partitions[0]; got.Leader != 2 || got.LeaderEpoch != 1 {
			t.Errorf("%d rivals: partition 0 was decided more than once: %+v", q.rivals, got)
		}
		if got := topic.Partitions[1]; q.want == nil && got.Leader != 2 {
			t.Errorf("%d rivals: broker %d leads partition 1, want 2", q.rivals, got.Leader)
		}
	}
}

// TestDecisionsThatChangeNothingAreNotWritten keeps what is repeated from making
// every broker look at a new image.
func TestDecisionsThatChangeNothingAreNotWritten(t *testing.T) {
	a := decider(t)
	before := a.o.Metadata.Image().Revision()
	same := decision{tp: metadata.TopicPartition{Topic: "t"}, plan: func(_ *metadata.Image, t *metadata.Topic) (metadata.PartitionChange, error) {
		return metadata.PartitionChange{TopicIDPartition: metadata.TopicIDPartition{Topic: t.ID}, From: t.Partitions[0], To: t.Partitions[0]}, nil
	}}
	asked := []decision{same, lead(3, nil), lead(3, nil)}
	a.decide(t.Context(), asked)
	if asked[0].err != nil || !errors.Is(asked[1].err, errDuplicatePartition) || !errors.Is(asked[2].err, errDuplicatePartition) {
		t.Errorf("%v, %v, %v; want nil and twice a complaint", asked[0].err, asked[1].err, asked[2].err)
	}
	if now := a.o.Metadata.Image().Revision(); now != before {
		t.Errorf("revision %d became %d", before, now)
	}
}

package replica_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TestJoinWhoseAnswerWasLostCountsUntilTheImageSaysMore is invariant 1: a leader
// asked for a follower to be in sync, it was made, the answer was lost, and the
// follower was elected. What the follower does not have must not be acked, though
// the leader's Image still shows itself as the only one in sync.
func TestJoinWhoseAnswerWasLostCountsUntilTheImageSaysMore(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.topic("t", 1, 2)
		other, err := metadata.Open(t.Context(), metadata.Options{KV: b.kv.Client(nil)})
		b.must(err)
		two, err := other.RegisterBroker(t.Context(), metadata.Registration{ID: 2, DirectoryID: "two", Incarnation: "two"})
		b.must(err)
		t.Cleanup(two.Abandon)
		b.elect("t")
		b.decide("t", func(p *metadata.Partition) { p.ISR = []metadata.BrokerID{1} })
		b.fill("t", 3)
		p := b.partition("t")

		// From here on the leader hears of no change, and not of the first answer.
		var lost atomic.Bool
		hook := kv.Hook(func(ctx context.Context, c kv.Call) error {
			switch {
			case c.Kind == kv.CallWatch || c.Kind == kv.CallEvents:
				<-ctx.Done()
				return ctx.Err()
			case c.Kind == kv.CallTxn && c.After && lost.CompareAndSwap(false, true):
				return kv.ErrUnavailable
			}
			return nil
		})
		b.kvHook.Store(&hook)
		fetch := func(offset int64) {
			b.fetch(p, offset, func(r *replica.FetchRequest) {
				r.Replica, r.ReplicaEpoch = 2, two.Epoch
				r.Partitions[0].CurrentEpoch = p.LeaderEpoch()
			})
		}
		fetch(3) // has all: joins
		for !lost.Load() {
			time.Sleep(time.Millisecond)
		}
		tip := p.ID()
		now, ok, err := other.Partition(t.Context(), tip)
		if err != nil || !ok || len(now.ISR) != 2 {
			t.Fatalf("the change was not made: %+v, %v", now, err)
		}
		elected := now
		elected.Leader, elected.LeaderEpoch, elected.LeaderBrokerEpoch = 2, now.LeaderEpoch+1, two.Epoch
		b.must(other.AlterPartitions(t.Context(), []metadata.PartitionChange{{TopicIDPartition: tip, From: now, To: elected}})[0])
		time.Sleep(40 * time.Second) // the leader asks again, is told of a conflict, and waits for the follower no longer
		synctest.Wait()

		a, err := b.append("t", replica.AcksAll, "only here")
		if err != nil {
			return // it knows
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := a.Wait(ctx); err == nil {
			t.Error("acked what the elected follower does not have")
		}
	})
}

package replica_test

import (
	"context"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

func vfsWrite(fs vfs.FS, name, text string) error { return vfs.WriteFileAtomic(fs, name, []byte(text)) }

func asFollower(id metadata.BrokerID) func(*replica.FetchRequest) {
	return func(r *replica.FetchRequest) { r.Replica = id }
}

// TestFollowersSeeWhatIsAppended wakes a follower by the append, not by the
// sync, and shows it what no consumer may see before all in-sync replicas have
// it on stable storage, the leader too.
func TestFollowersSeeWhatIsAppended(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t", 1, 2)
		b.syncDelay.Store(int64(time.Second))
		got := make(chan int64, 2)
		poll := func(id metadata.BrokerID, offset int64) {
			r := b.m.Fetch(t.Context(), &replica.FetchRequest{Replica: id, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Minute,
				Partitions: []replica.FetchPartition{{ID: p.ID(), Offset: offset, MaxBytes: 1 << 20, CurrentEpoch: 0, FetchedEpoch: -1}}})[0]
			if r.Data != nil {
				r.Data.Release()
			}
			got <- r.HighWatermark
		}
		poll(2, 0)
		same(t, "high watermark at first", <-got, 0)
		go poll(2, 0)
		time.Sleep(time.Second)
		began := time.Now()
		_, err := b.append("t", replica.AcksAll, "a")
		b.must(err)
		same(t, "high watermark the follower hears", <-got, 0)
		same(t, "follower woke after", time.Since(began), 0)
		consumer := make(chan int64, 1)
		go func() {
			r := b.fetch(p, 0, func(r *replica.FetchRequest) { r.MaxWait = time.Minute })
			consumer <- r.HighWatermark
		}()
		go poll(2, 1) // it is synced there, not yet here
		same(t, "high watermark the follower hears of itself", <-got, 1)
		same(t, "high watermark the consumer hears", <-consumer, 1)
		same(t, "both woke after", time.Since(began), time.Second)
		b.syncDelay.Store(0)
	})
}

// TestOnlyFollowersReadAsFollowers refuses everybody else who says so.
func TestOnlyFollowersReadAsFollowers(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t", 1, 2)
		b.fill("t", 1)
		for id, want := range map[metadata.BrokerID]error{2: nil, 1: replica.ErrNotLeader, 3: replica.ErrNotLeader, -1: nil, -2: nil} {
			b.wants("fetch", b.fetch(p, 0, asFollower(id)).Err, want)
		}
	})
}

// TestDivergedFollowersLearnWhereToCut is KIP-595.
func TestDivergedFollowersLearnWhereToCut(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t", 1, 2)
		b.fill("t", 3) // epoch 0: 0 to 2
		b.elect("t")
		b.fill("t", 2) // epoch 1: 3 and 4
		b.elect("t")   // epoch 2
		b.fill("t", 1)
		for _, q := range []struct {
			fetched    int32
			offset     int64
			epoch      int32 // diverging, -1 for none
			end        int64
			outOfRange bool
		}{
			{0, 3, -1, -1, false},
			{0, 4, 0, 3, false}, // the follower has more of epoch 0
			{1, 5, -1, -1, false},
			{2, 6, -1, -1, false},
			{3, 6, -1, -1, true}, // an epoch the leader never saw
			{2, 9, 2, 6, false},  // behind the leader's end, in its own epoch
			{0, 9, 0, 3, false},
			{3, 9, -1, -1, true},
			{-1, 9, -1, -1, true},
		} {
			r := b.fetch(p, q.offset, func(r *replica.FetchRequest) {
				r.Replica, r.Partitions[0].FetchedEpoch = 2, q.fetched
			})
			if q.outOfRange {
				b.wants("fetch", r.Err, segment.ErrOffsetOutOfRange)
				continue
			}
			b.wants("fetch", r.Err, nil)
			same(t, "diverging epoch", r.DivergingEpoch, q.epoch)
			if q.epoch >= 0 {
				same(t, "diverging end", r.DivergingEnd, q.end)
			}
		}
	})
}

// TestAFetchNeverWaitsForWhatItsLimitsCutOff asks for a minimum that is there but
// that no answer can hold, since batches are whole: it is answered at once. What is
// not there is waited for.
func TestAFetchNeverWaitsForWhatItsLimitsCutOff(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.config.Log.RemoteEnabled = false
		b.topic("much")
		b.fill("much", 30) // of 171 bytes each
		b.topic("more")
		b.fill("more", 30)
		b.topic("little")
		b.fill("little", 1)
		b.topic("none")
		for _, q := range []struct {
			what               string
			topics             []string
			least, most, share int // of the answer, and of a partition
			waits              bool
		}{
			{"as much as a partition may give", []string{"much"}, 1000, 1 << 20, 1000, false},
			{"more than a partition may give", []string{"much"}, 5000, 1 << 20, 1000, false},
			{"more than both may give", []string{"much", "more"}, 5000, 1 << 20, 1000, false},
			{"as much as one of two may give", []string{"none", "much"}, 1000, 1 << 20, 1000, false},
			{"as much as the answer may hold", []string{"much"}, 1000, 1000, 1 << 20, false},
			{"the second does not fit", []string{"little", "much"}, 300, 300, 1000, false},
			{"a batch larger than all limits", []string{"much"}, 100, 100, 100, false},
			{"less than there is", []string{"much"}, 5000, 1 << 20, 1 << 20, false},
			{"more than there is", []string{"much"}, 6000, 1 << 20, 1 << 20, true},
			{"more than there is in both", []string{"much", "none"}, 2000, 1 << 20, 1000, true},
			{"nothing there", []string{"none"}, 1, 1 << 20, 1000, true},
			{"nothing there, and nothing may be given", []string{"none"}, 1, 1 << 20, 0, true},
		} {
			for _, committed := range []bool{false, true} {
				req := &replica.FetchRequest{Replica: -1, MinBytes: q.least, MaxBytes: q.most, MaxWait: time.Minute, ReadCommitted: committed}
				for _, name := range q.topics {
					req.Partitions = append(req.Partitions, replica.FetchPartition{ID: b.partition(name).ID(), MaxBytes: q.share, CurrentEpoch: -1, FetchedEpoch: -1})
				}
				began := time.Now()
				for _, r := range b.m.Fetch(t.Context(), req) {
					b.wants(q.what, r.Err, nil)
					if r.Data != nil {
						r.Data.Release()
					}
				}
				same(t, q.what+": it waits", time.Since(began) > 0, q.waits)
			}
		}
	})
}

// evict waits until the local log begins at or behind an offset.
func (b *bench) evict(p *replica.Partition, offset int64) {
	b.t.Helper()
	for range 100 {
		if p.Log().LocalLogStart() >= offset {
			return
		}
		time.Sleep(time.Second)
	}
	b.t.Fatalf("still local below %d", offset)
}

// TestFollowersAreSentToTheTier gives them no cold bytes: they take the state
// from there (KIP-405).
func TestFollowersAreSentToTheTier(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t", 1, 2)
		b.fill("t", 60)
		b.evict(p, 30)
		b.wants("cold offset", b.fetch(p, 0, asFollower(2)).Err, replica.ErrMovedToTier)
		b.wants("hot offset", b.fetch(p, 59, asFollower(2)).Err, nil)
		b.wants("a consumer", b.fetch(p, 0, func(r *replica.FetchRequest) { r.MaxWait = time.Second }).Err, nil)
	})
}

// TestEpochsOfTheTierAreKnown forgets the local lineage, as a replica does that
// came to its log by the tier, and asks for epochs only the tier remembers.
func TestEpochsOfTheTierAreKnown(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t")
		b.fill("t", 30) // epoch 0: 0 to 29
		b.elect("t")
		b.fill("t", 30) // epoch 1: 30 to 59
		b.elect("t")
		b.fill("t", 30) // epoch 2: 60 to 89
		b.evict(p, 70)
		b.stop()
		b.must(b.disk.Remove("/data/t-0/leader-epoch-checkpoint"))
		b.must(b.disk.Remove("/data/.kafka_cleanshutdown"))
		time.Sleep(time.Second)
		b.start()
		b.elect("t") // epoch 3
		p = b.partition("t")
		same(t, "log start", p.Log().LogStart(), 0)
		if e := p.Log().LeaderEpochs(); len(e) == 0 || e[0].Epoch < 2 {
			t.Fatalf("the local lineage is %v: the test forgot nothing", e)
		}
		for epoch, want := range map[int32][2]int64{0: {0, 30}, 1: {1, 60}, 2: {2, 90}, 3: {3, 90}, 9: {-1, -1}} {
			found, end, err := b.m.EndOffsetForEpoch(t.Context(), tp("t"), -1, epoch)
			b.must(err)
			same(t, "epoch and end", [2]int64{int64(found), end}, want)
		}
		first, err := b.m.ListOffset(t.Context(), replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: replica.Earliest, Epoch: -1})
		b.must(err)
		same(t, "earliest", first, segment.TimestampOffset{Timestamp: -1, Offset: 0, LeaderEpoch: 0})
	})
}

// TestAFetchAnswersWithWhatIsThereAtItsEnd deletes records under a long poll
// that has seen them: it kept nothing and says what holds when its time is up.
func TestAFetchAnswersWithWhatIsThereAtItsEnd(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.config.Log.RemoteEnabled = false
		p := b.topic("t")
		b.fill("t", 25)
		done := make(chan replica.FetchResult, 1)
		began := time.Now()
		go func() {
			done <- b.m.Fetch(t.Context(), &replica.FetchRequest{Replica: -1, MinBytes: 1 << 19, MaxBytes: 1 << 20, MaxWait: time.Minute,
				Partitions: []replica.FetchPartition{{ID: p.ID(), MaxBytes: 1 << 20, CurrentEpoch: -1, FetchedEpoch: -1}}})[0]
		}()
		time.Sleep(time.Second)
		start, err := b.m.DeleteRecords(tp("t"), 25)
		b.must(err)
		same(t, "log start", start, 25)
		r := <-done
		b.wants("fetch", r.Err, segment.ErrOffsetOutOfRange)
		same(t, "after", time.Since(began), time.Minute)
	})
}

// TestAFetchEndsWithItsContext leaves no reader behind when a client goes away.
func TestAFetchEndsWithItsContext(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		b.m.Fetch(ctx, &replica.FetchRequest{Replica: -1, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Hour,
			Partitions: []replica.FetchPartition{{ID: p.ID(), MaxBytes: 1 << 20, CurrentEpoch: -1, FetchedEpoch: -1}}})
		same(t, "it took", time.Since(began), time.Second)
	})
}

package replica_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
)

// TestNothingIsLedUnderAFormerRegistration starts again after a crash, whose
// registration still lives: what that run led is not led before the controller
// has bumped the leader epoch for this one.
func TestNothingIsLedUnderAFormerRegistration(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t")
		b.fill("t", 3)
		same(t, "led", p.Leading(), true)
		former := b.session
		b.session = nil // stop does not take it back: a crash
		b.stop()
		b.open()
		p = b.partition("t")
		same(t, "led before the registration", p.Leading(), false)
		_, err := b.append("t", replica.AcksAll, "x")
		b.wants("append before the registration", err, replica.ErrNotLeader)
		time.Sleep(time.Second)
		b.register()
		same(t, "led before the election", p.Leading(), false)
		b.elect("t")
		same(t, "led", p.Leading(), true)
		same(t, "leader epoch", p.LeaderEpoch(), 1)
		a, err := b.append("t", replica.AcksAll, "x")
		b.must(err)
		same(t, "offset", a.FirstOffset, 3)
		epoch, end := p.Log().EndOffsetForEpoch(0)
		same(t, "end of the former epoch", [2]int64{int64(epoch), end}, [2]int64{0, 3})
		former.Abandon()
	})
}

// TestAcksFollowTheLeaderEpoch gives no ack to an append whose leadership ended
// before it was durable, not even when the records are.
func TestAcksFollowTheLeaderEpoch(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.topic("t", 1, 2)
		b.syncDelay.Store(int64(time.Second))
		all, err := b.append("t", replica.AcksAll, "a")
		b.must(err)
		one, err := b.append("t", replica.Acks1, "b")
		b.must(err)
		none, err := b.append("t", replica.AcksNone, "c")
		b.must(err)
		same(t, "acks=0 is done", none.Done(), true)
		b.decide("t", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.LeaderBrokerEpoch = 2, 1, 0 })
		began := time.Now()
		b.wants("acks=all", all.Wait(t.Context()), replica.ErrNotLeader)
		b.wants("acks=1", one.Wait(t.Context()), replica.ErrNotLeader)
		same(t, "told at once", time.Since(began), 0)
		b.syncDelay.Store(0)
		time.Sleep(5 * time.Second)
		b.wants("acks=all, synced since", all.Wait(t.Context()), replica.ErrNotLeader)
		_, err = b.append("t", replica.AcksAll, "x")
		b.wants("append elsewhere", err, replica.ErrNotLeader)
		b.elect("t")
		b.wants("led again, in another epoch", all.Wait(t.Context()), replica.ErrNotLeader)
	})
}

// TestMinInSyncReplicas refuses acks=all below min.insync.replicas, of which a
// topic can only keep as many as it has replicas.
func TestMinInSyncReplicas(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.config.MinInSyncReplicas = 2
		b.topic("one")
		b.topic("two", 1, 2)
		_, err := b.append("one", replica.AcksAll, "a")
		b.wants("one replica", err, nil)
		b.syncDelay.Store(int64(time.Second))
		a, err := b.append("two", replica.AcksAll, "a")
		b.wants("two in sync", err, nil)
		b.decide("two", func(p *metadata.Partition) { p.ISR = []metadata.BrokerID{1} })
		b.wants("committed by fewer", a.Wait(t.Context()), replica.ErrNotEnoughReplicasAfterAppend)
		_, err = b.append("two", replica.AcksAll, "b")
		b.wants("one in sync", err, replica.ErrNotEnoughReplicas)
		_, err = b.append("two", replica.Acks1, "b")
		b.wants("acks=1", err, nil)
		b.syncDelay.Store(0)
	})
}

// TestEpochsFenceClients is KIP-320: a client of another leader epoch is told.
func TestEpochsFenceClients(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t")
		b.fill("t", 2)
		b.elect("t")
		for epoch, want := range map[int32]error{-1: nil, 0: replica.ErrFencedEpoch, 1: nil, 2: replica.ErrUnknownEpoch} {
			r := b.fetch(p, 0, func(r *replica.FetchRequest) { r.Partitions[0].CurrentEpoch = epoch })
			b.wants("fetch", r.Err, want)
			_, err := b.m.ListOffset(t.Context(), replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: replica.Latest, Epoch: epoch})
			b.wants("list offset", err, want)
			_, _, err = b.m.EndOffsetForEpoch(t.Context(), tp("t"), epoch, 0)
			b.wants("offset for leader epoch", err, want)
		}
	})
}

// TestANewLeaderDoesNotGuessTheEnd answers no latest offset while the high
// watermark is below what the leader inherited (KIP-207).
func TestANewLeaderDoesNotGuessTheEnd(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.topic("t")
		b.syncDelay.Store(int64(time.Second))
		_, err := b.append("t", replica.Acks1, "a")
		b.must(err)
		b.elect("t")
		latest := func() (segment.TimestampOffset, error) {
			return b.m.ListOffset(t.Context(), replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: replica.Latest, Epoch: -1})
		}
		_, err = latest()
		b.wants("latest", err, replica.ErrOffsetNotAvailable)
		_, err = b.m.ListOffset(t.Context(), replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: 0, Epoch: -1})
		b.wants("by time", err, replica.ErrOffsetNotAvailable)
		first, err := b.m.ListOffset(t.Context(), replica.OffsetQuery{TopicPartition: tp("t"), Timestamp: replica.Earliest, Epoch: -1})
		b.wants("earliest", err, nil)
		same(t, "earliest", first.Offset, 0)
		b.syncDelay.Store(0)
		time.Sleep(2 * time.Second)
		at, err := latest()
		b.wants("latest, committed", err, nil)
		same(t, "latest", at, segment.TimestampOffset{Timestamp: -1, Offset: 1, LeaderEpoch: 1})
	})
}

// TestWherePartitionsAreIsTold tells apart what is not there, what is
// elsewhere, and what should be here.
func TestWherePartitionsAreIsTold(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.topic("here")
		b.topic("elsewhere", 2)
		for name, want := range map[string]error{"here": nil, "elsewhere": replica.ErrNotLeader, "nowhere": replica.ErrUnknownPartition} {
			_, err := b.m.Partition(tp(name))
			b.wants(name, err, want)
		}
		_, err := b.m.Partition(metadata.TopicPartition{Topic: "here", Partition: 1})
		b.wants("a partition too many", err, replica.ErrUnknownPartition)
		_, err = b.m.PartitionByID(metadata.TopicIDPartition{Topic: metadata.NewTopicID()})
		b.wants("unknown id", err, replica.ErrUnknownTopicID)
	})
}

// files says whether a partition's directory is on disk under its name.
func (b *bench) files(name string) bool {
	_, err := b.disk.Stat("/data/" + name + "-0")
	return err == nil
}

// TestDeletedTopicsLoseTheirFiles removes what a deleted topic had, also when
// the broker was down meanwhile, and tells who must know.
func TestDeletedTopicsLoseTheirFiles(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("now")
		b.topic("later")
		b.fill("now", 2)
		b.must(b.md.DeleteTopic(t.Context(), "now"))
		synctest.Wait()
		same(t, "files", b.files("now"), false)
		same(t, "led", b.leading["now-0"], 0)
		_, err := p.Log().Read(0, segment.ReadOptions{UpTo: 1, MaxBytes: 10, MinOne: true})
		b.wants("read", err, segment.ErrClosed)
		_, err = b.append("now", replica.AcksAll, "x")
		b.wants("append", err, replica.ErrUnknownPartition)
		// The name can be used again at once.
		p = b.topic("now")
		same(t, "log end", p.Log().LogEnd(), 0)

		b.stop()
		md, err := metadata.Open(t.Context(), metadata.Options{KV: b.kv.Client(nil)})
		b.must(err)
		b.must(md.DeleteTopic(t.Context(), "later"))
		same(t, "files while down", b.files("later"), true)
		b.start()
		same(t, "files after the start", b.files("later"), false)
		same(t, "others", b.files("now"), true)
	})
}

// TestLostMetadataLosesNoData takes a topic out of the metadata behind
// everybody's back: it is not served, its files stay, and when it is back so is
// every record.
func TestLostMetadataLosesNoData(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.topic("t")
		b.fill("t", 3)
		const key = "/coldbrook/coldbrook/topics/t"
		resp, err := b.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Get(key, "")}})
		b.must(err)
		saved := resp.Gets[0][0]
		_, err = b.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete(key, "")}})
		b.must(err)
		synctest.Wait()
		_, err = b.append("t", replica.AcksAll, "x")
		b.wants("append", err, replica.ErrUnknownPartition)
		same(t, "files", b.files("t"), true)
		_, err = b.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(key, saved.Value, 0)}})
		b.must(err)
		synctest.Wait()
		b.fill("t", 1)
		same(t, "log end", b.partition("t").Log().LogEnd(), 4)
		same(t, "led", b.leading["t-0"], 1)
	})
}

// TestAPartitionThatDoesNotOpenIsTriedAgain answers for it that it is offline,
// and opens it once what was in the way is gone.
func TestAPartitionThatDoesNotOpenIsTriedAgain(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.must(b.disk.MkdirAll("/data/t-0"))
		b.must(vfsWrite(b.disk, "/data/t-0/partition.metadata", "version: 7\n"))
		if p := b.topic("t"); p != nil {
			t.Fatal("it opened with files that nobody can read")
		}
		_, err := b.append("t", replica.AcksAll, "x")
		b.wants("append", err, replica.ErrPartitionOffline)
		same(t, "the files stay", b.files("t"), true)
		b.must(b.disk.RemoveAll("/data/t-0"))
		time.Sleep(11 * time.Second)
		_, err = b.append("t", replica.AcksAll, "x")
		b.wants("append", err, nil)
	})
}

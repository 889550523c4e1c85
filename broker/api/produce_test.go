package api_test

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestWrongProduceRequestsGetKafkasErrors lists what a producer can do wrong.
func TestWrongProduceRequestsGetKafkasErrors(t *testing.T) {
	s := newCluster(t).start(nil).dial()
	s.topic("t", 1, "max.message.bytes=1000")
	s.topic("compacted", 1, "cleanup.policy=compact")
	s.topic("timely", 1, "message.timestamp.before.max.ms=1000")
	s.coordinate()
	flipped := batch("a", "b")
	flipped[len(flipped)-1] ^= 1
	old := batch("a")
	old[16] = 1 // magic
	never := batch("a")
	never[16] = 3
	archived := record.NewBuilder(record.BuilderOptions{})
	archived.Append(-86_400_000, nil, []byte("then"))
	late := record.NewBuilder(record.BuilderOptions{})
	late.Append(time.Now().UnixMilli(), nil, []byte("now"))
	late.Append(time.Now().Add(-time.Hour).UnixMilli(), nil, []byte("then"))
	shifted := batch("a")
	shifted.SetBaseOffset(7)
	for _, q := range []struct {
		what    string
		topic   string
		version int16
		acks    int16
		records []byte
		want    *kerr.Error
		index   int32 // of the record at fault, -1 for none
	}{
		{"good", "t", 9, -1, batch("a"), nil, -1},
		{"acks 2", "t", 9, 2, batch("a"), kerr.InvalidRequiredAcks, -1},
		{"acks -2", "t", 9, -2, batch("a"), kerr.InvalidRequiredAcks, -1},
		{"no batch", "t", 9, -1, nil, kerr.InvalidRecord, -1},
		{"empty batch", "t", 9, -1, []byte{}, kerr.InvalidRecord, -1},
		{"two batches", "t", 9, -1, append(batch("a"), batch("b")...), kerr.InvalidRecord, -1},
		{"bytes behind the batch", "t", 9, -1, append(batch("a"), 1, 2, 3), kerr.InvalidRecord, -1},
		{"half a batch", "t", 9, -1, batch("abc")[:65], kerr.InvalidRecord, -1},
		{"half a header", "t", 9, -1, batch("abc")[:10], kerr.InvalidRecord, -1},
		{"flipped bit", "t", 9, -1, flipped, kerr.CorruptMessage, -1},
		{"format before v2", "t", 9, -1, old, kerr.InvalidRecord, -1},
		{"no format", "t", 9, -1, never, kerr.CorruptMessage, -1},
		{"record from before 1970", "t", 9, -1, archived.Build(), nil, -1},
		{"offsets not from 0", "t", 9, -1, shifted, kerr.InvalidRecord, -1},
		{"too large", "t", 9, -1, batch(string(make([]byte, 2000))), kerr.MessageTooLarge, -1},
		{"zstd before v7", "t", 6, -1, batchOf(record.BuilderOptions{Compression: record.Zstd}, "a"), kerr.UnsupportedCompressionType, -1},
		{"zstd", "t", 7, -1, batchOf(record.BuilderOptions{Compression: record.Zstd}, "a"), nil, -1},
		{"control batch", "t", 9, -1, batchOf(record.BuilderOptions{Control: true, Producer: &record.Producer{ID: 1}}, "a"), kerr.InvalidRecord, -1},
		{"no key in a compacted topic", "compacted", 9, -1, batch("a"), kerr.InvalidRecord, 0},
		{"record from long ago", "timely", 9, -1, late.Build(), kerr.InvalidTimestamp, 1},
		{"internal topic", "__consumer_offsets", 9, -1, batch("a"), kerr.InvalidTopicException, -1},
		{"unknown topic", "nowhere", 9, 1, batch("a"), kerr.UnknownTopicOrPartition, -1},
	} {
		t.Run(q.what, func(t *testing.T) {
			req := at(produceRequest(q.topic, 0, q.records), q.version)
			req.Acks = q.acks
			p := produced(do[*kmsg.ProduceResponse](s, req))
			code(t, "produce", p.ErrorCode, q.want)
			same(t, "has an offset", p.BaseOffset >= 0, q.want == nil)
			if q.version < 8 {
				return
			}
			same(t, "records at fault", len(p.ErrorRecords), int(min(q.index+1, 1)))
			if q.index >= 0 {
				same(t, "record at fault", p.ErrorRecords[0].RelativeOffset, q.index)
			}
			same(t, "says why", p.ErrorMessage != nil, q.want != nil && q.topic != "nowhere")
		})
	}
}

// TestTransactionsThatNobodyCanEndAreNotBegun sends records of transactions that no
// coordinator knows of: each is refused, and readers of committed records go on.
func TestTransactionsThatNobodyCanEndAreNotBegun(t *testing.T) {
	c := newCluster(t).start(nil)
	s := c.dial()
	s.topic("t", 2)
	txn := func(producer int64) []byte {
		return batchOf(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: producer}}, "x")
	}
	for _, q := range []struct {
		what    string
		id      *string // transactional
		acks    int16
		records [2][]byte // by partition
		want    *kerr.Error
	}{
		{"no transactional id", nil, -1, [2][]byte{batch("a"), txn(1)}, kerr.TransactionalIDAuthorizationFailed},
		{"acks=1, no transactional id", nil, 1, [2][]byte{txn(1), txn(1)}, kerr.TransactionalIDAuthorizationFailed},
		{"unknown transaction", kmsg.StringPtr("mine"), -1, [2][]byte{txn(1), txn(1)}, kerr.InvalidTxnState},
		{"acks=1, unknown transaction", kmsg.StringPtr("mine"), 1, [2][]byte{txn(1), txn(1)}, kerr.InvalidTxnState},
		{"two producers", kmsg.StringPtr("mine"), -1, [2][]byte{txn(1), txn(2)}, kerr.InvalidProducerIDMapping},
		{"an id and nothing transactional", kmsg.StringPtr("mine"), -1, [2][]byte{batch("a"), batch("a")}, nil},
	} {
		req := at(produceRequest("t", 0, q.records[0]), 7)
		req.Acks, req.TransactionID = q.acks, q.id
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = 1, q.records[1]
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
		for i, p := range do[*kmsg.ProduceResponse](s, req).Topics[0].Partitions {
			code(t, text("%s, partition %d", q.what, i), p.ErrorCode, q.want)
		}
	}
	req := produceRequest("t", 0, txn(1))
	req.Acks = 0
	k := c.dial()
	k.send(req)
	same(t, "acks=0 is told by closing", k.closed(), true)
	for n := range int32(2) {
		req := fetchRequest("t", n, 0)
		req.IsolationLevel = 1
		p := do[*kmsg.FetchResponse](s, req).Topics[0].Partitions[0]
		same(t, "last stable offset", p.LastStableOffset, 1)
		same(t, "records", text("%v", values(t, p.RecordBatches, 0)), "[a]")
	}
}

// TestIdempotentProducersAreHeldToTheirSequence is KIP-98 and KIP-360 on the wire.
func TestIdempotentProducersAreHeldToTheirSequence(t *testing.T) {
	s := newCluster(t).start(nil).dial()
	s.topic("t", 1)
	id := do[*kmsg.InitProducerIDResponse](s, at(kmsg.NewPtrInitProducerIDRequest(), 4)).ProducerID
	send := func(epoch int16, sequence int32) (int64, int16) {
		p := produced(do[*kmsg.ProduceResponse](s, produceRequest("t", 0, producerBatch(id, epoch, sequence, "a", "b"))))
		return p.BaseOffset, p.ErrorCode
	}
	for _, q := range []struct {
		what     string
		epoch    int16
		sequence int32
		offset   int64
		want     *kerr.Error
	}{
		{"first", 0, 0, 0, nil},
		{"second", 0, 2, 2, nil},
		{"second again", 0, 2, 2, nil},
		{"first again", 0, 0, 0, nil},
		{"gap", 0, 6, -1, kerr.OutOfOrderSequenceNumber},
		{"next epoch in the middle", 1, 5, -1, kerr.OutOfOrderSequenceNumber},
		{"next epoch", 1, 0, 4, nil},
		{"former epoch", 0, 4, -1, kerr.InvalidProducerEpoch},
	} {
		offset, got := send(q.epoch, q.sequence)
		code(t, q.what, got, q.want)
		same(t, q.what, offset, q.offset)
	}
}

// TestAcksNoneAnswersNothingAndClosesOnErrors is how a producer with acks=0
// learns that something is wrong.
func TestAcksNoneAnswersNothingAndClosesOnErrors(t *testing.T) {
	c := newCluster(t).start(nil)
	s := c.dial()
	s.topic("t", 1)
	req := produceRequest("t", 0, batch("a"))
	req.Acks = 0
	s.send(req)
	// The next answer on the connection is that of the next request.
	same(t, "end", s.listOffset("t", 0, -4).Offset, 0)
	for s.listOffset("t", 0, -1).Offset != 1 {
	}
	req.Topics[0].Partitions[0].Partition = 9
	s.send(req)
	same(t, "closed", s.closed(), true)
}

// slowSync is a disk whose syncs of segments take their time while it is on.
type slowSync struct {
	delay  atomic.Int64 // time.Duration
	broken atomic.Bool
}

var errDisk = errors.New("simulated: bad sector")

func (d *slowSync) hook(op vfs.Op) error {
	if op.Kind != vfs.OpSync {
		return nil
	}
	if wait := d.delay.Load(); wait > 0 {
		time.Sleep(time.Duration(wait))
	}
	if d.broken.Load() {
		return errDisk
	}
	return nil
}

// TestAnAckIsASync holds back the disk: no record is acknowledged or shown to
// anybody before it is durable, and requests of one connection pile up behind
// it in order, to be acknowledged by few syncs.
func TestAnAckIsASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk slowSync
		c := newCluster(t)
		c.onDisk = disk.hook
		c.start(nil)
		s, reader := c.dial(), c.dial()
		s.topic("t", 1)
		s.produce("t", 0, "first")
		disk.delay.Store(int64(time.Second))
		began := time.Now()
		const n = 20
		for i := range n {
			req := produceRequest("t", 0, batch(text("%d", i)))
			if i%2 == 1 {
				req.Acks = 1
			}
			s.send(req)
		}
		s.send(listRequest(5, "t", 0, -1))
		time.Sleep(500 * time.Millisecond)
		same(t, "high watermark before the sync", reader.listOffset("t", 0, -1).Offset, 1)
		empty := do[*kmsg.FetchResponse](reader, fetchRequest("t", 0, 1)).Topics[0].Partitions[0]
		code(t, "fetch of what is not synced", empty.ErrorCode, nil)
		same(t, "bytes before the sync", len(empty.RecordBatches), 0)
		for i := range n {
			p := produced(s.receive(produceRequest("t", 0, nil)).(*kmsg.ProduceResponse))
			code(t, text("ack %d", i), p.ErrorCode, nil)
			same(t, "offset", p.BaseOffset, int64(i+1))
			if took := time.Since(began); took < time.Second {
				t.Errorf("ack %d after %v, the sync takes a second", i, took)
			}
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%d acks took %v: a sync does not pay for all who wait", n, took)
		}
		p := s.receive(listRequest(5, "t", 0, -1)).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		same(t, "the answer behind the acks", p.Offset, int64(n+1))
		disk.delay.Store(0)
	})
}

// TestTheProduceTimeoutBoundsTheWaitForFollowersOnly has a slow disk: what this
// broker alone makes durable is acknowledged when it is, even to a producer that
// gives no time at all, and so nobody sends again what is written. A follower that
// does not come is REQUEST_TIMED_OUT, that much time after the sync.
func TestTheProduceTimeoutBoundsTheWaitForFollowersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 10 * time.Second
		var disk slowSync
		c := newCluster(t)
		c.onDisk = disk.hook
		c.start(map[string]string{"replica.lag.time.max.ms": "3600000"}) // the follower stays in sync
		s := c.dial()
		c.ghost(metadata.Registration{ID: 2})
		code(t, "create", s.assigned("one", []int32{1}).ErrorCode, nil)
		code(t, "create", s.assigned("two", []int32{1, 2}).ErrorCode, nil)
		disk.delay.Store(int64(slow))
		for _, q := range []struct {
			topic   string
			acks    int16
			timeout int32
			want    *kerr.Error
			longest time.Duration
		}{
			{"one", -1, 0, nil, 2 * slow},
			{"one", -1, -1, nil, 2 * slow},
			{"one", 1, 0, nil, 2 * slow},
			{"one", -1, 1500, nil, 2 * slow},
			{"two", 1, 0, nil, 2 * slow},
			{"two", -1, 0, kerr.RequestTimedOut, 2 * slow},
			{"two", -1, 1500, kerr.RequestTimedOut, 2*slow + 1500*time.Millisecond},
		} {
			req := produceRequest(q.topic, 0, batch("a"))
			req.Acks, req.TimeoutMillis = q.acks, q.timeout
			what := text("%s, acks=%d, timeout %d ms", q.topic, q.acks, q.timeout)
			began := time.Now()
			code(t, what, produced(do[*kmsg.ProduceResponse](s, req)).ErrorCode, q.want)
			if took := time.Since(began); took < time.Duration(q.timeout)*time.Millisecond || took > q.longest {
				t.Errorf("%s: after %v, want at most %v", what, took, q.longest)
			}
		}
		disk.delay.Store(0)
		same(t, "appended once each", s.listOffset("one", 0, -1).Offset, 4)
		time.Sleep(2 * slow) // for the syncs under way
	})
}

// TestAFailedSyncFailsAllWhoWait takes the log directory offline: producers
// and long polls learn it at once, in a code their version knows, before the broker
// stops.
func TestAFailedSyncFailsAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk slowSync
		c := newCluster(t)
		c.onDisk = disk.hook
		c.start(nil)
		s := c.dial()
		s.topic("t", 1)
		s.produce("t", 0, "kept")
		var polls []*conn
		for _, v := range []int16{4, 11} {
			k := c.dial()
			req := at(fetchRequest("t", 0, 1), v)
			req.MaxWaitMillis = 60_000
			k.send(req)
			polls = append(polls, k)
		}
		disk.delay.Store(int64(time.Second))
		versions := map[int16]*kerr.Error{3: kerr.NotLeaderForPartition, 4: kerr.KafkaStorageError, 9: kerr.KafkaStorageError}
		producers := make(map[int16]*conn)
		for v := range versions {
			producers[v] = c.dial()
			producers[v].send(at(produceRequest("t", 0, batch("lost")), v))
		}
		synctest.Wait()
		disk.broken.Store(true)
		began := time.Now()
		for v, want := range versions {
			code(t, text("produce v%d", v), produced(producers[v].receive(at(kmsg.NewPtrProduceRequest(), v)).(*kmsg.ProduceResponse)).ErrorCode, want)
		}
		for i, want := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError} {
			req := at(kmsg.NewPtrFetchRequest(), []int16{4, 11}[i])
			code(t, "long poll", polls[i].receive(req).(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode, want)
		}
		same(t, "all of it took", time.Since(began), time.Second)
	})
}

// TestAFullDiskIsRetriableAndHeals says what is wrong, keeps reads going, and
// takes records again when there is space.
func TestAFullDiskIsRetriableAndHeals(t *testing.T) {
	c := newCluster(t).start(nil)
	s := c.dial()
	s.topic("t", 1)
	s.produce("t", 0, "kept")
	usage, err := c.disk.Usage("/data")
	if err != nil {
		t.Fatal(err)
	}
	c.disk.SetCapacity(int64(usage.Total-usage.Free) + 100)
	p := produced(do[*kmsg.ProduceResponse](s, produceRequest("t", 0, batch(string(make([]byte, 1<<16))))))
	code(t, "produce", p.ErrorCode, kerr.KafkaStorageError)
	if p.ErrorMessage == nil || *p.ErrorMessage != "the disk of the log directory is full" {
		t.Errorf("message %v", p.ErrorMessage)
	}
	got := do[*kmsg.FetchResponse](s, fetchRequest("t", 0, 0)).Topics[0].Partitions[0]
	same(t, "reads go on", text("%v", values(t, got.RecordBatches, 0)), "[kept]")
	c.disk.SetCapacity(0)
	same(t, "healed", s.produce("t", 0, "more"), 1)
}

// TestWrongVersionsAndKeysCloseTheConnection is Kafka's answer to what it does
// not serve, whatever it advertises.
func TestWrongVersionsAndKeysCloseTheConnection(t *testing.T) {
	c := newCluster(t).start(nil)
	for _, q := range [][2]int16{{0, 0}, {0, 2}, {0, 14}, {1, 3}, {1, 19}, {4, 0}, {999, 0}, {3, -1}, {-1, 0}} {
		k := c.dial()
		k.write(frameOf(q[0], q[1], make([]byte, 8)))
		if !k.closed() {
			t.Errorf("key %d version %d is answered", q[0], q[1])
		}
	}
	k := c.dial()
	k.write(binary.BigEndian.AppendUint32(nil, 200<<20)) // refused before it is read
	same(t, "closed on a frame that is too large", k.closed(), true)
}

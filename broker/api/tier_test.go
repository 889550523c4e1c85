package api_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// tiered are the settings of a topic whose sealed segments leave the disk as
// soon as they are in the bucket.
var tiered = []string{"internal.segment.bytes=2000", "local.retention.bytes=1"}

// evicted waits until the local log begins at or behind an offset.
func (k *conn) evicted(topic string, partition int32, offset int64) {
	k.t.Helper()
	for range 100 {
		if k.listOffset(topic, partition, -4).Offset >= offset {
			return
		}
		time.Sleep(time.Second)
	}
	k.t.Fatalf("%s-%d is still local below %d", topic, partition, offset)
}

// fill appends n records of about a hundred bytes, each in its own batch.
func (k *conn) fill(topic string, partition int32, n int) {
	k.t.Helper()
	for i := range n {
		k.produce(topic, partition, fmt.Sprintf("%0100d", i))
	}
}

// slowStore is an object store whose reads take their time, or do not answer.
type slowStore struct {
	delay atomic.Int64 // time.Duration of a read
	away  atomic.Bool
}

func (s *slowStore) hook(ctx context.Context, op object.Op) error {
	if op.Kind != object.OpGet {
		return nil
	}
	if wait := s.delay.Load(); wait > 0 {
		timer := time.NewTimer(time.Duration(wait))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.away.Load() {
		return object.ErrUnavailable
	}
	return nil
}

// readAll reads a partition from an offset to its end and returns the bytes of
// its batches.
func (k *conn) readAll(topic string, partition int32, from, to int64, maxBytes int32) []byte {
	k.t.Helper()
	var out []byte
	for at := from; at < to; {
		req := fetchRequest(topic, partition, at)
		req.MaxWaitMillis, req.MaxBytes = 10_000, maxBytes
		p := do[*kmsg.FetchResponse](k, req).Topics[0].Partitions[0]
		code(k.t, fmt.Sprintf("fetch at %d", at), p.ErrorCode, nil)
		if p.ErrorCode != 0 {
			k.t.FailNow()
		}
		for b := p.RecordBatches; len(b) > 0; {
			one, rest, err := record.Next(b)
			if err != nil {
				k.t.Fatal(err)
			}
			at, b = one.NextOffset(), rest
		}
		out = append(out, p.RecordBatches...)
	}
	return out
}

// TestInvariant7ReadsAreTheSameWithAndWithoutTier produces the same batches into
// a tiered topic and one that is not, and reads both in steps of all sizes.
func TestInvariant7ReadsAreTheSameWithAndWithoutTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t).start(nil).dial()
		s.topic("cold", 1, tiered...)
		s.topic("hot", 1, "internal.segment.bytes=2000", "remote.storage.enable=false")
		var sent []byte
		for i := range 120 {
			b := batch(strings.Repeat(fmt.Sprint(i), 40))
			for _, topic := range []string{"cold", "hot"} {
				p := produced(do[*kmsg.ProduceResponse](s, produceRequest(topic, 0, bytes.Clone(b))))
				code(t, topic, p.ErrorCode, nil)
				same(t, "offset", p.BaseOffset, int64(i))
			}
			b.SetBaseOffset(int64(i))
			sent = append(sent, b...)
		}
		s.evicted("cold", 0, 100)
		same(t, "log start", s.listOffset("cold", 0, -2).Offset, 0)
		for _, maxBytes := range []int32{1, 700, 5000, 1 << 20} {
			if got := s.readAll("cold", 0, 0, 120, maxBytes); !bytes.Equal(got, sent) {
				t.Errorf("cold in steps of %d: %d bytes differ from the %d sent", maxBytes, len(got), len(sent))
			}
			if got := s.readAll("hot", 0, 0, 120, maxBytes); !bytes.Equal(got, sent) {
				t.Errorf("hot in steps of %d: %d bytes differ from the %d sent", maxBytes, len(got), len(sent))
			}
		}
	})
}

// TestListOffsetsCoversBothTiers asks for every kind of offset of a log of which
// most is in the bucket.
func TestListOffsetsCoversBothTiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t).start(nil).dial()
		s.topic("t", 1, tiered...)
		epoch := time.Now().UnixMilli()
		newest := int64(30) // the largest timestamp is in the tier
		for i := range int64(100) {
			b := record.NewBuilder(record.BuilderOptions{})
			at := epoch + i
			if i == newest {
				at = epoch + 10_000
			}
			b.Append(at, nil, fmt.Appendf(nil, "%0100d", i))
			code(t, "produce", produced(do[*kmsg.ProduceResponse](s, produceRequest("t", 0, b.Build()))).ErrorCode, nil)
		}
		s.evicted("t", 0, 80)
		local, tier := s.listOffset("t", 0, -4), s.listOffset("t", 0, -5)
		for _, q := range []struct {
			ts, want int64
		}{
			{-1, 100}, {-2, 0}, {-3, newest}, {-6, tier.Offset + 1}, {0, 0}, {epoch, 0}, {epoch + 7, 7},
			{epoch + 29, 29}, {epoch + 50, newest}, {epoch + 20_000, -1},
		} {
			p := s.listOffset("t", 0, q.ts)
			code(t, fmt.Sprint(q.ts), p.ErrorCode, nil)
			same(t, fmt.Sprintf("offset of %d", q.ts), p.Offset, q.want)
		}
		if tier.Offset < local.Offset-1 || local.Offset < 80 || tier.LeaderEpoch != 0 || local.LeaderEpoch != 0 {
			t.Errorf("local log start %+v, latest tiered %+v", local, tier)
		}
		// DeleteRecords moves the start within the tier, at once for everybody.
		trim(s, "t", 40)
		same(t, "earliest", s.listOffset("t", 0, -2).Offset, 40)
		same(t, "by a time before the start", s.listOffset("t", 0, epoch+7).Offset, 40)
		if at := s.listOffset("t", 0, -3).Offset; at < 40 {
			t.Errorf("max timestamp at %d, below the log's start", at)
		}
		got := do[*kmsg.FetchResponse](s, fetchRequest("t", 0, 39)).Topics[0].Partitions[0]
		code(t, "fetch below the start", got.ErrorCode, kerr.OffsetOutOfRange)
	})
}

// mixed asks for a cold partition first, then for hot ones.
func mixed(wait int32, maxBytes int32, hotOffset int64, hot ...string) *kmsg.FetchRequest {
	req := at(kmsg.NewPtrFetchRequest(), 12)
	req.MaxBytes, req.MinBytes, req.MaxWaitMillis, req.SessionEpoch = maxBytes, 1, wait, -1
	addFetch(req, "cold", metadata.TopicID{}, 0, 0)
	for _, topic := range hot {
		addFetch(req, topic, metadata.TopicID{}, 0, hotOffset)
	}
	return req
}

// TestInvariant10ColdReadsMakeNobodyWait lets the object store hang: producers
// and readers of new data do not notice, and the reader of old data gets an
// answer in time, now empty and later full.
func TestInvariant10ColdReadsMakeNobodyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store slowStore
		c := newCluster(t)
		c.onStore = store.hook
		c.start(nil)
		s, replay := c.dial(), c.dial()
		s.topic("cold", 1, tiered...)
		s.topic("hot", 1)
		s.fill("cold", 0, 60)
		s.evicted("cold", 0, 40)
		s.produce("hot", 0, "0")
		store.delay.Store(int64(20 * time.Second))

		began := time.Now()
		replay.send(mixed(500, 1<<20, 0))
		for range 50 {
			s.produce("hot", 0, "more")
		}
		same(t, "50 acks beside a replay that hangs took", time.Since(began), 0)

		began = time.Now()
		req := mixed(500, 1<<20, 0, "hot")
		resp := do[*kmsg.FetchResponse](s, req)
		if took := time.Since(began); took > 5*time.Millisecond {
			t.Errorf("hot data waited %v for cold data", took)
		}
		same(t, "hot records beside a cold partition", len(values(t, resp.Topics[1].Partitions[0].RecordBatches, 0)), 51)
		same(t, "cold records", len(resp.Topics[0].Partitions[0].RecordBatches), 0)

		cold := replay.receive(mixed(500, 1<<20, 0)).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		code(t, "cold fetch that ran out of time", cold.ErrorCode, nil)
		same(t, "its bytes", len(cold.RecordBatches), 0)
		// Each poll is answered in time, and what it began goes on: the index is
		// there after one latency of the store, the records after another.
		began = time.Now()
		for len(cold.RecordBatches) == 0 && time.Since(began) < time.Minute {
			polled := time.Now()
			cold = do[*kmsg.FetchResponse](replay, mixed(500, 1<<20, 0)).Topics[0].Partitions[0]
			code(t, "cold fetch", cold.ErrorCode, nil)
			if took := time.Since(polled); took > 500*time.Millisecond {
				t.Fatalf("a cold fetch of 500 ms took %v", took)
			}
		}
		if took := time.Since(began); took > 41*time.Second {
			t.Errorf("old records came after %v, the store takes 20 s", took)
		}
	})
}

// TestAStoreThatIsAwayIsNotTheEndOfTheLog answers a reader of old data with an
// error it retries, or with nothing; never with one that makes it skip.
func TestAStoreThatIsAwayIsNotTheEndOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store slowStore
		c := newCluster(t)
		c.onStore = store.hook
		c.start(nil)
		s := c.dial()
		s.topic("cold", 1, tiered...)
		s.fill("cold", 0, 60)
		s.evicted("cold", 0, 40)
		store.away.Store(true)
		for range 20 {
			p := do[*kmsg.FetchResponse](s, mixed(2000, 1<<20, 0)).Topics[0].Partitions[0]
			if p.ErrorCode != 0 {
				code(t, "cold fetch", p.ErrorCode, kerr.KafkaStorageError)
			}
			same(t, "bytes", len(p.RecordBatches), 0)
		}
		store.away.Store(false)
		same(t, "healed", len(values(t, s.readAll("cold", 0, 0, 60, 1<<20), 0)), 60)
	})
}

// TestHotAndColdShareTheBytesOfARequest gives both a part, whoever comes first,
// and one batch to the first when there is room for no more.
func TestHotAndColdShareTheBytesOfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t).start(nil).dial()
		s.topic("cold", 1, tiered...)
		s.topic("hot", 1)
		s.fill("cold", 0, 60)
		s.fill("hot", 0, 60)
		s.evicted("cold", 0, 40)
		s.readAll("cold", 0, 0, 60, 1<<20) // into the cache
		for _, q := range []struct {
			what      string
			max       int32
			cold, hot bool
		}{{"enough", 1 << 20, true, true}, {"tight", 4000, true, true}, {"one batch", 1, true, false}} {
			resp := do[*kmsg.FetchResponse](s, mixed(500, q.max, 0, "hot"))
			cold, hot := resp.Topics[0].Partitions[0].RecordBatches, resp.Topics[1].Partitions[0].RecordBatches
			same(t, q.what+": cold and hot give something", [2]bool{len(cold) > 0, len(hot) > 0}, [2]bool{q.cold, q.hot})
			if len(cold)+len(hot) > int(max(q.max, 1000)) {
				t.Errorf("%s: %d and %d bytes, %d wanted", q.what, len(cold), len(hot), q.max)
			}
		}
	})
}

// TestEvictionRacesReaders reads a log again and again while its segments move
// to the bucket under the readers' hands.
func TestEvictionRacesReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"log.retention.check.interval.ms": "100"})
		s, reader := c.dial(), c.dial()
		s.topic("t", 1, tiered...)
		for i := range 150 {
			s.produce("t", 0, fmt.Sprintf("%0100d", i))
			time.Sleep(20 * time.Millisecond)
			if i%10 == 9 {
				got := values(t, reader.readAll("t", 0, 0, int64(i+1), 3000), 0)
				same(t, "records", len(got), i+1)
				for n, v := range got {
					if v != fmt.Sprintf("%0100d", n) {
						t.Fatalf("offset %d shows %q", n, v)
					}
				}
			}
		}
		if start := s.listOffset("t", 0, -4).Offset; start == 0 {
			t.Error("nothing was evicted: the test raced nothing")
		}
	})
}

// TestInvariant3OffsetsAreOrderedInEveryAnswer reads while records are appended,
// deleted and moved to the tier.
func TestInvariant3OffsetsAreOrderedInEveryAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"log.retention.check.interval.ms": "100"})
		s := c.dial()
		s.topic("t", 1, tiered...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			k := c.dial()
			for i := range 200 {
				k.produce("t", 0, fmt.Sprintf("%0100d", i))
				time.Sleep(10 * time.Millisecond)
			}
		}()
		var start, high int64
		at := int64(0)
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			req := fetchRequest("t", 0, at)
			req.MaxWaitMillis, req.IsolationLevel, req.MaxBytes = 30, 1, 500
			p := do[*kmsg.FetchResponse](s, req).Topics[0].Partitions[0]
			if p.ErrorCode == kerr.OffsetOutOfRange.Code {
				at = s.listOffset("t", 0, -2).Offset
				continue
			}
			code(t, "fetch", p.ErrorCode, nil)
			if p.LogStartOffset > p.LastStableOffset || p.LastStableOffset > p.HighWatermark || p.LogStartOffset < start || p.HighWatermark < high {
				t.Fatalf("log start %d (was %d), last stable %d, high watermark %d (was %d)", p.LogStartOffset, start, p.LastStableOffset, p.HighWatermark, high)
			}
			start, high = p.LogStartOffset, p.HighWatermark
			n := int64(len(values(t, p.RecordBatches, at)))
			if at+n > p.HighWatermark {
				t.Fatalf("records up to %d, high watermark %d", at+n, p.HighWatermark)
			}
			if at += n; high-start > 50 {
				trim(s, "t", high-20)
			}
		}
		same(t, "read to the end", at > 150, true)
	})
}

func trim(k *conn, topic string, offset int64) {
	req := at(kmsg.NewPtrDeleteRecordsRequest(), 2)
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = offset
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	code(k.t, "delete records", do[*kmsg.DeleteRecordsResponse](k, req).Topics[0].Partitions[0].ErrorCode, nil)
}

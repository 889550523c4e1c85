package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Kills produces the corpus with an idempotent producer while the broker is
// killed so many times, during producing and uploading, and checks that every
// acked record is there once, in order, and that no offset shows two values.
func Kills(ctx context.Context, t testing.TB, b Broker, c *Corpus, kills, segmentBytes int) {
	const topic = "kills"
	CreateTopic(ctx, t, b.Kafka(), topic, partitionCount, segmentSetting(segmentBytes), fmt.Sprint(segmentBytes), "local.retention.bytes", "1")
	w := &watcher{seen: make(map[[2]int64]uint64), d: newDigests()}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { w.watch(watching, t, b.Kafka(), topic) })
	acked := &ledger{parts: make([][]ackedRecord, partitionCount)}
	produced := make(chan error, 1)
	all.Go(func() { produced <- acked.produce(ctx, b.Kafka(), topic, c) })
	total := 0
	for range c.Lines() {
		total++
	}
	for n := range kills {
		acked.await(ctx, t, int(float64(total)*(float64(n)+rand.Float64())/float64(kills+1)))
		if err := b.Kill(); err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
		if err := b.Start(ctx); err != nil {
			t.Fatalf("start after kill %d: %v", n, err)
		}
	}
	if err := <-produced; err != nil {
		t.Fatalf("produce: %v\n%s", err, b.Log())
	}
	awaitTiered(ctx, t, b, topic, partitionCount)
	stop()
	all.Wait()
	acked.check(ctx, t, b.Kafka(), topic, w)
}

type ackedRecord struct {
	offset int64
	id     uint64
}

// ledger is what the broker acked. Each value starts with the record's number,
// so that a duplicate or a loss is seen whatever the text.
type ledger struct {
	count atomic.Int64
	mu    sync.Mutex
	parts [][]ackedRecord
	sent  uint64
}

// await returns when n records have been acked.
func (l *ledger) await(ctx context.Context, t testing.TB, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.count.Load() < int64(n) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d of %d records acked: %v", l.count.Load(), n, ctx.Err())
		}
	}
}

func (l *ledger) produce(ctx context.Context, addr, topic string, c *Corpus) error {
	// A connection may end before its first answer, what franz-go would give up for.
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AlwaysRetryEOF(), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(2*time.Millisecond),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.MaxBufferedRecords(2_000), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordDeliveryTimeout(2*time.Minute))
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed error
	for line, err := range c.Lines() {
		if err != nil {
			return err
		}
		id := l.sent
		l.sent++
		value := append(binary.BigEndian.AppendUint64(nil, id), line.Value...)
		cl.Produce(ctx, &kgo.Record{Key: []byte(line.Key), Value: value}, func(r *kgo.Record, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, err)
				return
			}
			l.count.Add(1)
			l.parts[r.Partition] = append(l.parts[r.Partition], ackedRecord{r.Offset, id})
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return failed
}

// check reads the topic and compares it with the acks and with what the
// watcher saw while it was being written.
func (l *ledger) check(ctx context.Context, t testing.TB, addr, topic string, w *watcher) {
	t.Helper()
	_, ends := offsets(ctx, t, addr, topic)
	at := make(map[int32]kgo.Offset)
	for n := range ends {
		if ends[n] > 0 {
			at[int32(n)] = kgo.NewOffset().At(0)
		}
	}
	found := make([]map[uint64]int64, len(ends)) // id to offset
	last := make([]int64, len(ends))             // id before
	for n := range found {
		found[n], last[n] = make(map[uint64]int64), -1
	}
	consume(ctx, t, addr, topic, at, ends, func(r *kgo.Record) {
		id := binary.BigEndian.Uint64(r.Value)
		if first, twice := found[r.Partition][id]; twice {
			t.Errorf("partition %d: record %d is at offsets %d and %d", r.Partition, id, first, r.Offset)
		}
		found[r.Partition][id] = r.Offset
		if int64(id) <= last[r.Partition] {
			t.Errorf("partition %d: record %d at offset %d comes after record %d", r.Partition, id, r.Offset, last[r.Partition])
		}
		last[r.Partition] = int64(id)
		w.compare(t, r)
	})
	total := 0
	for n, acks := range l.parts {
		total += len(acks)
		for _, a := range acks {
			if offset, ok := found[n][a.id]; !ok {
				t.Errorf("partition %d: record %d was acked at offset %d and is lost", n, a.id, a.offset)
			} else if offset != a.offset {
				t.Errorf("partition %d: record %d was acked at offset %d and is at %d", n, a.id, a.offset, offset)
			}
		}
	}
	if uint64(total) != l.sent {
		t.Errorf("%d records sent, %d acked", l.sent, total)
	}
	t.Logf("%d records acked, all there once, in order; a reader saw %d of them before the end", total, len(w.seen))
}

// watcher reads along while the broker is killed, and remembers what each
// offset showed.
type watcher struct {
	d    digests
	mu   sync.Mutex
	seen map[[2]int64]uint64 // partition, offset
}

func (w *watcher) watch(ctx context.Context, t testing.TB, addr, topic string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		w.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) { w.noteLocked(t, r) })
		w.mu.Unlock()
	}
}

func (w *watcher) noteLocked(t testing.TB, r *kgo.Record) {
	at := [2]int64{int64(r.Partition), r.Offset}
	sum := w.d.next(0, r.Key, r.Value)
	if had, ok := w.seen[at]; ok && had != sum {
		t.Errorf("partition %d offset %d shows two values", r.Partition, r.Offset)
	}
	w.seen[at] = sum
}

// compare checks one record of the final reading.
func (w *watcher) compare(t testing.TB, r *kgo.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if had, ok := w.seen[[2]int64{int64(r.Partition), r.Offset}]; ok && had != w.d.next(0, r.Key, r.Value) {
		t.Errorf("partition %d offset %d shows two values", r.Partition, r.Offset)
	}
}

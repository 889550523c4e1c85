package scenario

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// partitionReading is what a reader saw of one partition.
type partitionReading struct {
	start      int64 // offset of the first record
	end        int64
	sum        uint64 // digest of all records in order
	count      int64
	timestamps []int64 // by offset - start; -1 where an offset had no record
}

// reading is what a reader saw of a topic.
type reading struct {
	parts     []partitionReading
	partition map[string]int32 // of each key
	took      time.Duration
	bytes     int64
}

// readAll reads every partition from its start to the end it has now, with a
// client that has never seen the topic.
func readAll(ctx context.Context, t testing.TB, addr, topic string, d digests) *reading {
	t.Helper()
	starts, ends := offsets(ctx, t, addr, topic)
	r := &reading{parts: make([]partitionReading, len(ends)), partition: make(map[string]int32)}
	at := make(map[int32]kgo.Offset, len(ends))
	for n := range ends {
		r.parts[n] = partitionReading{start: starts[n], end: starts[n]}
		if starts[n] < ends[n] {
			at[int32(n)] = kgo.NewOffset().At(starts[n])
		}
	}
	begin := time.Now()
	consume(ctx, t, addr, topic, at, ends, func(rec *kgo.Record) {
		p := &r.parts[rec.Partition]
		if rec.Offset != p.end {
			t.Fatalf("partition %d: offset %d after %d", rec.Partition, rec.Offset, p.end-1)
		}
		p.end++
		p.count++
		p.sum = d.next(p.sum, rec.Key, rec.Value)
		p.timestamps = append(p.timestamps, rec.Timestamp.UnixMilli())
		r.bytes += int64(len(rec.Key) + len(rec.Value))
		if had, ok := r.partition[string(rec.Key)]; ok && had != rec.Partition {
			t.Fatalf("key %q is in partitions %d and %d", rec.Key, had, rec.Partition)
		}
		r.partition[string(rec.Key)] = rec.Partition
	})
	r.took = time.Since(begin)
	return r
}

// consume reads from the given offsets until every partition that has one has
// reached its end, which lies behind it.
func consume(ctx context.Context, t testing.TB, addr, topic string, at map[int32]kgo.Offset, ends []int64, see func(*kgo.Record)) {
	t.Helper()
	left := len(at)
	if left == 0 {
		return
	}
	done := make([]bool, len(ends))
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %v", topic, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset >= ends[rec.Partition] {
				return
			}
			see(rec)
			if rec.Offset == ends[rec.Partition]-1 && !done[rec.Partition] {
				done[rec.Partition] = true
				left--
			}
		})
	}
}

// offsets are the start and end of each partition.
func offsets(ctx context.Context, t testing.TB, addr, topic string) (starts, ends []int64) {
	t.Helper()
	adm := admin(t, addr)
	s, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	e, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	n := len(e[topic])
	starts, ends = make([]int64, n), make([]int64, n)
	e.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		ends[o.Partition] = o.Offset
	})
	s.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		starts[o.Partition] = o.Offset
	})
	return starts, ends
}

func admin(t testing.TB, addr string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// CreateTopic makes a topic with settings given as name, value, name, value.
func CreateTopic(ctx context.Context, t testing.TB, addr, topic string, partitions int32, settings ...string) {
	t.Helper()
	configs := make(map[string]*string)
	for i := 0; i < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	if _, err := admin(t, addr).CreateTopic(ctx, partitions, 1, configs, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

// segmentSetting is the setting for a segment of n bytes: Kafka refuses less
// than 1 MiB (KIP-1030) but under another name, for tests.
func segmentSetting(n int) string {
	if n < 1<<20 {
		return "internal.segment.bytes"
	}
	return "segment.bytes"
}

// checkAgainst compares a reading with what was sent: per partition the same
// records in the same order.
func (r *reading) checkAgainst(t testing.TB, c *Corpus, d digests) {
	t.Helper()
	want := make([]partitionReading, len(r.parts))
	var sent int64
	for line, err := range c.Lines() {
		if err != nil {
			t.Fatal(err)
		}
		sent++
		n, ok := r.partition[line.Key]
		if !ok {
			t.Fatalf("key %q was sent and not read", line.Key)
		}
		w := &want[n]
		w.count++
		w.sum = d.next(w.sum, []byte(line.Key), []byte(line.Value))
	}
	var got int64
	for n := range want {
		got += r.parts[n].count
		if r.parts[n].count != want[n].count || r.parts[n].sum != want[n].sum {
			t.Errorf("partition %d: read %d records with digest %x, sent %d with %x", n, r.parts[n].count, r.parts[n].sum, want[n].count, want[n].sum)
		}
	}
	t.Logf("sent %d records, read %d records (%d MB) in %s, %.0f MB/s", sent, got, r.bytes/1e6, r.took.Round(time.Millisecond), float64(r.bytes)/1e6/r.took.Seconds())
}

// checkSuffix reads by timestamp and expects of each partition exactly the
// records from the first one at or after it.
func (r *reading) checkSuffix(ctx context.Context, t testing.TB, addr, topic string) {
	t.Helper()
	longest := slices.MaxFunc(r.parts, func(a, b partitionReading) int { return int(a.count - b.count) })
	at := longest.timestamps[len(longest.timestamps)/2]
	from := make(map[int32]kgo.Offset)
	ends := make([]int64, len(r.parts))
	next := make([]int64, len(r.parts))
	expected := int64(0)
	for n, p := range r.parts {
		from[int32(n)] = kgo.NewOffset().AfterMilli(at)
		i := slices.IndexFunc(p.timestamps, func(ts int64) bool { return ts >= at })
		if i < 0 {
			delete(from, int32(n))
			continue
		}
		ends[n], next[n] = p.end, p.start+int64(i)
		expected += p.end - next[n]
	}
	seen := int64(0)
	consume(ctx, t, addr, topic, from, ends, func(rec *kgo.Record) {
		if rec.Offset != next[rec.Partition] {
			t.Fatalf("by timestamp %d: partition %d gives offset %d, want %d", at, rec.Partition, rec.Offset, next[rec.Partition])
		}
		next[rec.Partition]++
		seen++
	})
	if seen != expected {
		t.Errorf("by timestamp %d: %d records, want %d", at, seen, expected)
	}
	t.Logf("by timestamp: %d of %d records", seen, func() (all int64) {
		for _, p := range r.parts {
			all += p.count
		}
		return all
	}())
}

// tieredWithin bounds the wait for uploads that may have to catch up.
const tieredWithin = 2 * time.Minute

// awaitTiered waits until every sealed segment of the topic is remote and gone
// from the local disk, and returns the remote bytes.
func awaitTiered(ctx context.Context, t testing.TB, b Broker, topic string, partitions int) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, tieredWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last string
	for {
		list, err := b.Tier(ctx)
		if err != nil {
			t.Fatalf("tier status: %v\n%s", err, last)
		}
		tiered, remote := 0, int64(0)
		last = ""
		for _, p := range list {
			if p.Topic != topic {
				continue
			}
			remote += p.RemoteBytes
			if p.PendingSegments == 0 && p.RemoteSegments > 0 && p.LocalLogStartOffset == p.HighestRemoteOffset+1 {
				tiered++
			}
			last += fmt.Sprintf("%+v\n", p)
		}
		if tiered == partitions {
			t.Logf("tiered: %d partitions, %d MB remote", partitions, remote/1e6)
			return remote
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not tiered: %v\n%s", ctx.Err(), last)
		}
	}
}

package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// LoadOptions say how much a Load produces.
type LoadOptions struct {
	Topics     int
	Partitions int // of each topic
	Rate       int // records a second, over all partitions; 0 is 2,000
	ValueBytes int // 0 is 400
	Settings   []string

	// Published says that brokers are behind ports which a container engine
	// publishes. It may take a connection for a container that has just gone, and
	// close it, what franz-go gives up for: it looks like TLS.
	Published bool
}

// Load is an idempotent producer with acks=all, a group that consumes what it
// writes, and a note of all they are told. What a Load has seen is compared at
// its end with what the cluster holds: see [Load.Finish].
type Load struct {
	o     LoadOptions
	seeds []string
	parts []*partitionLedger
	index map[string]map[int32]*partitionLedger

	producer             *kgo.Client
	stop                 context.CancelFunc // of the producing loop
	leave                context.CancelFunc // of the group
	producing, consuming sync.WaitGroup

	// brutal allows members to find their coordinator gone without a word.
	brutal   atomic.Bool
	finished bool // what clients were told is reported

	mu     sync.Mutex
	errors []string // that clients were told, as text
	away   int      // of answers of the group's coordinator that had to be asked again
}

// partitionLedger is what is known of one partition.
type partitionLedger struct {
	topic     string
	partition int32

	mu        sync.Mutex
	sent      uint64  // records given to the producer, numbered from 0
	acked     []int64 // offset by number; -1 until acked
	lastAck   time.Time
	longest   time.Duration    // between two acks
	shown     map[int64]uint64 // offset to number, as consumers saw it
	committed int64
}

const (
	loadGroup = "load"
	// members of the group; each is a client of its own.
	members = 2
)

// StartLoad makes the topics, three replicas each, and begins.
func StartLoad(ctx context.Context, t testing.TB, seeds []string, o LoadOptions) *Load {
	t.Helper()
	if o.Rate == 0 {
		o.Rate = 2000
	}
	if o.ValueBytes == 0 {
		o.ValueBytes = 400
	}
	l := &Load{o: o, seeds: seeds, index: make(map[string]map[int32]*partitionLedger)}
	settings := append([]string{"min.insync.replicas", "2"}, o.Settings...)
	for n := range o.Topics {
		topic := fmt.Sprintf("load-%02d", n)
		CreateReplicated(ctx, t, seeds, topic, int32(o.Partitions), 3, settings...)
		l.index[topic] = make(map[int32]*partitionLedger)
		for p := range int32(o.Partitions) {
			part := &partitionLedger{topic: topic, partition: p, shown: make(map[int64]uint64), committed: -1}
			l.parts = append(l.parts, part)
			l.index[topic][p] = part
		}
	}
	var err error
	// Records are never given up and no loss is passed over.
	l.producer, err = l.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.StopProducerOnDataLossDetected(), kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(100_000), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.producer.Close)
	run, stop := context.WithCancel(ctx)
	l.stop = stop
	l.producing.Go(func() { l.produce(run) })
	group, leave := context.WithCancel(ctx)
	l.leave = leave
	for range members {
		l.consuming.Go(func() { l.consume(group) })
	}
	l.consuming.Go(func() { l.watchCommits(group) })
	t.Cleanup(func() { // where Finish was not reached
		stop()
		leave()
		l.producing.Wait()
		l.consuming.Wait()
		if !l.finished {
			l.report(t)
		}
	})
	return l
}

// client returns a client of the cluster.
func (l *Load) client(opts ...kgo.Opt) (*kgo.Client, error) {
	if l.o.Published {
		opts = append(opts, kgo.AlwaysRetryEOF())
	}
	return kgo.NewClient(append(opts, kgo.SeedBrokers(l.seeds...))...)
}

func (l *Load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors = append(l.errors, fmt.Sprintf(format, args...))
}

// report fails the test with what clients were told.
func (l *Load) report(t testing.TB) {
	t.Helper()
	l.finished = true
	const shown = 20
	list := l.Errors()
	for _, e := range list[:min(shown, len(list))] {
		t.Error(e)
	}
	if more := len(list) - shown; more > 0 {
		t.Errorf("and %d more", more)
	}
}

// Errors are what clients were told so far and should not have been.
func (l *Load) Errors() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.errors)
}

// produce gives what is due each few milliseconds to the partitions in turn.
func (l *Load) produce(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin, sent := time.Now(), 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for due := int(time.Since(begin).Seconds() * float64(l.o.Rate)); sent < due; sent++ {
			if ctx.Err() != nil { // blocked while the buffer was full
				return
			}
			l.send(ctx, l.parts[sent%len(l.parts)])
		}
	}
}

func (l *Load) send(ctx context.Context, p *partitionLedger) {
	p.mu.Lock()
	number := p.sent
	p.sent++
	p.acked = append(p.acked, -1)
	p.mu.Unlock()
	value := make([]byte, max(l.o.ValueBytes, 8))
	binary.BigEndian.PutUint64(value, number)
	r := &kgo.Record{Topic: p.topic, Partition: p.partition, Value: value}
	// The record's own context has no end: an idempotent record that was given
	// up may still be written.
	l.producer.Produce(context.WithoutCancel(ctx), r, func(r *kgo.Record, err error) {
		if err != nil {
			l.fail("produce %s-%d: %v", p.topic, p.partition, err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.acked[number] = r.Offset
		now := time.Now()
		if !p.lastAck.IsZero() {
			p.longest = max(p.longest, now.Sub(p.lastAck))
		}
		p.lastAck = now
	})
}

// consume is one member of the group. It expects of each partition, from one
// assignment to the next, one offset after the other.
func (l *Load) consume(ctx context.Context) {
	var mu sync.Mutex
	next := make(map[*partitionLedger]int64)
	forget := func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
		mu.Lock()
		defer mu.Unlock()
		for topic, list := range gone {
			for _, n := range list {
				delete(next, l.index[topic][n])
			}
		}
	}
	cl, err := l.client(kgo.ConsumerGroup(loadGroup), kgo.ConsumeTopics(slices.Sorted(maps.Keys(l.index))...),
		kgo.ConsumeResetOffset(kgo.NoResetOffset().AtStart()), kgo.AutoCommitInterval(500*time.Millisecond), kgo.SessionTimeout(20*time.Second),
		kgo.OnPartitionsLost(forget), kgo.OnPartitionsRevoked(func(ctx context.Context, cl *kgo.Client, gone map[string][]int32) {
			// Without it what was polled last is read again.
			_ = cl.CommitMarkedOffsets(ctx) // a commit that fails is seen by the check of commits
			forget(ctx, cl, gone)
		}),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(5*time.Second), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		l.fail("group: %v", err)
		return
	}
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = cl.LeaveGroupContext(leaving) // of no use where the cluster is broken
		cl.CloseAllowingRebalance()
	}()
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachError(func(topic string, n int32, err error) {
			var session *kgo.ErrGroupSession
			switch {
			case ctx.Err() != nil:
			case l.brutal.Load() && errors.As(err, &session):
				// A note that the client will join again: it met a broker that is not there.
			default:
				l.fail("fetch %s-%d: %v", topic, n, err)
			}
		})
		mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			p := l.index[r.Topic][r.Partition]
			if want, ok := next[p]; ok && r.Offset != want {
				l.fail("fetch %s-%d: offset %d after %d", r.Topic, r.Partition, r.Offset, want-1)
			}
			next[p] = r.Offset + 1
			l.see(p, r)
		})
		mu.Unlock()
	}
}

// see notes what an offset shows: for ever the same.
func (l *Load) see(p *partitionLedger, r *kgo.Record) {
	number := binary.BigEndian.Uint64(r.Value)
	p.mu.Lock()
	had, again := p.shown[r.Offset]
	p.shown[r.Offset] = number
	p.mu.Unlock()
	if again && had != number {
		l.fail("%s-%d offset %d shows record %d and then record %d", p.topic, p.partition, r.Offset, had, number)
	}
}

// watchCommits asks for the group's offsets again and again: none goes back.
func (l *Load) watchCommits(ctx context.Context) {
	cl, err := l.client(kgo.MetadataMinAge(100 * time.Millisecond))
	if err != nil {
		l.fail("watch commits: %v", err)
		return
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		asked, cancel := context.WithTimeout(ctx, 5*time.Second)
		offsets, err := adm.FetchOffsets(asked, loadGroup)
		cancel()
		if err != nil { // of a client that gives up sooner than others do
			l.mu.Lock()
			l.away++
			l.mu.Unlock()
			continue
		}
		l.compareCommits(offsets)
	}
}

func (l *Load) compareCommits(offsets kadm.OffsetResponses) {
	for topic, parts := range l.index {
		for n, p := range parts {
			o, ok := offsets.Lookup(topic, n)
			p.mu.Lock()
			before := p.committed
			switch {
			case ok && o.Err == nil:
				p.committed = max(before, o.At)
			case ok:
				o.At = before // not told
			default:
				o.At = -1
			}
			p.mu.Unlock()
			if o.At < before {
				l.fail("group offset of %s-%d went back from %d to %d", topic, n, before, o.At)
			}
		}
	}
}

// Acked is the number of records acked so far.
func (l *Load) Acked() (n int) {
	for _, p := range l.parts {
		p.mu.Lock()
		for _, offset := range p.acked {
			if offset >= 0 {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

// LongestGap is the longest time in which a partition acked nothing, since it
// was last asked.
func (l *Load) LongestGap() time.Duration {
	var longest time.Duration
	for _, p := range l.parts {
		p.mu.Lock()
		longest = max(longest, p.longest)
		p.longest = 0
		p.mu.Unlock()
	}
	return longest
}

// AwaitProgress returns when every partition has acked another record.
func (l *Load) AwaitProgress(ctx context.Context, t testing.TB, within time.Duration) {
	t.Helper()
	since := time.Now()
	await(ctx, t, within, func() error {
		for _, p := range l.parts {
			p.mu.Lock()
			last := p.lastAck
			p.mu.Unlock()
			if !last.After(since) {
				return fmt.Errorf("%s-%d has acked nothing for %s", p.topic, p.partition, time.Since(last).Round(time.Millisecond))
			}
		}
		return nil
	})
}

// CreateReplicated makes a topic, once all brokers that it needs are there.
func CreateReplicated(ctx context.Context, t testing.TB, seeds []string, topic string, partitions int32, replicas int16, settings ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	configs := make(map[string]*string)
	for i := 0; i < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	await(ctx, t, time.Minute, func() error {
		_, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, replicas, configs, topic)
		if err != nil && !errors.Is(err, kerr.InvalidReplicationFactor) && !kerr.IsRetriable(err) {
			t.Fatalf("create topic %s: %v", topic, err)
		}
		return err
	})
}

// await asks until there is no error.
func await(ctx context.Context, t testing.TB, within time.Duration, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after %s: %v", within, err)
		}
	}
}

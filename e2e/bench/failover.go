package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// prober writes a record to each partition, the next a while after the last was
// acked, and notes how long acks took.
type prober struct {
	cl      *kgo.Client
	topic   string
	every   time.Duration
	stop    context.CancelFunc
	all     sync.WaitGroup
	mu      sync.Mutex
	since   time.Time
	slowest []time.Duration // by partition, of acks since since
	errors  []error
}

func (g *group) probe(ctx context.Context, topic string, partitions int, every time.Duration) (*prober, error) {
	p := &prober{topic: topic, every: every, slowest: make([]time.Duration, partitions)}
	var err error
	p.cl, err = g.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.StopProducerOnDataLossDetected(), kgo.ProducerLinger(2*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		return nil, err
	}
	ctx, p.stop = context.WithCancel(ctx)
	for n := range partitions {
		p.all.Go(func() {
			select { // spread over the first round
			case <-time.After(every * time.Duration(n) / time.Duration(partitions)):
			case <-ctx.Done():
			}
			for ctx.Err() == nil {
				p.once(ctx, n)
			}
		})
	}
	return p, nil
}

func (p *prober) once(ctx context.Context, n int) {
	sent := time.Now()
	err := p.cl.ProduceSync(context.WithoutCancel(ctx), &kgo.Record{Topic: p.topic, Partition: int32(n), Value: make([]byte, 100)}).FirstErr()
	p.mu.Lock()
	now := time.Now()
	if err != nil {
		p.errors = append(p.errors, err)
	} else if from := later(sent, p.since); now.After(p.since) && now.Sub(from) > p.slowest[n] {
		p.slowest[n] = now.Sub(from)
	}
	p.mu.Unlock()
	select {
	case <-time.After(p.every):
	case <-ctx.Done():
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// begin counts from now on; what is on its way counts from now.
func (p *prober) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
	clear(p.slowest)
}

// end waits until everything is acked and returns how long each partition
// waited at most.
func (p *prober) end() ([]time.Duration, []error) {
	p.stop()
	p.all.Wait()
	p.cl.Close()
	return p.slowest, p.errors
}

// failoverRows kill the broker that leads a third of the partitions, and stop it.
func failoverRows(ctx context.Context, b *bench) error {
	const topic = "failover"
	g, err := b.startGroup(ctx, "failover", nil)
	if err != nil {
		return err
	}
	defer g.end(ctx)
	if err := g.createTopic(ctx, topic, int32(b.topics), map[string]string{"min.insync.replicas": "2"}); err != nil {
		return fmt.Errorf("%w\n%s", err, g.logs())
	}
	for _, c := range []struct {
		name, want string
		end        func(ctx context.Context, id int32) error
	}{
		{"controlled shutdown", "300 ms", func(ctx context.Context, id int32) error { return g.Broker(id).Stop(ctx) }},
		{"kill -9", "4000 ms", func(_ context.Context, id int32) error { return g.Broker(id).Kill() }},
	} {
		if err := b.failoverRow(ctx, g, topic, c.name, c.want, c.end); err != nil {
			return fmt.Errorf("%w\n%s", err, g.logs())
		}
	}
	return nil
}

// settle is how long the load runs before it counts, and after a broker has gone.
const settle = 12 * time.Second

func (b *bench) failoverRow(ctx context.Context, g *group, topic, name, want string, end func(context.Context, int32) error) error {
	const victim = 2
	leaders, err := g.leaders(ctx, topic)
	if err != nil {
		return err
	}
	p, err := g.probe(ctx, topic, b.topics, 500*time.Millisecond)
	if err != nil {
		return err
	}
	wait(ctx, settle)
	p.begin()
	wait(ctx, settle/4)
	p.mu.Lock()
	b.latency(fmt.Sprintf("ack of %d partitions before, slowest of each", b.topics), "", p.slowest)
	p.mu.Unlock()
	p.begin()
	err = end(ctx, victim)
	wait(ctx, settle)
	slowest, failed := p.end()
	if err != nil {
		return err
	}
	var led, followed []time.Duration
	for n, took := range slowest {
		if leaders[int32(n)] == victim {
			led = append(led, took)
		} else {
			followed = append(followed, took)
		}
	}
	b.latency(fmt.Sprintf("%s, %d partitions it led, unavailable for", name, len(led)), want, led)
	b.latency(fmt.Sprintf("%s, %d partitions it followed, unavailable for", name, len(followed)), want, followed)
	b.add(row{Name: name + ", errors that clients saw", Value: float64(len(failed)), Unit: "errors", Want: "0"})
	if len(failed) > 0 {
		fmt.Println("first error:", failed[0])
	}
	if err := g.Broker(victim).Start(ctx); err != nil {
		return err
	}
	return g.electPreferred(ctx, topic)
}

// latency adds a row of percentiles and the longest.
func (b *bench) latency(name, want string, took []time.Duration) {
	b.add(row{Name: name, P50: percentile(took, 0.50), P99: percentile(took, 0.99), Value: percentile(took, 1), Unit: "ms max", Want: want})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (g *group) leaders(ctx context.Context, topic string) (map[int32]int32, error) {
	cl, err := g.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	topics, err := kadm.NewClient(cl).ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	leaders := make(map[int32]int32)
	for _, p := range topics[topic].Partitions {
		leaders[p.Partition] = p.Leader
	}
	return leaders, nil
}

// electPreferred waits until all replicas are in sync and gives leadership back.
func (g *group) electPreferred(ctx context.Context, topic string) error {
	leaders, err := g.leaders(ctx, topic)
	if err != nil {
		return err
	}
	if err := g.awaitSynced(ctx, topic, len(leaders)); err != nil {
		return err
	}
	cl, err := g.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).ElectLeaders(ctx, kadm.ElectPreferredReplica, nil)
	return err
}

// etcdRows count what etcd has to write while a thousand partitions are written
// at two rates.
func etcdRows(ctx context.Context, b *bench) error {
	const topic = "steady"
	g, err := b.startGroup(ctx, "etcd", nil)
	if err != nil {
		return err
	}
	defer g.end(ctx)
	if err := g.createTopic(ctx, topic, int32(b.topics), map[string]string{"min.insync.replicas": "2"}); err != nil {
		return fmt.Errorf("%w\n%s", err, g.logs())
	}
	for _, every := range []time.Duration{time.Second, 200 * time.Millisecond} {
		p, err := g.probe(ctx, topic, b.topics, every)
		if err != nil {
			return err
		}
		wait(ctx, settle)
		before, start := g.Etcd.Writes(), time.Now()
		wait(ctx, time.Minute)
		writes, took := g.Etcd.Writes()-before, time.Since(start)
		if _, failed := p.end(); len(failed) > 0 {
			return fmt.Errorf("%w\n%s", failed[0], g.logs())
		}
		b.add(row{Name: fmt.Sprintf("etcd writes, %d partitions, about %.0f records/s", b.topics, float64(b.topics)/every.Seconds()),
			Value: float64(writes) / took.Minutes(), Unit: "/min"})
	}
	return nil
}

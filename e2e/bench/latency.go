package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// latencyRows measure the time from a franz-go producer to a franz-go consumer,
// acks=all, at fixed rates.
func latencyRows(ctx context.Context, b *bench) error {
	p, err := b.startBroker(ctx, "latency", nil)
	if err != nil {
		return err
	}
	defer p.end()
	for _, rate := range []int{1000, 10000} {
		topic := fmt.Sprintf("latency-%d", rate)
		if err := createTopic(ctx, p.Kafka(), topic, 6, nil); err != nil {
			return err
		}
		took, err := endToEnd(ctx, p.Kafka(), topic, rate, b.length)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.Log())
		}
		b.add(row{Name: fmt.Sprintf("end to end, franz-go, %d records/s", rate), P50: percentile(took, 0.50), P99: percentile(took, 0.99), Want: "1.5 / 8 ms"})
	}
	return nil
}

// endToEnd sends 1 KiB records at a rate, each with its time of sending, and
// returns how long each took to its consumer. The first second does not count.
func endToEnd(ctx context.Context, addr, topic string, rate int, length time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, length+30*time.Second)
	defer cancel()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	const warmUp = time.Second
	total := int((length + warmUp).Seconds() * float64(rate))
	begin := time.Now()
	var sending sync.WaitGroup
	var sendErr error
	sending.Go(func() { sendErr = sendAtRate(ctx, producer, begin, rate, total) })
	var took []time.Duration
	for seen := 0; seen < total; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			cancel()
			sending.Wait()
			return nil, err
		}
		now := time.Since(begin)
		fetches.EachRecord(func(r *kgo.Record) {
			seen++
			sent := time.Duration(binary.BigEndian.Uint64(r.Value))
			if sent > warmUp {
				took = append(took, now-sent)
			}
		})
	}
	sending.Wait()
	return took, sendErr
}

// sendAtRate sends what is due each half millisecond.
func sendAtRate(ctx context.Context, producer *kgo.Client, begin time.Time, rate, total int) error {
	var mu sync.Mutex
	var failed error
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for sent := 0; sent < total; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		for due := min(int(time.Since(begin).Seconds()*float64(rate)), total); sent < due; sent++ {
			value := make([]byte, recordBytes)
			binary.BigEndian.PutUint64(value, uint64(time.Since(begin)))
			producer.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			})
		}
	}
	if err := producer.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// idempotent makes a producer that never gives up and never begins anew when it
// is told that its records are gone.
func (w *world) idempotent(ctx context.Context, host string, opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := w.client(host, append([]kgo.Opt{
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(5 * time.Millisecond), kgo.MaxBufferedRecords(300),
		kgo.UnknownTopicRetries(-1), kgo.StopProducerOnDataLossDetected(),
	}, opts...)...)
	if err != nil {
		return nil, err
	}
	// franz-go asks for its id under a mutex, for which a second of its goroutines
	// must not wait: virtual time would stand still.
	for {
		if _, _, err = cl.ProducerID(ctx); err == nil {
			return cl, nil
		}
		if ctx.Err() != nil {
			cl.Close()
			return nil, err
		}
	}
}

// produce sends numbered records until ctx ends, notes the acks, and waits for
// the last of them.
func (w *world) produce(ctx context.Context, producer uint32, every time.Duration) error {
	cl, err := w.idempotent(ctx, fmt.Sprintf("producer-%d", producer), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	rng := rand.New(rand.NewPCG(w.seed, uint64(producer)))
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(healTime, cancel) })()
	for n := uint32(0); ctx.Err() == nil; n++ {
		w.send(last, cl, item{producer, n}, &kgo.Record{Value: item{producer, n}.value(rng.IntN(900))})
		select {
		case <-time.After(time.Duration(rng.Int64N(int64(2 * every)))):
		case <-ctx.Done():
		}
	}
	if err := cl.Flush(last); err != nil {
		return fmt.Errorf("%d records of producer %d are not acked %v after all faults healed: %w", cl.BufferedProduceRecords(), producer, healTime, err)
	}
	return nil
}

func (w *world) send(ctx context.Context, cl *kgo.Client, r item, rec *kgo.Record) {
	cl.Produce(ctx, rec, func(rec *kgo.Record, err error) {
		switch {
		case err == nil:
			w.h.ack(place{rec.Topic, rec.Partition, rec.Offset}, r)
		case ctx.Err() == nil && !errors.Is(err, kgo.ErrClientClosed):
			w.h.fail("record %v was refused: %v", r, err)
		}
	})
}

// produceSome fills a topic that may be deleted at any time.
func (w *world) produceSome(ctx context.Context, name string, producer uint32, n int) {
	cl, err := w.idempotent(ctx, "producer-1", kgo.DefaultProduceTopic(name))
	if err != nil {
		return // no broker answered
	}
	defer cl.Close()
	for i := range n {
		w.send(ctx, cl, item{producer, uint32(i)}, &kgo.Record{Value: item{producer, uint32(i)}.value(2000)})
	}
	_ = cl.Flush(ctx) // what is acked by then counts
}

// read reads a topic from the beginning, for so long, and then again with a new
// client. The old ones rest until all is over: closing one holds a lock while it
// waits for requests under way, and virtual time would stand still.
func (w *world) read(ctx context.Context, host string, each time.Duration, opts ...kgo.Opt) error {
	spinning := &fetchRate{h: w.h, who: host}
	for round := 1; ctx.Err() == nil; round++ {
		from := make(map[int32]kgo.Offset)
		for n := range int32(partitions) {
			from[n] = kgo.NewOffset().At(0)
		}
		cl, err := w.client(host, append([]kgo.Opt{
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
			kgo.WithHooks(spinning),
		}, opts...)...)
		if err != nil {
			return err
		}
		defer cl.Close()
		name := fmt.Sprintf("%s round %d", host, round)
		bounded, cancel := context.WithTimeout(ctx, each)
		for bounded.Err() == nil {
			w.shown(name, cl.PollFetches(bounded), func(at place, r item) { w.h.read(name, 0, at, r) })
		}
		cancel()
		cl.PauseFetchTopics(topic)
	}
	return nil
}

// fetchRate complains of a client that is sent back and forth, or fetches in
// vain, without an end. It may do so for a while: franz-go does not pause while
// one partition of a broker has news, or an error, and another has not.
type fetchRate struct {
	h     *history
	who   string
	mu    sync.Mutex
	since time.Time // of this second
	n     int       // in this second
	calm  time.Time // the last second that was calm
}

const (
	// mostFetches is far above what a reader needs in a second, who waits for
	// news and gets many records at a time.
	mostFetches = 300
	// longestSpin is more than any fault takes.
	longestSpin = 15 * time.Second
)

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (f *fetchRate) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, _ kgo.BrokerE2E) {
	if key != int16(kmsg.Fetch) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.since) >= time.Second {
		if f.n < mostFetches {
			f.calm = now
		}
		f.since, f.n = now, 0
	}
	if f.n++; f.n == mostFetches && f.since.Sub(f.calm) >= longestSpin {
		f.h.fail("%s sent more than %d fetches a second for %v", f.who, mostFetches, f.since.Sub(f.calm))
		f.calm = f.since
	}
}

// shown notes what a poll returned, and complains of a reader that is told that
// its place is gone: nothing here ever goes.
func (w *world) shown(who string, fetches kgo.Fetches, note func(at place, r item)) {
	w.records(who, fetches, note)
	fetches.EachError(func(name string, n int32, err error) {
		var lost *kgo.ErrDataLoss
		if errors.As(err, &lost) || errors.Is(err, kerr.OffsetOutOfRange) {
			w.h.fail("%s was told that %s-%d lost records: %v", who, name, n, err)
		}
	})
}

func (w *world) records(who string, fetches kgo.Fetches, note func(at place, r item)) {
	fetches.EachRecord(func(rec *kgo.Record) {
		at := place{rec.Topic, rec.Partition, rec.Offset}
		r, ok := parseRecord(rec.Value)
		if !ok {
			w.h.fail("%s saw %d bytes at %v that nobody wrote", who, len(rec.Value), at)
			return
		}
		note(at, r)
	})
}

package scenario

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Store is an object store that can be taken away for a while.
type Store interface {
	Stop() error
	Start(ctx context.Context) error
}

// StoreDown takes the object store away for so long while it produces: no
// producer may see an error, uploads must catch up, and nothing may be lost.
func StoreDown(ctx context.Context, t testing.TB, b Broker, s Store, away time.Duration) {
	const topic = "store-down"
	CreateTopic(ctx, t, b.Kafka(), topic, 3, "internal.segment.bytes", "262144", "local.retention.bytes", "1")
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka()), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	sent, slowest := 0, time.Duration(0)
	const enough = 3000 // for a sealed segment in each partition, on a slow machine too
	value := make([]byte, 1024)
	for end := time.Now().Add(away); sent < enough || time.Now().Before(end); sent++ {
		begin := time.Now()
		if err := cl.ProduceSync(ctx, &kgo.Record{Key: fmt.Append(nil, sent), Value: value}).FirstErr(); err != nil {
			t.Fatalf("produce while the store is down: %v", err)
		}
		slowest = max(slowest, time.Since(begin))
	}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	awaitTiered(ctx, t, b, topic, 3)
	r := readAll(ctx, t, b.Kafka(), topic, newDigests())
	got := int64(0)
	for _, p := range r.parts {
		got += p.count
	}
	if got != int64(sent) {
		t.Errorf("%d records acked while the store was down, %d there", sent, got)
	}
	t.Logf("%d records in %s without the store, slowest ack %s, all uploaded and read back", sent, away, slowest.Round(time.Microsecond))
}

// DiskFull fills the broker's disk: produce must get a retriable error, reads
// must go on, and after free has made room everything acked must be there and
// produce must work again.
func DiskFull(ctx context.Context, t testing.TB, b Broker, free func()) {
	const topic = "disk-full"
	CreateTopic(ctx, t, b.Kafka(), topic, 1, "segment.bytes", "1048576", "remote.storage.enable", "false")
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka()), kgo.DefaultProduceTopic(topic), kgo.RecordRetries(0), kgo.DisableIdempotentWrite(),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	value := make([]byte, 64<<10)
	acked := int64(0)
	var full error
	for full == nil {
		if full = cl.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); full == nil {
			acked++
		}
	}
	var ke *kerr.Error
	if !errors.As(full, &ke) || !ke.Retriable {
		t.Fatalf("full disk gives %v, want a retriable error of Kafka's", full)
	}
	read := func() int64 {
		r := readAll(ctx, t, b.Kafka(), topic, newDigests())
		return r.parts[0].count
	}
	if n := read(); n != acked {
		t.Errorf("with the disk full: %d records acked, %d there", acked, n)
	}
	free()
	deadline, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for cl.ProduceSync(deadline, &kgo.Record{Value: []byte("room again")}).FirstErr() != nil {
		if deadline.Err() != nil {
			t.Fatalf("room was made and produce still fails\n%s", b.Log())
		}
	}
	if n := read(); n != acked+1 {
		t.Errorf("after room was made: %d records acked, %d there", acked+1, n)
	}
	t.Logf("full after %d records with %s; reads went on; healed", acked, ke.Message)
}

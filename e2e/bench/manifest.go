package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	manifestTopic = "manifest"
	// What makes the real segments: so many batches of so many empty records, a second apart.
	manifestBatches, manifestRecords = 300, 10_000
	manifestStarts                   = 3
	manifestSeeks                    = 300
)

// manifestFigures are those of a partition with so many entries in its manifest.
type manifestFigures struct {
	entries          int
	start            []time.Duration // to /readyz
	firstOffset      []time.Duration // seeks right after a start: nothing is cached
	firstTime        []time.Duration
	byOffset, byTime []time.Duration
	produce          row
	resident         float64
}

// manifestRows compare a partition of 10 segments in the tier with one of
// --entries. Its manifest is synthetic; the object store, a directory, and all
// brokers are real. A cluster restored from that bucket is what is measured.
func manifestRows(ctx context.Context, b *bench) error {
	var few manifestFigures
	for _, n := range []int{10, b.entries} {
		f, err := b.manifest(ctx, n)
		if err != nil {
			return fmt.Errorf("%d entries: %w", n, err)
		}
		f.add(b, few)
		few = f
	}
	return nil
}

func (b *bench) manifest(ctx context.Context, n int) (f manifestFigures, err error) {
	f.entries = n
	dir := filepath.Join(b.dir, fmt.Sprint(n))
	url := "file://" + filepath.Join(dir, "store")
	if err := b.seedManifest(ctx, filepath.Join(dir, "seed"), url); err != nil {
		return f, err
	}
	store, err := object.Open(ctx, url, object.Options{})
	if err != nil {
		return f, err
	}
	defer store.Close()
	real, err := growManifest(ctx, store, manifestTopic, n)
	if err != nil {
		return f, err
	}
	data := filepath.Join(dir, "broker")
	restore := exec.CommandContext(ctx, b.broker, "cluster", "restore", "--store", url, "--data-dir", data, "--brokers", "1", "--force")
	if out, err := restore.CombinedOutput(); err != nil {
		return f, fmt.Errorf("restore: %w\n%s", err, out)
	}
	p, err := b.startAt(ctx, cluster.Options{Dir: data, StoreURL: url})
	if err != nil {
		return f, err
	}
	defer p.end()
	// The restored leader takes what the tier has before it leads.
	if _, err := p.awaitTier(ctx, manifestTopic, func(console.TierPartition) bool { return true }); err != nil {
		return f, err
	}
	if err := f.starts(ctx, p, real); err != nil {
		return f, fmt.Errorf("%w\n%s", err, p.Log())
	}
	if err := seeks(ctx, p, real, manifestSeeks, seekOffset, &f.byOffset); err != nil {
		return f, fmt.Errorf("%w\n%s", err, p.Log())
	}
	if err := seeks(ctx, p, real, manifestSeeks, seekTime, &f.byTime); err != nil {
		return f, fmt.Errorf("%w\n%s", err, p.Log())
	}
	if err := p.alterTopic(ctx, manifestTopic, "segment.bytes", "16777216"); err != nil {
		return f, err
	}
	load := produceLoad{topic: manifestTopic, partitions: 1, records: 63, conns: 1, inFlight: 5, acks: -1}
	if _, err := load.run(ctx, p.Kafka(), b.length/4); err != nil { // warm up
		return f, fmt.Errorf("%w\n%s", err, p.Log())
	}
	f.produce, err = b.measured(ctx, p, row{}, func() (result, error) { return load.run(ctx, p.Kafka(), b.length) })
	if err != nil {
		return f, err
	}
	now, _, err := p.memory()
	f.resident = float64(now)
	return f, err
}

// seedManifest lets a broker of its own make the real segments, each batch a
// second younger than the one before.
func (b *bench) seedManifest(ctx context.Context, dir, url string) error {
	p, err := b.startAt(ctx, cluster.Options{Dir: dir, StoreURL: url})
	if err != nil {
		return err
	}
	defer p.end()
	if err := p.createTopic(ctx, manifestTopic, 1, 1<<20, nil); err != nil {
		return err
	}
	s, err := dial(ctx, p.Kafka(), 1)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	first := time.Now().Add(-time.Hour).UnixMilli()
	for i := range int64(manifestBatches) {
		batch := record.NewBuilder(record.BuilderOptions{})
		for range manifestRecords {
			batch.Append(first+1000*i, nil, nil)
		}
		if _, err := s.conn.Write(produceFrame(manifestTopic, 0, 1, batch.Build())); err != nil {
			return err
		}
		if err := s.answer(readProduced); err != nil {
			return err
		}
	}
	if _, err := p.awaitTier(ctx, manifestTopic, func(console.TierPartition) bool { return true }); err != nil {
		return err
	}
	return p.Stop(ctx)
}

// starts starts the broker again and again; the first seek of each finds nothing cached.
func (f *manifestFigures) starts(ctx context.Context, p *process, real []manifest.Entry) error {
	for i := range 2 * manifestStarts {
		if err := p.Stop(ctx); err != nil {
			return err
		}
		if err := p.start(ctx); err != nil {
			return err
		}
		f.start = append(f.start, p.ready)
		seek, to := seekOffset, &f.firstOffset
		if i%2 == 1 {
			seek, to = seekTime, &f.firstTime
		}
		if err := seeks(ctx, p, real, 1, seek, to); err != nil {
			return err
		}
	}
	return nil
}

// seeks looks for random places in the real entries.
func seeks(ctx context.Context, p *process, real []manifest.Entry, n int, seek func(*stream, manifest.Entry) error, took *[]time.Duration) error {
	s, err := dial(ctx, p.Kafka(), 1)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	for range n {
		e := real[rand.IntN(len(real))]
		start := time.Now()
		err := seek(s, e)
		for kerr.IsRetriable(err) && time.Since(start) < 10*time.Second { // it leads a moment after it is ready
			err = seek(s, e)
		}
		if err != nil {
			return err
		}
		*took = append(*took, time.Since(start))
	}
	return nil
}

// seekOffset reads the first batch from an offset of e on.
func seekOffset(s *stream, e manifest.Entry) error {
	f := fetchLoad{Topic: manifestTopic, Partitions: 1, MaxBytes: 1}.fetcher(0)
	at := &f.parts[0]
	offset := e.BaseOffset + rand.Int64N(e.LastOffset-e.BaseOffset+1)
	for at.offset, at.end = offset, math.MaxInt64; f.bytes == 0; {
		if _, err := s.conn.Write(f.next(0)); err != nil {
			return err
		}
		if err := s.answer(f.read); err != nil {
			return fmt.Errorf("fetch from offset %d: %w", offset, err)
		}
	}
	if at.offset <= offset || at.offset > offset+manifestRecords {
		return fmt.Errorf("a fetch from offset %d led to %d", offset, at.offset)
	}
	return nil
}

// seekTime asks for the offset of e's highest timestamp.
func seekTime(s *stream, e manifest.Entry) error {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 4, -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = manifestTopic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp = e.MaxTimestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	if _, err := s.conn.Write(frame("bench", req)); err != nil {
		return err
	}
	return s.answer(func(r *bufio.Reader, size int) error {
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		resp := kmsg.NewPtrListOffsetsResponse()
		resp.Version = req.Version
		if err := resp.ReadFrom(body); err != nil {
			return err
		}
		got := resp.Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
			return err
		}
		if got.Offset != e.MaxTimestampOffset {
			return fmt.Errorf("time %d is at offset %d, want %d", e.MaxTimestamp, got.Offset, e.MaxTimestampOffset)
		}
		return nil
	})
}

// add makes rows of f, beside those of few unless that is empty.
func (f *manifestFigures) add(b *bench, few manifestFigures) {
	name := func(what string) string { return fmt.Sprintf("%s, %d segments in the tier", what, f.entries) }
	for _, c := range []struct {
		what    string
		of, few []time.Duration
	}{
		{"start", f.start, few.start},
		{"first seek by offset after a start", f.firstOffset, few.firstOffset},
		{"first seek by time after a start", f.firstTime, few.firstTime},
		{"seek by offset", f.byOffset, few.byOffset},
		{"seek by time", f.byTime, few.byTime},
	} {
		r := row{Name: name(c.what), P50: percentile(c.of, 0.50), P99: percentile(c.of, 0.99)}
		if len(c.few) > 0 {
			r.Want = fmt.Sprintf("p50 %.2f ms", percentile(c.few, 0.50))
		}
		b.add(r)
	}
	f.produce.Name = name("produce 64 KiB batches, 1 x 5, 16 MiB segments")
	if few.produce.MBps > 0 {
		f.produce.Limit, f.produce.LimitMB = fmt.Sprintf("%d segments", few.entries), few.produce.MBps
	}
	b.add(f.produce)
	b.add(row{Name: name("RSS"), Value: f.resident / 1e6, Unit: "MB", Want: figure(few.resident/1e6, "%.1f MB")})
}

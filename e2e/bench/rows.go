package main

import (
	"context"
	"fmt"
	"time"
)

// produceRows are the produce rows of the peers' table, each synced.
func produceRows(ctx context.Context, b *bench) error {
	p, err := b.startBroker(ctx, "produce", nil)
	if err != nil {
		return err
	}
	defer p.end()
	for i, c := range []struct {
		name  string
		load  produceLoad
		limit int
		want  string
	}{
		{"produce 64 KiB batches, 4 x 5, 6 partitions", produceLoad{partitions: 6, records: 63, conns: 4, inFlight: 5}, 64 << 10, "ratio 0.7"},
		{"produce 512 KiB batches, 4 x 5, 6 partitions", produceLoad{partitions: 6, records: 510, conns: 4, inFlight: 5}, 1 << 20, "405-490 MB/s"},
		{"produce 64 KiB batches, 1 x 5, 1 partition", produceLoad{partitions: 1, records: 63, conns: 1, inFlight: 5}, 64 << 10, "120 MB/s"},
		{"produce 1 KiB records, 4 x 5, 6 partitions", produceLoad{partitions: 6, records: 1, conns: 4, inFlight: 5}, 16 << 10, "17 MB/s"},
	} {
		if !b.row.MatchString(c.name) {
			continue
		}
		c.load.topic, c.load.acks = fmt.Sprintf("produce-%d", i), -1
		if err := createTopic(ctx, p.Kafka(), c.load.topic, int32(c.load.partitions), nil); err != nil {
			return err
		}
		if _, err := c.load.run(ctx, p.Kafka(), b.length/4); err != nil { // warm up
			return fmt.Errorf("%w\n%s", err, p.Log())
		}
		r, err := b.measured(ctx, p, row{Name: c.name, Want: c.want}, func() (result, error) { return c.load.run(ctx, p.Kafka(), b.length) })
		if err != nil {
			return err
		}
		limit, err := syncLoop(ctx, b.dir, c.limit, b.length)
		if err != nil {
			return err
		}
		r.Limit, r.LimitMB = fmt.Sprintf("recv+crc+write+fdatasync %d KiB", c.limit>>10), limit/1e6
		b.add(r)
	}
	return nil
}

// fill produces about n bytes of 64 KiB batches to one topic.
func fill(ctx context.Context, p *process, topic string, partitions int, n int64) error {
	load := produceLoad{topic: topic, partitions: partitions, records: 63, conns: 4, inFlight: 5, acks: 1}
	for done := int64(0); done < n; {
		res, err := load.run(ctx, p.Kafka(), 500*time.Millisecond)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.Log())
		}
		done += res.bytes
	}
	return nil
}

func fetchRows(ctx context.Context, b *bench) error {
	p, err := b.startBroker(ctx, "fetch", nil)
	if err != nil {
		return err
	}
	defer p.end()
	if err := createTopic(ctx, p.Kafka(), "fetch", 4, nil); err != nil {
		return err
	}
	if err := fill(ctx, p, "fetch", 4, 1<<30); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		load fetchLoad
		want string
	}{
		{"hot fetch 1 MiB, 4 connections", fetchLoad{Conns: 4, MaxBytes: 1 << 20}, "ratio 0.7"},
		{"hot fetch 1 MiB, 1 connection", fetchLoad{Conns: 1, MaxBytes: 1 << 20}, "561 MB/s"},
		{"hot fetch 8 MiB, 1 connection", fetchLoad{Conns: 1, MaxBytes: 8 << 20}, "1046 MB/s"},
	} {
		if !b.row.MatchString(c.name) {
			continue
		}
		c.load.Topic, c.load.Partitions = "fetch", 4
		r, err := b.measured(ctx, p, row{Name: c.name, Want: c.want}, func() (result, error) { return c.load.run(ctx, p.Kafka(), b.length) })
		if err != nil {
			return err
		}
		limit, err := sendfileLoop(ctx, b.dir, c.load.Conns, c.load.MaxBytes, b.length)
		if err != nil {
			return err
		}
		r.Limit, r.LimitMB = "sendfile", limit/1e6
		b.add(r)
	}
	return nil
}

// coldRows read one partition that is only in the object store (a directory),
// beside the same partition while it was hot.
func coldRows(ctx context.Context, b *bench) error {
	p, err := b.startBroker(ctx, "cold", map[string]string{"log.retention.check.interval.ms": "500", "remote.log.manager.task.interval.ms": "500"})
	if err != nil {
		return err
	}
	defer p.end()
	if err := p.fillTopic(ctx, "cold", 1, 64<<20, 1<<30); err != nil {
		return err
	}
	sizes := []int{1 << 20, 8 << 20}
	hot := make([]float64, len(sizes))
	for i, n := range sizes {
		res, err := fetchLoad{Topic: "cold", Partitions: 1, Conns: 1, MaxBytes: n}.run(ctx, p.Kafka(), b.length)
		if err != nil {
			return err
		}
		hot[i] = float64(res.bytes) / res.elapsed.Seconds() / 1e6
	}
	ends, err := p.evict(ctx, "cold")
	if err != nil {
		return err
	}
	for i, n := range sizes {
		load := fetchLoad{Topic: "cold", Partitions: 1, Conns: 1, MaxBytes: n, Ends: ends}
		r, err := b.measured(ctx, p, row{Name: fmt.Sprintf("cold fetch %d MiB, 1 connection, file://", n>>20), Want: "ratio 0.5"}, func() (result, error) {
			return load.run(ctx, p.Kafka(), b.length)
		})
		if err != nil {
			return err
		}
		r.Limit, r.LimitMB = "hot fetch", hot[i]
		b.add(r)
	}
	return nil
}

// idle measures an empty broker.
func idle(ctx context.Context, b *bench) error {
	p, err := b.startBroker(ctx, "idle", nil)
	if err != nil {
		return err
	}
	defer p.end()
	b.add(row{Name: "start, empty", Value: float64(p.ready.Milliseconds()), Unit: "ms", Want: "2000 ms"})
	cpu0, err := p.cpu()
	if err != nil {
		return err
	}
	start := time.Now()
	select {
	case <-time.After(max(b.length, 5*time.Second)):
	case <-ctx.Done():
		return ctx.Err()
	}
	cpu1, err := p.cpu()
	if err != nil {
		return err
	}
	now, _, err := p.memory()
	if err != nil {
		return err
	}
	b.add(row{Name: "idle CPU", Value: 100 * (cpu1 - cpu0).Seconds() / time.Since(start).Seconds(), Unit: "% of a core", Want: "2 %"})
	b.add(row{Name: "idle RSS, embedded etcd", Value: float64(now) / 1e6, Unit: "MB", Want: "120 MB"})
	return nil
}

// startRows restarts a broker with many partitions that hold data, after a
// clean stop and after a kill, up to the first produce.
func startRows(ctx context.Context, b *bench) error {
	p, err := b.startBroker(ctx, "start", nil)
	if err != nil {
		return err
	}
	defer p.end()
	const topic = "start"
	if err := createTopic(ctx, p.Kafka(), topic, int32(b.topics), nil); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	load := produceLoad{topic: topic, partitions: b.topics, records: 4, conns: 4, inFlight: 5, acks: -1}
	if _, err := load.run(ctx, p.Kafka(), b.length); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	for _, how := range []string{"clean stop", "kill -9"} {
		if how == "clean stop" {
			if err := p.Stop(ctx); err != nil {
				return fmt.Errorf("%w\n%s", err, p.Log())
			}
		} else {
			if err := p.Kill(); err != nil {
				return err
			}
		}
		start := time.Now()
		if err := p.start(ctx); err != nil {
			return err
		}
		one := load
		one.conns, one.inFlight = 1, 1
		if _, err := one.run(ctx, p.Kafka(), time.Nanosecond); err != nil {
			return fmt.Errorf("%w\n%s", err, p.Log())
		}
		b.add(row{Name: fmt.Sprintf("restart to first produce, %d partitions, %s", b.topics, how), Value: float64(time.Since(start).Milliseconds()), Unit: "ms", Want: "2000 ms"})
	}
	now, _, err := p.memory()
	if err != nil {
		return err
	}
	b.add(row{Name: fmt.Sprintf("RSS with %d partitions", b.topics), Value: float64(now) / 1e6, Unit: "MB"})
	return nil
}

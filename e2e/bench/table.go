package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// tablePartitions is how many partitions the table's topic has.
const tablePartitions = 8

// tableRows read what is in MinIO in the ways that groups do, beside the relay
// before and after each. Then they read again and again what a cache holds,
// beside the same records while they were hot. A group is a connection.
func tableRows(ctx context.Context, b *bench) error {
	t, err := b.startTier(ctx, nil)
	if err != nil {
		return err
	}
	defer t.end()
	ends, err := t.fillTier(ctx, "table", tablePartitions, 64<<20, b.data)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		load fetchLoad
	}{
		{"replay of 8 partitions by 1 group", fetchLoad{Partitions: tablePartitions, Each: tablePartitions, Conns: 1}},
		{"replay of 1 partition by 8 groups", fetchLoad{Partitions: 1, Conns: 8}},
		{"replay of 8 partitions by 8 groups", fetchLoad{Partitions: tablePartitions, Each: tablePartitions, Conns: 8}},
	} {
		c.load.Topic, c.load.MaxBytes, c.load.Ends = "table", 1<<20, ends
		if err := b.besideRelay(ctx, t, row{Name: c.name}, c.load); err != nil {
			return err
		}
	}
	if err := b.repeated(ctx, t, "memory", 96<<20); err != nil {
		return err
	}
	if err := t.Stop(ctx); err != nil {
		return err
	}
	// The memory cache at its smallest, so that what is read comes from the disk.
	err = b.startBeside(ctx, t, t.minio.Endpoint, map[string]string{
		"remote.cache.dir": filepath.Join(b.dir, "cache"), "remote.cache.bytes": "33554432", "remote.read.ahead.bytes": "16777216",
	})
	if err != nil {
		return err
	}
	return b.repeated(ctx, t, "disk", 1<<30)
}

// repeated reads some n bytes of one partition again and again from the cache
// that holds them all after the first time.
func (b *bench) repeated(ctx context.Context, t *tier, where string, n int64) error {
	r := row{Name: fmt.Sprintf("repeated replay from the %s cache, 1 MiB, 1 connection", where), Limit: "hot fetch"}
	if !b.row.MatchString(r.Name) {
		return nil
	}
	load := fetchLoad{Topic: "repeated-" + where, Partitions: 1, Conns: 1, MaxBytes: 1 << 20}
	if err := t.fillTopic(ctx, load.Topic, 1, 16<<20, n+64<<20); err != nil {
		return err
	}
	fits := map[int32]int64{0: n / (recordBytes + 64)}
	load.Ends = fits
	hot, err := load.run(ctx, t.Kafka(), b.length)
	if err != nil {
		return err
	}
	ends, err := t.evict(ctx, load.Topic)
	if err != nil {
		return err
	}
	if ends[0] < fits[0] {
		return fmt.Errorf("%d records in the tier, want %d", ends[0], fits[0])
	}
	if err := t.warmUp(ctx, load, n); err != nil {
		return err
	}
	r, err = b.measured(ctx, t.process, r, func() (result, error) { return load.run(ctx, t.Kafka(), b.length) })
	if err == nil {
		r.LimitMB = float64(hot.bytes) / hot.elapsed.Seconds() / 1e6
		b.add(r)
	}
	return err
}

// warmUp reads until the cache has what it reads, or has had its time: a cache
// on disk need not take all it is offered.
func (t *tier) warmUp(ctx context.Context, load fetchLoad, n int64) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		_, before, err := t.storeUse(ctx)
		if err != nil {
			return err
		}
		var read int64
		for read < n {
			res, err := load.run(ctx, t.Kafka(), time.Second)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, t.Log())
			}
			read += res.bytes
		}
		_, after, err := t.storeUse(ctx)
		if err != nil || after-before < float64(read)/100 {
			return err
		}
	}
	return nil
}

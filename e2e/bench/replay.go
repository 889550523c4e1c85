package main

import (
	"context"
	"fmt"
	"time"
)

// replaySizes are the answers that a consumer asks for, with what each row is
// to reach: three times Kafka's tiered read (BASELINES.md) beside the ratio.
var replaySizes = [...]struct {
	bytes int
	want  string
}{{1 << 20, "ratio 0.8, 3 x 298 MB/s"}, {8 << 20, "ratio 0.8, 3 x 377 MB/s"}}

// replayRows read one partition back from a real MinIO, each beside the relay
// right before and right after, and then from one that is 50 ms away.
func replayRows(ctx context.Context, b *bench) error {
	t, err := b.startTier(ctx, nil)
	if err != nil {
		return err
	}
	defer t.end()
	ends, err := t.fillTier(ctx, "replay", 1, 128<<20, b.data)
	if err != nil {
		return err
	}
	load := fetchLoad{Topic: "replay", Partitions: 1, Conns: 1, Ends: ends}
	for _, s := range replaySizes {
		load.MaxBytes = s.bytes
		name := fmt.Sprintf("replay from MinIO, %d MiB, 1 connection", s.bytes>>20)
		if err := b.besideRelay(ctx, t, row{Name: name, Want: s.want}, load); err != nil {
			return err
		}
	}
	// Through a proxy, which costs something itself, and the same 50 ms away.
	var near [len(replaySizes)]float64
	for _, away := range []time.Duration{0, 50 * time.Millisecond} {
		if err := t.Stop(ctx); err != nil {
			return err
		}
		proxy, err := startDistance(t.minio.Endpoint, away)
		if err != nil {
			return err
		}
		defer proxy.close()
		if err := b.startBeside(ctx, t, proxy.endpoint(), nil); err != nil {
			return err
		}
		for i, s := range replaySizes {
			r := row{Name: fmt.Sprintf("replay through a proxy, %v away, %d MiB, 1 connection", away, s.bytes>>20)}
			if away > 0 {
				r.Limit, r.LimitMB, r.Want = "0 ms away", near[i], "ratio 0.8"
			}
			if !b.row.MatchString(r.Name) {
				continue
			}
			load.MaxBytes = s.bytes
			r, err := b.measured(ctx, t.process, r, func() (result, error) { return load.run(ctx, t.Kafka(), b.length) })
			if err != nil {
				return err
			}
			near[i] = r.MBps
			b.add(r)
		}
	}
	return nil
}

// besideRelay measures a load of what is in MinIO, and the relay before and
// after it.
func (b *bench) besideRelay(ctx context.Context, t *tier, r row, load fetchLoad) error {
	if !b.row.MatchString(r.Name) {
		return nil
	}
	before, err := relay(ctx, t.minio, storeBucket, b.length)
	if err != nil {
		return err
	}
	r, err = b.measured(ctx, t.process, r, func() (result, error) { return load.run(ctx, t.Kafka(), b.length) })
	if err != nil {
		return err
	}
	after, err := relay(ctx, t.minio, storeBucket, b.length)
	if err != nil {
		return err
	}
	r.Limit, r.LimitMB = "relay", (before+after)/2e6
	r.Note = fmt.Sprintf("relay %.0f MB/s before, %.0f MB/s after", before/1e6, after/1e6)
	b.add(r)
	return nil
}

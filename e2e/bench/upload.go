package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// uploadRows copy sealed segments of one partition, and of four, to MinIO. They
// are filled while copying is switched off; the clock runs from when it is
// switched on, which the broker notices within half a second. The limit is this program putting files of that size with the
// same driver, one after the other.
func uploadRows(ctx context.Context, b *bench) error {
	t, err := b.startTier(ctx, nil)
	if err != nil {
		return err
	}
	defer t.end()
	for _, c := range []struct {
		name       string
		partitions int
		segment    int64
	}{
		{"upload of 64 MiB segments, 1 partition", 1, 64 << 20},
		{"upload of 64 MiB segments, 4 partitions", 4, 64 << 20},
		{"upload of 1 GiB segments, 1 partition", 1, 1 << 30},
	} {
		if !b.row.MatchString(c.name) {
			continue
		}
		topic := fmt.Sprintf("upload-%d-%d", c.partitions, c.segment>>20)
		r, err := b.upload(ctx, t, topic, c.partitions, c.segment)
		if err != nil {
			return err
		}
		limit, err := putLoop(ctx, t, b.dir, c.segment, b.length)
		if err != nil {
			return err
		}
		r.Name, r.Limit, r.LimitMB = c.name, "PUTs", limit/1e6
		b.add(r)
		if err := deleteTopic(ctx, t.Kafka(), topic); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) upload(ctx context.Context, t *tier, topic string, partitions int, segment int64) (row, error) {
	// The last segment of a partition is active and stays.
	n := max(b.data/2, 2*segment) + int64(partitions)*segment/2
	if err := t.createTopic(ctx, topic, partitions, segment, map[string]string{"remote.log.copy.disable": "true"}); err != nil {
		return row{}, err
	}
	if err := fill(ctx, t.process, topic, partitions, n); err != nil {
		return row{}, err
	}
	return b.measured(ctx, t.process, row{}, func() (res result, err error) {
		start := time.Now()
		if err := t.alterTopic(ctx, topic, "remote.log.copy.disable", "false"); err != nil {
			return res, err
		}
		if _, err := t.awaitTier(ctx, topic, func(p console.TierPartition) bool {
			return p.RemoteSegments > 0
		}); err != nil {
			return res, err
		}
		res.elapsed = time.Since(start)
		list, err := t.Tier(ctx)
		for _, p := range list {
			if p.Topic == topic {
				res.bytes += p.RemoteBytes
				res.requests += p.RemoteSegments
			}
		}
		return res, err
	})
}

// putLoop is the limit of uploads: one file after the other, as large as a
// segment, is CRC32C'd and put under a new name. It returns bytes per second.
func putLoop(ctx context.Context, t *tier, dir string, size int64, length time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "limit"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := makeBatch(1 << 10)
	for at := int64(0); at < size; at += int64(len(block)) {
		if _, err := f.Write(block[:min(int64(len(block)), size-at)]); err != nil {
			return 0, err
		}
	}
	store, err := object.Open(ctx, t.minio.MinIOURL("bench/limit"), object.Options{})
	if err != nil {
		return 0, err
	}
	defer store.Close()
	var total int64
	start := time.Now()
	for n := 0; n == 0 || time.Since(start) < length; n++ {
		sum, body := crc32.New(castagnoli), io.NewSectionReader(f, 0, size)
		if _, err := io.Copy(sum, body); err != nil {
			return 0, err
		}
		key := fmt.Sprintf("limit-%d", n)
		if _, err := store.Put(ctx, key, body, object.PutOptions{CRC32C: sum.Sum32(), HasCRC: true}); err != nil {
			return 0, err
		}
		total += size
		if err := store.Delete(ctx, key); err != nil {
			return 0, err
		}
	}
	return float64(total) / time.Since(start).Seconds(), nil
}

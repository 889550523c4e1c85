package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// replayBytes is how much of a topic is replayed: many times what caches hold.
const replayBytes = 2 << 30

// replayRows read one partition back from a real MinIO, beside the relay.
func replayRows(ctx context.Context, b *bench) error {
	minio, err := servers.StartMinIO(ctx, filepath.Join(b.dir, "minio"))
	if err != nil {
		return err
	}
	defer minio.Stop()
	if err := minio.CreateBucket(ctx, "bench"); err != nil {
		return err
	}
	p, err := b.startReplay(ctx, minio, minio.Endpoint)
	if err != nil {
		return err
	}
	defer func() { p.end() }()
	s := func(v string) *string { return &v }
	if err := createTopic(ctx, p.Kafka(), "replay", 1, map[string]*string{"segment.bytes": s("134217728")}); err != nil {
		return err
	}
	if err := fill(ctx, p, "replay", 1, replayBytes); err != nil {
		return err
	}
	if err := evict(ctx, p, "replay"); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	limit, err := relay(ctx, minio, b.length)
	if err != nil {
		return err
	}
	sizes := [2]int{1 << 20, 8 << 20}
	for _, n := range sizes {
		if _, err := b.replay(ctx, p, fmt.Sprintf("replay from MinIO, %d MiB, 1 connection", n>>20), n, "relay", limit/1e6); err != nil {
			return err
		}
	}
	// Through a proxy, which costs something itself, and the same 50 ms away.
	var near [2]float64
	for _, away := range []time.Duration{0, 50 * time.Millisecond} {
		if err := p.Stop(ctx); err != nil {
			return err
		}
		proxy, err := startDistance(minio.Endpoint, away)
		if err != nil {
			return err
		}
		defer proxy.close()
		if p, err = b.startReplay(ctx, minio, proxy.endpoint()); err != nil {
			return err
		}
		for i, n := range sizes {
			name := fmt.Sprintf("replay through a proxy, %v away, %d MiB, 1 connection", away, n>>20)
			r, err := b.replay(ctx, p, name, n, "0 ms away", near[i])
			if err != nil {
				return err
			}
			near[i] = r.MBps
		}
	}
	return nil
}

func (b *bench) replay(ctx context.Context, p *process, name string, n int, limit string, mbps float64) (row, error) {
	if !b.row.MatchString(name) {
		return row{}, nil
	}
	load := fetchLoad{topic: "replay", partitions: 1, conns: 1, maxBytes: n}
	r, err := measured(p, row{Name: name, Want: "ratio 0.8", Limit: limit, LimitMB: mbps}, func() (result, error) {
		return load.run(ctx, p.Kafka(), b.length)
	})
	if err == nil {
		b.add(r)
	}
	return r, err
}

// startReplay starts the broker of the replay rows, with its store at endpoint.
func (b *bench) startReplay(ctx context.Context, minio *servers.S3Server, endpoint string) (*process, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	br, err := cluster.New(cluster.Options{
		Kind: cluster.Subprocess, Binary: b.broker, Dir: filepath.Join(b.dir, "replay"), Env: minio.Env(),
		StoreURL: "minio://" + u.Host + "/bench/c?secure=false",
		Settings: map[string]string{"log.retention.check.interval.ms": "500", "remote.log.manager.task.interval.ms": "500"},
	})
	if err != nil {
		return nil, err
	}
	p := &process{Broker: br}
	return p, p.start(ctx)
}

// relay is the limit of replay: a window of ranged GETs, each chunk CRC32C'd
// and written, in order, to a loopback connection that is read and dropped. It
// returns bytes per second.
func relay(ctx context.Context, minio *servers.S3Server, length time.Duration) (float64, error) {
	const window, chunk = 8, 4 << 20
	for _, kv := range minio.Env() {
		name, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	store, err := object.Open(ctx, minio.MinIOURL("bench/c"), object.Options{})
	if err != nil {
		return 0, err
	}
	defer store.Close()
	var logs []object.Info
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			return 0, err
		}
		if strings.HasSuffix(info.Key, ".log") {
			logs = append(logs, info)
		}
	}
	client, server, err := loopback()
	if err != nil {
		return 0, err
	}
	var reader sync.WaitGroup
	reader.Go(func() { _, _ = io.Copy(io.Discard, client) })
	defer reader.Wait()
	defer server.Close()

	type piece struct {
		b    []byte
		done chan error
	}
	inOrder, free := make(chan piece, window), make(chan []byte, window+1)
	for range window + 1 {
		free <- make([]byte, chunk)
	}
	start := time.Now()
	go func() {
		defer close(inOrder)
		for {
			for _, l := range logs {
				for at := int64(0); at < l.Size; at += chunk {
					if time.Since(start) > length || ctx.Err() != nil {
						return
					}
					p := piece{(<-free)[:min(chunk, l.Size-at)], make(chan error, 1)}
					go func() {
						_, err := object.ReadFull(ctx, store, l.Key, at, p.b)
						p.done <- err
					}()
					inOrder <- p
				}
			}
		}
	}()
	var total int64
	var sum uint32
	for p := range inOrder {
		if err = errors.Join(err, <-p.done); err == nil {
			sum = crc32.Update(sum, castagnoli, p.b)
			_, err = server.Write(p.b)
		}
		total += int64(len(p.b))
		free <- p.b[:chunk]
	}
	return float64(total) / time.Since(start).Seconds(), err
}

// distance is a server further away: what is sent to it arrives late, what it
// answers at once. Each GET takes that much longer.
type distance struct {
	l    net.Listener
	to   string
	late time.Duration
	wg   sync.WaitGroup
}

func startDistance(endpoint string, late time.Duration) (*distance, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &distance{l: l, to: u.Host, late: late}
	d.wg.Go(d.serve)
	return d, nil
}

func (d *distance) endpoint() string { return "http://" + d.l.Addr().String() }

func (d *distance) close() {
	d.l.Close()
	d.wg.Wait()
}

func (d *distance) serve() {
	for {
		near, err := d.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", d.to)
		if err != nil {
			near.Close()
			continue
		}
		d.wg.Go(func() {
			defer near.Close()
			_, _ = io.Copy(near, far)
		})
		d.wg.Go(func() {
			defer far.Close()
			b := make([]byte, 64<<10)
			for {
				n, err := near.Read(b)
				if err != nil {
					return
				}
				time.Sleep(d.late)
				if _, err := far.Write(b[:n]); err != nil {
					return
				}
			}
		})
	}
}

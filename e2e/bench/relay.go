package main

import (
	"context"
	"errors"
	"hash/crc32"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// relayChunk is the length of a relay's GETs.
const relayChunk = 4 << 20

// relay is the limit of replay, what a program can do that knows nothing of
// offsets: a window of parallel ranged GETs, each chunk CRC32C'd where it was
// received and written, in order, to a loopback connection that is read and
// dropped as the consumer does. It returns bytes per second.
func relay(ctx context.Context, minio *servers.S3Server, bucket string, length time.Duration) (float64, error) {
	const window, chunk = 8, relayChunk
	store, logs, err := openLogs(ctx, minio.MinIOURL(bucket))
	if err != nil {
		return 0, err
	}
	defer store.Close()
	client, server, err := loopback()
	if err != nil {
		return 0, err
	}
	var reader sync.WaitGroup
	reader.Go(func() { drop(client) })
	defer reader.Wait()
	defer server.Close()

	type piece struct {
		b    []byte
		sum  uint32
		done chan error
	}
	inOrder, free := make(chan *piece, window), make(chan []byte, window+1)
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
					p := &piece{b: (<-free)[:min(chunk, l.Size-at)], done: make(chan error, 1)}
					go func() {
						_, err := object.ReadFull(ctx, store, l.Key, at, p.b)
						p.sum = crc32.Checksum(p.b, castagnoli)
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
			sum ^= p.sum
			_, err = server.Write(p.b)
		}
		total += int64(len(p.b))
		free <- p.b[:chunk]
	}
	return float64(total) / time.Since(start).Seconds(), err
}

// drop reads as the consumers' streams do.
func drop(c net.Conn) {
	b := make([]byte, streamBuffer)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// heldRelays is what replays held to a rate cost without a broker: as many relays
// of one GET at a time, which together move rate bytes a second.
type heldRelays struct {
	Store string // URL
	N     int
	Rate  float64
}

func (h heldRelays) run(ctx context.Context, length time.Duration) error {
	store, logs, err := openLogs(ctx, h.Store)
	if err != nil {
		return err
	}
	defer store.Close()
	errs := make([]error, h.N)
	var all sync.WaitGroup
	for i := range h.N {
		all.Go(func() { errs[i] = h.one(ctx, store, slices.Concat(logs[i%len(logs):], logs[:i%len(logs)]), length) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (h heldRelays) one(ctx context.Context, store object.Store, logs []object.Info, length time.Duration) error {
	client, server, err := loopback()
	if err != nil {
		return err
	}
	var reader sync.WaitGroup
	reader.Go(func() { drop(client) })
	defer reader.Wait()
	defer server.Close()
	b := make([]byte, relayChunk)
	start := time.Now()
	var total int64
	var sum uint32
	for {
		for _, l := range logs {
			for at := int64(0); at < l.Size; at += relayChunk {
				if time.Since(start) > length || ctx.Err() != nil {
					return ctx.Err()
				}
				b = b[:min(relayChunk, l.Size-at)]
				if _, err := object.ReadFull(ctx, store, l.Key, at, b); err != nil {
					return err
				}
				sum ^= crc32.Checksum(b, castagnoli)
				if _, err := server.Write(b); err != nil {
					return err
				}
				total += int64(len(b))
				b = b[:cap(b)]
				sleepUntil(start.Add(time.Duration(float64(total) * float64(h.N) / h.Rate * float64(time.Second))))
			}
		}
	}
}

// openLogs opens a bucket and finds the segments in it.
func openLogs(ctx context.Context, url string) (object.Store, []object.Info, error) {
	store, err := object.Open(ctx, url, object.Options{})
	if err != nil {
		return nil, nil, err
	}
	var logs []object.Info
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			return nil, nil, errors.Join(err, store.Close())
		}
		if strings.HasSuffix(info.Key, ".log") {
			logs = append(logs, info)
		}
	}
	if len(logs) == 0 {
		return nil, nil, errors.Join(errors.New("no segments in the bucket"), store.Close())
	}
	return store, logs, nil
}

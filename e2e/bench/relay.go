package main

import (
	"context"
	"errors"
	"hash/crc32"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// relay is the limit of replay, what a program can do that knows nothing of
// offsets: a window of parallel ranged GETs, each chunk CRC32C'd where it was
// received and written, in order, to a loopback connection that is read and
// dropped as the consumer does. It returns bytes per second.
func relay(ctx context.Context, minio *servers.S3Server, bucket string, length time.Duration) (float64, error) {
	const window, chunk = 8, 4 << 20
	store, logs, err := openLogs(ctx, minio, bucket)
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

// openLogs opens a bucket and finds the segments in it.
func openLogs(ctx context.Context, minio *servers.S3Server, bucket string) (object.Store, []object.Info, error) {
	store, err := object.Open(ctx, minio.MinIOURL(bucket), object.Options{})
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

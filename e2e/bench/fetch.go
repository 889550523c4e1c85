package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchLoad reads partitions from their start again and again, each connection
// with one request in flight. It is JSON for who consumes in another process.
type fetchLoad struct {
	Topic      string
	Partitions int // of the topic
	Each       int // partitions in each request of a connection; 0: 1
	Conns      int
	MaxBytes   int             // of a partition in an answer
	Ends       map[int32]int64 // where to start again; nil: the partitions' ends
	ClientID   string
}

func (l fetchLoad) run(ctx context.Context, addr string, length time.Duration) (result, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var res result
	var errs []error
	if l.Ends == nil {
		var err error
		if l.Ends, err = endOffsets(ctx, addr, l.Topic); err != nil {
			return result{}, err
		}
	}
	start := time.Now()
	for c := range l.Conns {
		all.Go(func() {
			f := l.fetcher(c)
			s, err := dial(ctx, addr, 1)
			var took []time.Duration
			if err == nil {
				took, err = s.pump(ctx, length, f.next, f.read)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			res.took = append(res.took, took...)
			res.bytes += f.bytes
		})
	}
	all.Wait()
	res.elapsed = time.Since(start)
	res.requests = int64(len(res.took))
	return res, errors.Join(errs...)
}

// fetcher walks partitions; with one request in flight, next and read take
// turns.
type fetcher struct {
	load  fetchLoad
	parts []position
	bytes int64
	buf   []byte
}

// position of a fetcher in a partition.
type position struct {
	partition   int32
	offset, end int64 // at end it starts again
}

func (l fetchLoad) fetcher(c int) *fetcher {
	f := &fetcher{load: l}
	for n := range max(l.Each, 1) {
		p := int32((c + n) % l.Partitions)
		f.parts = append(f.parts, position{partition: p, end: l.Ends[p]})
	}
	return f
}

func (f *fetcher) next(int) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes = 11, -1, 500, 1
	req.MaxBytes, req.SessionEpoch = int32(f.load.MaxBytes*len(f.parts)), -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = f.load.Topic
	for i := range f.parts {
		at := &f.parts[i]
		if at.offset >= at.end {
			at.offset = 0
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = at.partition, at.offset, int32(f.load.MaxBytes)
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return frame(cmp.Or(f.load.ClientID, "bench"), req)
}

// read walks a FetchResponse v11 of one topic by its batch headers.
func (f *fetcher) read(r *bufio.Reader, size int) error {
	// throttle, error, session; topics; name; partitions
	head, err := f.take(r, &size, 4+2+4+4+2+len(f.load.Topic)+4)
	if err != nil {
		return err
	}
	for range binary.BigEndian.Uint32(head[len(head)-4:]) {
		// index, error, three offsets, aborted (none), replica, size of the records
		p, err := f.take(r, &size, 4+2+24+4+4+4)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(int16(binary.BigEndian.Uint16(p[4:]))); err != nil {
			return err
		}
		left := int(binary.BigEndian.Uint32(p[38:]))
		if left > size {
			return fmt.Errorf("records of %d bytes in the last %d of a response", left, size)
		}
		size -= left
		f.bytes += int64(left)
		if err := f.skipBatches(r, int32(binary.BigEndian.Uint32(p)), left); err != nil {
			return err
		}
	}
	return nil
}

// skipBatches reads a partition's batches and notes the offset behind them.
func (f *fetcher) skipBatches(r *bufio.Reader, partition int32, left int) error {
	for left > 0 {
		head, err := f.take(r, &left, 27)
		if err != nil {
			return err
		}
		rest := 12 + int(binary.BigEndian.Uint32(head[8:])) - len(head)
		behind := int64(binary.BigEndian.Uint64(head)) + int64(binary.BigEndian.Uint32(head[23:])) + 1
		if rest > left {
			return fmt.Errorf("batch with %d bytes more in the last %d of its partition", rest, left)
		}
		if _, err := r.Discard(rest); err != nil {
			return err
		}
		left -= rest
		for i := range f.parts {
			if f.parts[i].partition == partition {
				f.parts[i].offset = behind
			}
		}
	}
	return nil
}

// take reads the next n bytes of the size left, good until the next call.
func (f *fetcher) take(r *bufio.Reader, size *int, n int) ([]byte, error) {
	if *size < n {
		return nil, fmt.Errorf("%d bytes of a fetch response where %d are due", *size, n)
	}
	*size -= n
	if cap(f.buf) < n {
		f.buf = make([]byte, n)
	}
	_, err := io.ReadFull(r, f.buf[:n])
	return f.buf[:n], err
}

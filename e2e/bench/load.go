package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/segment/record"
)

// recordBytes is the size of a value.
const recordBytes = 1024

// makeBatch builds one batch of records with random values, so that nothing
// can be compressed or shared.
func makeBatch(records int) []byte {
	b := record.NewBuilder(record.BuilderOptions{})
	value := make([]byte, recordBytes)
	now := time.Now().UnixMilli()
	for range records {
		rand.Read(value) // never fails: crypto/rand ends the process instead
		b.Append(now, nil, value)
	}
	return b.Build()
}

// frame is a request as it goes over the wire. All have correlation id 0:
// answers come in order.
func frame(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 0)
}

// stream is one connection with a number of requests in flight.
type stream struct {
	conn     net.Conn
	r        *bufio.Reader
	inFlight int
}

func dial(ctx context.Context, addr string, inFlight int) (*stream, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &stream{conn: c, r: bufio.NewReaderSize(c, 64<<10), inFlight: inFlight}, nil
}

// pump sends what next returns and reads the answers with read until length
// has passed, keeping inFlight requests on the way. It returns the latency of
// each request.
func (s *stream) pump(ctx context.Context, length time.Duration, next func(i int) []byte, read func(r *bufio.Reader, size int) error) ([]time.Duration, error) {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	slots := make(chan struct{}, s.inFlight)
	sent := make(chan time.Time, s.inFlight)
	var sendErr error // read once sent is closed
	go func() {
		defer close(sent)
		for i, end := 0, time.Now().Add(length); i == 0 || time.Now().Before(end); i++ {
			slots <- struct{}{}
			at := time.Now()
			if _, sendErr = s.conn.Write(next(i)); sendErr != nil {
				return
			}
			sent <- at
		}
	}()
	var took []time.Duration
	var readErr error
	for at := range sent {
		if readErr == nil {
			if readErr = s.answer(read); readErr != nil {
				s.conn.Close() // ends the sender
			}
			took = append(took, time.Since(at))
		}
		<-slots
	}
	if readErr != nil {
		return nil, readErr
	}
	return took, sendErr
}

func (s *stream) answer(read func(r *bufio.Reader, size int) error) error {
	var head [8]byte // size, correlation id
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return err
	}
	return read(s.r, int(binary.BigEndian.Uint32(head[:]))-4)
}

// produceLoad sends a batch of so many records to the topic's partitions in
// turn over conns connections.
type produceLoad struct {
	topic      string
	partitions int
	records    int
	conns      int
	inFlight   int
	acks       int16
}

// result of a load.
type result struct {
	bytes    int64 // of batches
	requests int64
	took     []time.Duration
	elapsed  time.Duration
}

func (l produceLoad) run(ctx context.Context, addr string, length time.Duration) (result, error) {
	batch := makeBatch(l.records)
	var mu sync.Mutex
	var all sync.WaitGroup
	var res result
	var errs []error
	start := time.Now()
	for c := range l.conns {
		frames := l.frames(batch)
		all.Go(func() {
			s, err := dial(ctx, addr, l.inFlight)
			var took []time.Duration
			if err == nil {
				took, err = s.pump(ctx, length, func(i int) []byte { return frames[(i+c)%len(frames)] }, readProduced)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			res.took = append(res.took, took...)
		})
	}
	all.Wait()
	res.elapsed = time.Since(start)
	res.requests = int64(len(res.took))
	res.bytes = res.requests * int64(len(batch))
	return res, errors.Join(errs...)
}

func (l produceLoad) frames(batch []byte) [][]byte {
	out := make([][]byte, l.partitions)
	for n := range out {
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks, req.TimeoutMillis = 7, l.acks, 30_000
		t := kmsg.NewProduceRequestTopic()
		t.Topic = l.topic
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = int32(n), batch
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		out[n] = frame(req)
	}
	return out
}

// readProduced reads a ProduceResponse v7 of one partition and fails on its error.
func readProduced(r *bufio.Reader, size int) error {
	b := make([]byte, 0, 256)
	if size > cap(b) {
		return fmt.Errorf("produce response of %d bytes", size)
	}
	b = b[:size]
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	name := int(binary.BigEndian.Uint16(b[4:]))
	return kerr.ErrorForCode(int16(binary.BigEndian.Uint16(b[6+name+8:])))
}

// fetchLoad reads partitions from their start again and again, one partition
// and one request in flight a connection.
type fetchLoad struct {
	topic      string
	partitions int
	conns      int
	maxBytes   int
}

func (l fetchLoad) run(ctx context.Context, addr string, length time.Duration) (result, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var res result
	var errs []error
	ends, err := endOffsets(ctx, addr, l.topic)
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	for c := range l.conns {
		all.Go(func() {
			f := &fetcher{load: l, partition: c % l.partitions, end: ends[int32(c%l.partitions)]}
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

// fetcher walks one partition; with one request in flight, next and read
// take turns.
type fetcher struct {
	load      fetchLoad
	partition int
	offset    int64
	end       int64 // where it starts again
	bytes     int64
	buf       []byte
}

func (f *fetcher) next(int) []byte {
	if f.offset >= f.end {
		f.offset = 0
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes = 11, -1, 500, 1
	req.MaxBytes, req.SessionEpoch = int32(f.load.maxBytes), -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = f.load.topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(f.partition), f.offset, int32(f.load.maxBytes)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return frame(req)
}

// read walks a FetchResponse v11 of one partition by its batch headers.
func (f *fetcher) read(r *bufio.Reader, size int) error {
	// throttle, error, session; topics, name; partitions; index, error, three
	// offsets, aborted, replica, size of the records
	fixed := 4 + 2 + 4 + 4 + 2 + len(f.load.topic) + 4 + 4 + 2 + 24 + 4 + 4 + 4
	if size < fixed {
		return fmt.Errorf("fetch response of %d bytes", size)
	}
	b := f.grow(fixed)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	at := 4 + 2 + 4 + 4 + 2 + len(f.load.topic) + 4 + 4
	if err := kerr.ErrorForCode(int16(binary.BigEndian.Uint16(b[at:]))); err != nil {
		return err
	}
	left := size - fixed
	f.bytes += int64(left)
	for left > 0 {
		n, err := f.skipBatch(r, left)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// skipBatch reads one batch, whole or cut, and notes the offset behind it.
func (f *fetcher) skipBatch(r *bufio.Reader, left int) (int, error) {
	head := f.grow(27)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, err
	}
	size := 12 + int(binary.BigEndian.Uint32(head[8:]))
	if size > left {
		return 0, fmt.Errorf("batch of %d bytes in the last %d of a response", size, left)
	}
	f.offset = int64(binary.BigEndian.Uint64(head)) + int64(binary.BigEndian.Uint32(head[23:])) + 1
	rest := size - len(head)
	buf := f.grow(256 << 10)
	for rest > 0 {
		n, err := r.Read(buf[:min(rest, len(buf))])
		if err != nil {
			return 0, err
		}
		rest -= n
	}
	return size, nil
}

func (f *fetcher) grow(n int) []byte {
	if cap(f.buf) < n {
		f.buf = make([]byte, n)
	}
	return f.buf[:n]
}

// createTopic makes a topic and waits until it can be written.
func createTopic(ctx context.Context, addr, topic string, partitions int32, configs map[string]*string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, configs, topic)
	return err
}

// endOffsets are the ends of a topic's partitions.
func endOffsets(ctx context.Context, addr, topic string) (map[int32]int64, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends := make(map[int32]int64)
	for n, o := range listed[topic] {
		if o.Err != nil {
			return nil, o.Err
		}
		ends[n] = o.Offset
	}
	return ends, nil
}

// percentile of durations, in ms.
func percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	i := min(int(float64(len(d))*p), len(d)-1)
	return float64(d[i].Microseconds()) / 1000
}

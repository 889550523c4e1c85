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
	"golang.org/x/sys/unix"

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
func frame(clientID string, req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, 0)
}

// stream is one connection with a number of requests in flight.
type stream struct {
	conn     net.Conn
	r        *bufio.Reader
	inFlight int
	// every is the time between requests, the first one after phase; 0: as fast as it goes.
	every, phase time.Duration
	late         []time.Duration // how long after it was due each request was sent, with every
}

// streamBuffer is how much is read at a time.
const streamBuffer = 64 << 10

func dial(ctx context.Context, addr string, inFlight int) (*stream, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &stream{conn: c, r: bufio.NewReaderSize(c, streamBuffer), inFlight: inFlight}, nil
}

// pump sends what next returns and reads the answers with read until length
// has passed, keeping inFlight requests on the way. It returns the latency of
// each request: since it was sent or, at a rate, since it was due, so that what
// waits for its turn counts.
func (s *stream) pump(ctx context.Context, length time.Duration, next func(i int) []byte, read func(r *bufio.Reader, size int) error) ([]time.Duration, error) {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	slots := make(chan struct{}, s.inFlight)
	sent := make(chan time.Time, s.inFlight)
	var sendErr error // read once sent is closed
	go func() {
		defer close(sent)
		begin := time.Now()
		for i := 0; i == 0 || time.Since(begin) < length; i++ {
			due := begin.Add(s.phase + time.Duration(i)*s.every)
			if s.every > 0 {
				sleepUntil(due)
			}
			slots <- struct{}{}
			at := time.Now()
			if s.every > 0 {
				s.late = append(s.late, at.Sub(due))
				at = due
			}
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

// sleepUntil is more exact than time.Sleep, whose timers may wait for a whole
// millisecond of epoll.
func sleepUntil(due time.Time) {
	for left := time.Until(due); left > 0; left = time.Until(due) {
		ts := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil) // EINTR: once more
	}
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
	rate       float64 // requests a second, all connections together; 0: as fast as it goes
}

// result of a load.
type result struct {
	bytes    int64 // of batches
	requests int64
	took     []time.Duration // at a rate without the first second's
	late     []time.Duration // at a rate: how long after they were due requests were sent
	elapsed  time.Duration
}

// rateInFlight is how many requests at a rate may be on the way on a
// connection: more than ever are, so that a slow answer holds up no other.
const rateInFlight = 4096

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
			s, err := l.dial(ctx, addr, c)
			var took []time.Duration
			if err == nil {
				took, err = s.pump(ctx, length, func(i int) []byte { return frames[(i+c)%len(frames)] }, readProduced)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			res.requests += int64(len(took))
			if err == nil && l.rate > 0 { // the first second does not count
				warm := min(int(time.Second/s.every), len(took))
				took, res.late = took[warm:], append(res.late, s.late[warm:]...)
			}
			res.took = append(res.took, took...)
		})
	}
	all.Wait()
	res.elapsed = time.Since(start)
	res.bytes = res.requests * int64(len(batch))
	return res, errors.Join(errs...)
}

// dial opens connection c, whose requests at a rate fall between the others'.
func (l produceLoad) dial(ctx context.Context, addr string, c int) (*stream, error) {
	if l.rate == 0 {
		return dial(ctx, addr, l.inFlight)
	}
	s, err := dial(ctx, addr, rateInFlight)
	if err == nil {
		each := float64(time.Second) / l.rate
		s.every, s.phase = time.Duration(each*float64(l.conns)), time.Duration(each*float64(c))
	}
	return s, err
}

func (l produceLoad) frames(batch []byte) [][]byte {
	out := make([][]byte, l.partitions)
	for n := range out {
		out[n] = produceFrame(l.topic, int32(n), l.acks, batch)
	}
	return out
}

func produceFrame(topic string, partition int32, acks int16, batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 7, acks, 30_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return frame("bench", req)
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

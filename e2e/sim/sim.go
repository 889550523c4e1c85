// Package sim runs a whole cluster with real clients in one bubble of virtual
// time: brokers on crashable disks in memory, an object store and a key-value
// store that fail, and an in-memory network. A seed draws the faults; hours
// pass in seconds.
//
// What it checks is what users are promised: an acked record is there, once,
// in order, and one offset never shows two values, to anyone, whatever failed
// in between; committed offsets never go back.
//
// A seed replays the faults, not every interleaving: the order in which
// goroutines run is Go's.
//
// # Track record
//
//	seed  bug                                                                    found by
//	4     acked records of all partitions lost in a power loss: the name of a    go test ./e2e/sim -first 4 -seeds 1
//	      new data directory was not durable in its parent
//	3, 8  the simulation's own: a broker that lost power went on acking until    go test ./e2e/sim -seeds 12
//	      it had stopped; see package power
package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	oldrand "math/rand"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/broker"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/e2e/power"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	topic      = "sim"
	partitions = 3
	address    = "broker-0:9092"
)

// world is one simulated cluster.
type world struct {
	rng     *rand.Rand
	network *wire.MemoryNetwork
	kv      *kv.Mem
	objects *object.Mem
	store   object.Store // objects with faults
	away    atomic.Bool  // the object store does not answer
	log     *slog.Logger

	disk   *vfs.Mem
	power  *power.Line
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu     sync.Mutex
	values map[[2]int64]uint64 // partition and offset: the record's number
	acked  map[uint64][2]int64
	broken []error
}

var errAway = errors.New("simulated: no answer")

func newWorld(seed uint64, log *slog.Logger) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, seed)), network: wire.NewMemoryNetwork(), kv: kv.NewMem(), objects: object.NewMem(),
		disk: vfs.NewMem(), log: log, values: make(map[[2]int64]uint64), acked: make(map[uint64][2]int64),
	}
	w.store = object.WithFaults(w.objects, func(context.Context, object.Op) error {
		if w.away.Load() {
			return fmt.Errorf("%w: %w", object.ErrUnavailable, errAway)
		}
		return nil
	})
	return w
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Errorf(format, args...))
}

// start runs a broker on the disk as it is.
func (w *world) start(ctx context.Context) error {
	settings, err := config.Load("", nil, map[string]string{
		"data.dir": "/data", "listeners": "PLAINTEXT://" + address, "http.listen": "", "remote.store.url": "file:///objects",
		"log.retention.check.interval.ms": "1000", "remote.log.manager.task.interval.ms": "500",
		"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "2",
	})
	if err != nil {
		return err
	}
	w.power = &power.Line{}
	b, err := broker.New(broker.Options{
		Settings: settings, Logger: w.log, FS: w.disk, KV: w.kv.Client(w.power.KV), Objects: object.WithFaults(w.store, w.power.Objects),
		Listen: w.power.Listen(func(_ context.Context, addr string) (net.Listener, error) { return w.network.Listen(addr) }),
	})
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	w.cancel, w.done = cancel, make(chan struct{})
	ready := make(chan struct{})
	go func() {
		defer close(w.done)
		w.err = b.Run(run, func(broker.Addresses) { close(ready) })
	}()
	select {
	case <-ready:
		return nil
	case <-w.done:
		return fmt.Errorf("broker ended at start: %w", w.err)
	}
}

// crash loses power: what was not synced may be gone.
func (w *world) crash() {
	w.power.Cut()
	after := w.disk.Crash(oldrand.New(oldrand.NewSource(w.rng.Int64())), []int{0, 50, 100}[w.rng.IntN(3)])
	w.cancel()
	<-w.done
	w.disk = after
}

func (w *world) stop() error {
	w.cancel()
	<-w.done
	return w.err
}

func (w *world) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address), kgo.Dialer(w.network.Dial)}, opts...)...)
}

func (w *world) createTopic(ctx context.Context) error {
	cl, err := w.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	small, one := "16384", "1"
	_, err = kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, map[string]*string{"internal.segment.bytes": &small, "local.retention.bytes": &one}, topic)
	return err
}

// saw notes what an offset showed and complains when it showed something else
// before.
func (w *world) saw(partition int32, offset int64, id uint64) {
	at := [2]int64{int64(partition), offset}
	w.mu.Lock()
	had, ok := w.values[at]
	w.values[at] = id
	w.mu.Unlock()
	if ok && had != id {
		w.fail("partition %d offset %d showed record %d and then record %d", partition, offset, had, id)
	}
}

// produce sends numbered records until ctx ends and notes the acks.
func (w *world) produce(ctx context.Context, seed uint64) error {
	cl, err := w.client(kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	rng := rand.New(rand.NewPCG(seed, 1))
	pad := make([]byte, 1024)
	for id := uint64(0); ctx.Err() == nil; id++ {
		value := append(binary.BigEndian.AppendUint64(nil, id), pad[:rng.IntN(len(pad))]...)
		cl.Produce(context.WithoutCancel(ctx), &kgo.Record{Value: value}, func(r *kgo.Record, err error) {
			if err != nil {
				w.fail("record %d: %w", id, err)
				return
			}
			w.mu.Lock()
			w.acked[id] = [2]int64{int64(r.Partition), r.Offset}
			w.mu.Unlock()
			w.saw(r.Partition, r.Offset, id)
		})
		select {
		case <-time.After(time.Duration(1+rng.IntN(10)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return cl.Flush(context.WithoutCancel(ctx))
}

// follow is a group's member: it notes what it sees, and that committed
// offsets never go back.
func (w *world) follow(ctx context.Context) error {
	cl, err := w.client(kgo.ConsumeTopics(topic), kgo.ConsumerGroup("sim"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer cl.Close()
	committed := make(map[int32]int64)
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) { w.saw(r.Partition, r.Offset, binary.BigEndian.Uint64(r.Value)) })
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			continue // the broker is down: the next poll commits
		}
		offsets, err := kadm.NewClient(cl).FetchOffsets(ctx, "sim")
		if err != nil {
			continue
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.Err == nil && o.At < committed[o.Partition] {
				w.fail("committed offset of partition %d went back from %d to %d", o.Partition, committed[o.Partition], o.At)
			}
			committed[o.Partition] = max(committed[o.Partition], o.At)
		})
	}
	return nil
}

// verify reads everything and compares it with the acks.
func (w *world) verify(ctx context.Context) error {
	cl, err := w.client()
	if err != nil {
		return err
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	cl.Close()
	if err != nil {
		return err
	}
	at, left := make(map[int32]kgo.Offset), make(map[int32]int64)
	for n, e := range ends[topic] {
		if e.Err != nil {
			return e.Err
		}
		at[n] = kgo.NewOffset().At(0)
		if e.Offset > 0 {
			left[n] = e.Offset
		}
	}
	if cl, err = w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at})); err != nil {
		return err
	}
	defer cl.Close()
	found := make(map[uint64][2]int64)
	last := make(map[int32]uint64)
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			id := binary.BigEndian.Uint64(r.Value)
			w.saw(r.Partition, r.Offset, id)
			if first, twice := found[id]; twice {
				w.fail("record %d is at %v and at partition %d offset %d", id, first, r.Partition, r.Offset)
			}
			if l, any := last[r.Partition]; any && id <= l {
				w.fail("partition %d: record %d after record %d", r.Partition, id, l)
			}
			found[id], last[r.Partition] = [2]int64{int64(r.Partition), r.Offset}, id
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	for id, where := range w.acked {
		if got, ok := found[id]; !ok {
			w.fail("record %d was acked at %v and is lost", id, where)
		} else if got != where {
			w.fail("record %d was acked at %v and is at %v", id, where, got)
		}
	}
	return nil
}

// faults draws what happens to the cluster for so long.
func (w *world) faults(ctx context.Context, length time.Duration) error {
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(time.Duration(200+w.rng.IntN(3000)) * time.Millisecond)
		switch w.rng.IntN(4) {
		case 0, 1:
			w.crash()
			if err := w.start(ctx); err != nil {
				return err
			}
		case 2:
			w.away.Store(true)
			time.Sleep(time.Duration(w.rng.IntN(20)) * time.Second)
			w.away.Store(false)
		case 3:
			if err := w.stop(); err != nil {
				return fmt.Errorf("clean stop: %w", err)
			}
			if err := w.start(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	isolationReplays = 8
	// isolationWarmUp is how long replays run before anything is measured.
	isolationWarmUp = 2 * time.Second
	isolationPause  = 3 * time.Second
	// idleWanted is what held replays leave of the machine, and idleNear how near is near enough.
	idleWanted, idleNear = 0.25, 0.03
	calibrations         = 6
	memoryFS             = "/dev/shm"
)

// isolation is a producer at a fixed rate, acks=all, beside replays of another
// topic. Each phase produces to a new topic, whose segments are never full:
// what is uploaded meanwhile would be measured too.
type isolation struct {
	b       *bench
	t       *tier
	replays fetchLoad
	rate    float64 // requests of 64 KiB a second
	topics  int
}

// phase is what happened in one length of time.
type phase struct {
	result
	idle                                float64 // share of the machine's time
	broker, minio, consumers, producers time.Duration
	elapsed                             time.Duration
	replayMBps, storeMBps               float64 // handed out to replays, and read from MinIO for it
}

// isolationRows measure what replays do to producers: first what the broker can
// take, then a quarter of it alone, beside replays held by a quota to what
// leaves a quarter of the machine idle, alone again, and beside replays at full speed.
// MinIO has its objects in memory where there is a file system for that: on a disk
// it would share the producer's, and it has one of its own where this matters. For
// the same reason it and the consumers let the broker and the producers go first,
// as deploy's unit of the broker has it.
func isolationRows(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp(memoryFS, "coldbrook-bench-*")
	if errors.Is(err, fs.ErrNotExist) {
		dir, err = os.MkdirTemp(b.dir, "store-*")
	}
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t, err := b.startTierAt(ctx, dir, map[string]string{
		"quota.window.num":            "2", // nobody saves up for longer than a second
		"log.segment.delete.delay.ms": "500",
	}, "MINIO_API_ODIRECT=off")
	if err != nil {
		return err
	}
	defer t.end()
	if err := yield(t.minio.PID()); err != nil {
		return err
	}
	ends, err := t.fillTier(ctx, "replay", isolationReplays, 64<<20, b.data)
	if err != nil {
		return err
	}
	unix.Sync() // nothing is left to be written when the first phase is measured
	x := &isolation{b: b, t: t, replays: fetchLoad{
		Topic: "replay", Partitions: isolationReplays, Conns: isolationReplays, MaxBytes: 1 << 20, Ends: ends, ClientID: "replay",
	}}
	if err := x.maximum(ctx); err != nil {
		return err
	}
	length := 6 * b.length
	before, err := x.measure(ctx, length, false)
	if err != nil {
		return err
	}
	x.add("alone", before, row{})
	held, err := x.calibrate(ctx, before.idle)
	if err != nil {
		return err
	}
	beside, err := x.measure(ctx, length, true)
	if err != nil {
		return err
	}
	after, err := x.measure(ctx, length, false)
	if err != nil {
		return err
	}
	x.add("alone again", after, row{})
	alone := (percentile(before.took, 0.99) + percentile(after.took, 0.99)) / 2
	x.add(fmt.Sprintf("8 replays held to %.0f MB/s", held/1e6), beside, row{Limit: "p99 alone, mean", LimitMs: alone, Want: "ratio 1.3"})
	if err := hold(ctx, x.t.Kafka(), x.replays.ClientID, 0); err != nil {
		return err
	}
	full, err := x.measure(ctx, length, true)
	if err != nil {
		return err
	}
	x.add("8 replays at full speed", full, row{Limit: "p99 alone, mean", LimitMs: alone})
	return nil
}

// load is the producer's, on a topic of its own.
func (x *isolation) load(ctx context.Context) (produceLoad, error) {
	l := produceLoad{topic: fmt.Sprintf("live-%d", x.topics), partitions: 6, records: 63, conns: 4, inFlight: 5, acks: -1, rate: x.rate}
	x.topics++
	return l, createTopic(ctx, x.t.Kafka(), l.topic, int32(l.partitions), nil)
}

// maximum measures what the broker can take, and sets the rate.
func (x *isolation) maximum(ctx context.Context) error {
	load, err := x.load(ctx)
	if err != nil {
		return err
	}
	if _, err := load.run(ctx, x.t.Kafka(), x.b.length/4); err != nil { // warm up
		return fmt.Errorf("%w\n%s", err, x.t.Log())
	}
	r := row{Name: "produce, the most: 64 KiB batches, acks=all, 4 x 5, 6 partitions"}
	r, err = x.b.measured(ctx, x.t.process, r, func() (result, error) { return load.run(ctx, x.t.Kafka(), x.b.length) })
	if err != nil {
		return err
	}
	x.rate = r.Requests / 4
	x.b.add(r)
	return x.drop(ctx, load.topic)
}

// drop deletes a topic that was produced to, and gives its files the time to go.
func (x *isolation) drop(ctx context.Context, topic string) error {
	err := deleteTopic(ctx, x.t.Kafka(), topic)
	wait(ctx, isolationPause)
	return err
}

// measure runs one phase: producers at the rate, beside replays or not.
func (x *isolation) measure(ctx context.Context, length time.Duration, replays bool) (p phase, err error) {
	load, err := x.load(ctx)
	if err != nil {
		return p, err
	}
	var c *consumers
	if replays {
		if c, err = startConsumers(ctx, x.t.Kafka(), x.replays, isolationWarmUp+length+time.Second); err != nil {
			return p, err
		}
		defer c.end()
		if err := yield(c.pid()); err != nil {
			return p, err
		}
		wait(ctx, isolationWarmUp)
	}
	before, err := x.spent(ctx, c)
	if err != nil {
		return p, err
	}
	start := time.Now()
	if p.result, err = load.run(ctx, x.t.Kafka(), length); err != nil {
		return p, fmt.Errorf("%w\n%s", err, x.t.Log())
	}
	p.elapsed = time.Since(start)
	after, err := x.spent(ctx, c)
	if err != nil {
		return p, err
	}
	p.idle = float64(after.idle-before.idle) / float64(after.all-before.all)
	p.broker, p.minio = after.broker-before.broker, after.minio-before.minio
	p.consumers, p.producers = after.consumers-before.consumers, after.producers-before.producers
	p.replayMBps, p.storeMBps = (after.handed-before.handed)/p.elapsed.Seconds()/1e6, (after.read-before.read)/p.elapsed.Seconds()/1e6
	if c != nil {
		err = c.wait()
	}
	return p, errors.Join(err, x.drop(ctx, load.topic))
}

// spent is all time and all bytes so far.
type spent struct {
	idle, all                           time.Duration
	broker, minio, consumers, producers time.Duration
	handed, read                        float64 // bytes, to replays and from MinIO
}

func (x *isolation) spent(ctx context.Context, c *consumers) (s spent, err error) {
	if s.idle, s.all, err = machineCPU(); err != nil {
		return s, err
	}
	if s.broker, err = x.t.cpu(); err != nil {
		return s, err
	}
	if s.minio, err = cpuOf(x.t.minio.PID()); err != nil {
		return s, err
	}
	if c != nil {
		if s.consumers, err = cpuOf(c.pid()); err != nil {
			return s, err
		}
	}
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		return s, err
	}
	s.producers = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	if s.handed, err = x.t.Metric(ctx, "coldbrook_remote_fetch_bytes_total"); err != nil {
		return s, err
	}
	_, s.read, err = x.t.storeUse(ctx)
	return s, err
}

// calibrate looks for the rate of all replays together at which the machine is
// idle for a quarter of the time, and leaves it set. Without them it was idle
// for the share alone.
func (x *isolation) calibrate(ctx context.Context, alone float64) (rate float64, err error) {
	rate = 100e6
	for range calibrations {
		if err := hold(ctx, x.t.Kafka(), x.replays.ClientID, rate); err != nil {
			return 0, err
		}
		p, err := x.measure(ctx, x.b.length, true)
		if err != nil {
			return 0, err
		}
		fmt.Printf("    replays held to %.0f MB/s read %.0f MB/s, %.0f %% of the machine idle\n", rate/1e6, p.replayMBps, 100*p.idle)
		used, near := alone-p.idle, p.idle > idleWanted-idleNear && p.idle < idleWanted+idleNear
		unable := p.idle > idleWanted && p.replayMBps*1e6 < rate/2 // they are as fast as they can be
		if near || unable || used <= 0 {
			return rate, nil
		}
		// What a byte costs is about the same at any rate.
		rate = max(p.replayMBps*1e6*(alone-idleWanted)/used, 1e6)
	}
	return rate, hold(ctx, x.t.Kafka(), x.replays.ClientID, rate)
}

// add makes a row of a phase.
func (x *isolation) add(name string, p phase, r row) {
	r.Name = fmt.Sprintf("produce at a quarter (%.0f requests/s), %s", x.rate, name)
	r.MBps, r.Requests = float64(p.bytes)/p.elapsed.Seconds()/1e6, float64(p.requests)/p.elapsed.Seconds()
	r.P50, r.P99, r.P999 = percentile(p.took, 0.50), percentile(p.took, 0.99), percentile(p.took, 0.999)
	share := func(d time.Duration) float64 { return d.Seconds() / p.elapsed.Seconds() }
	r.Note = fmt.Sprintf("cores: broker %.2f, MinIO %.2f, consumers %.2f, producers %.2f; machine idle %.0f %%; replays %.0f MB/s (%.0f from MinIO); requests sent late: p50 %.2f, p99 %.2f ms",
		share(p.broker), share(p.minio), share(p.consumers), share(p.producers), 100*p.idle, p.replayMBps, p.storeMBps, percentile(p.late, 0.50), percentile(p.late, 0.99))
	x.b.add(r)
}

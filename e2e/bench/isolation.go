package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
	// isolationRounds is how often the phases that are compared take turns: the machine
	// is not as fast in one minute as in the next.
	isolationRounds = 5
	memoryFS        = "/dev/shm"
)

// isolation is a producer at a fixed rate, acks=all, beside replays of another
// topic. Each phase produces to a new topic, whose segments are never full:
// what is uploaded meanwhile would be measured too.
type isolation struct {
	b       *bench
	t       *tier
	replays fetchLoad
	rate    float64 // requests of 64 KiB a second
	held    float64 // bytes a second of all replays together, when they are held
	topics  int
}

// phase is what happened in one length of time, or in several of a kind.
type phase struct {
	result
	spent
	p99s []float64 // of each length, ms
}

// p99 is the median of the lengths': what disturbs the machine in one of them does not count.
func (p *phase) p99() float64 {
	slices.Sort(p.p99s)
	return p.p99s[len(p.p99s)/2]
}

// add makes q a part of p.
func (p *phase) add(q phase) {
	p.bytes, p.requests, p.elapsed = p.bytes+q.bytes, p.requests+q.requests, p.elapsed+q.elapsed
	p.p99s = append(p.p99s, q.p99s...)
	p.took, p.late = append(p.took, q.took...), append(p.late, q.late...)
	p.spent = q.since(spent{}.since(p.spent)) // q - (0 - p)
}

func (p *phase) idleShare() float64 { return share(p.idle, p.all) }

func share(part, all time.Duration) float64 { return float64(part) / float64(all) }

// mbps is bytes of the phase as MB a second.
func (p *phase) mbps(bytes float64) float64 { return bytes / p.elapsed.Seconds() / 1e6 }

// besides is what runs beside the producers.
type besides int

const (
	nothing besides = iota
	replays
	relays // of the same bytes from the store, without the broker
)

// isolationRows measure what replays do to producers: first what the broker can
// take, then in turns a quarter of it alone, beside replays held by a quota to what
// leaves a quarter of the machine idle, and beside relays of as many bytes, which show
// what the machine itself makes of them; at last beside replays at full speed.
// MinIO has its objects in memory where there is a file system for that: on a disk
// it would share the producer's, and it has one of its own where this matters. For
// the same reason it, the consumers and the relays run only where nobody else wants to.
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
	if err := x.calibrate(ctx); err != nil {
		return err
	}
	var phases [relays + 1]phase
	for range isolationRounds {
		for beside := range phases {
			p, err := x.measure(ctx, b.length, besides(beside))
			if err != nil {
				return err
			}
			phases[beside].add(p)
		}
	}
	alone := phases[nothing].p99()
	x.add("alone", phases[nothing], row{})
	x.add(fmt.Sprintf("8 replays held to %.0f MB/s", x.held/1e6), phases[replays], row{Limit: "p99 alone", LimitMs: alone, Want: "ratio 1.3"})
	x.add(fmt.Sprintf("8 relays held to %.0f MB/s", x.held/1e6), phases[relays], row{Limit: "p99 alone", LimitMs: alone})
	if err := hold(ctx, x.t.Kafka(), x.replays.ClientID, 0); err != nil {
		return err
	}
	full, err := x.measure(ctx, isolationRounds*b.length, replays)
	if err != nil {
		return err
	}
	x.add("8 replays at full speed", full, row{Limit: "p99 alone", LimitMs: alone})
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

// measure runs one phase: producers at the rate, beside something or not.
func (x *isolation) measure(ctx context.Context, length time.Duration, beside besides) (p phase, err error) {
	load, err := x.load(ctx)
	if err != nil {
		return p, err
	}
	var c *consumers
	if beside != nothing {
		what := consumption{Addr: x.t.Kafka(), Load: x.replays, Length: isolationWarmUp + length + time.Second}
		if beside == relays {
			what.Relays = &heldRelays{Store: x.t.minio.MinIOURL(storeBucket), N: isolationReplays, Rate: x.held}
		}
		if c, err = startConsumers(ctx, what); err != nil {
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
	p.elapsed, p.p99s = time.Since(start), []float64{percentile(p.took, 0.99)}
	after, err := x.spent(ctx, c)
	if err != nil {
		return p, err
	}
	p.spent = after.since(before)
	if c != nil {
		err = c.wait()
	}
	return p, errors.Join(err, x.drop(ctx, load.topic))
}

// spent is all time and all bytes so far, or of a phase.
type spent struct {
	idle, stolen, all                   time.Duration // of the machine
	broker, minio, consumers, producers time.Duration
	handed, read                        float64 // bytes, to replays and from MinIO
}

func (s spent) since(t spent) spent {
	return spent{
		s.idle - t.idle, s.stolen - t.stolen, s.all - t.all,
		s.broker - t.broker, s.minio - t.minio, s.consumers - t.consumers, s.producers - t.producers,
		s.handed - t.handed, s.read - t.read,
	}
}

func (x *isolation) spent(ctx context.Context, c *consumers) (s spent, err error) {
	if s.idle, s.stolen, s.all, err = machineCPU(); err != nil {
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
// idle for a quarter of the time, and leaves them held to it.
func (x *isolation) calibrate(ctx context.Context) error {
	alone, err := x.measure(ctx, x.b.length, nothing)
	if err != nil {
		return err
	}
	x.held = 100e6
	for range calibrations {
		if err := hold(ctx, x.t.Kafka(), x.replays.ClientID, x.held); err != nil {
			return err
		}
		p, err := x.measure(ctx, x.b.length, replays)
		if err != nil {
			return err
		}
		got, idle := p.mbps(p.handed), p.idleShare()
		fmt.Printf("    replays held to %.0f MB/s read %.0f MB/s, %.0f %% of the machine idle\n", x.held/1e6, got, 100*idle)
		used, near := alone.idleShare()-idle, idle > idleWanted-idleNear && idle < idleWanted+idleNear
		unable := idle > idleWanted && got*1e6 < x.held/2 // they are as fast as they can be
		if near || unable || used <= 0 {
			return nil
		}
		// What a byte costs is about the same at any rate.
		x.held = max(got*1e6*(alone.idleShare()-idleWanted)/used, 1e6)
	}
	return hold(ctx, x.t.Kafka(), x.replays.ClientID, x.held)
}

// add makes a row of a phase.
func (x *isolation) add(name string, p phase, r row) {
	r.Name = fmt.Sprintf("produce at a quarter (%.0f requests/s), %s", x.rate, name)
	r.MBps, r.Requests = p.mbps(float64(p.bytes)), float64(p.requests)/p.elapsed.Seconds()
	r.P50, r.P99, r.P999 = percentile(p.took, 0.50), p.p99(), percentile(p.took, 0.999)
	r.Note = fmt.Sprintf("cores: broker %.2f, MinIO %.2f, consumers %.2f, producers %.2f; machine idle %.0f %%, away %.0f %%; replays %.0f MB/s (%.0f from MinIO); requests sent late: p50 %.2f, p99 %.2f ms; p99 of each round %.2f, of all %.2f ms",
		share(p.broker, p.elapsed), share(p.minio, p.elapsed), share(p.consumers, p.elapsed), share(p.producers, p.elapsed), 100*p.idleShare(), 100*share(p.stolen, p.all), p.mbps(p.handed), p.mbps(p.read), percentile(p.late, 0.50), percentile(p.late, 0.99), p.p99s, percentile(p.took, 0.99))
	x.b.add(r)
}

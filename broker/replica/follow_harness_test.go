package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// lab is broker 2, a follower, with brokers 1 and 3 as leaders that answer from
// real logs: see leaderBroker. All four seams are in memory.
type lab struct {
	t       testing.TB
	net     *wire.MemoryNetwork
	kv      *kv.Mem
	md      *metadata.Store
	disk    *vfs.Mem // the follower's
	objects *object.Mem
	leaders map[metadata.BrokerID]*leaderBroker
	logged  lockedBuffer
	onDisk  atomic.Pointer[func(vfs.Op) error]                     // before an operation of the follower's disk
	onStore atomic.Pointer[func(context.Context, object.Op) error] // before one of the follower's store
	options func(o *Options)

	ctx      context.Context
	g        *errgroup.Group
	follower // one life of broker 2
}

// follower is a run of broker 2's following side.
type follower struct {
	m    *Manager
	f    *fetchers
	dir  *segment.Dir
	stop func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// inLab runs a test in a bubble of virtual time.
func inLab(t *testing.T, test func(l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.start()
		test(l)
	})
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, net: wire.NewMemoryNetwork(), kv: kv.NewMem(), disk: vfs.NewMem(), objects: object.NewMem(), leaders: map[metadata.BrokerID]*leaderBroker{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l.g, l.ctx = errgroup.WithContext(ctx)
	t.Cleanup(func() {
		cancel()
		l.must(l.g.Wait())
	})
	var err error
	l.md, err = metadata.Open(l.ctx, metadata.Options{KV: l.kv.Client(nil)})
	l.must(err)
	l.g.Go(func() error { return l.md.Run(l.ctx) })
	for _, id := range []metadata.BrokerID{1, 3} {
		l.leaders[id] = newLeaderBroker(l, id)
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) tier(ctx context.Context, g *errgroup.Group, hook func(context.Context, object.Op) error) *tiering.Manager {
	chunks, err := cache.New(cache.Options{MemoryBytes: 1 << 20, ChunkBytes: 4 << 10})
	l.must(err)
	tier, err := tiering.New(tiering.Options{Store: object.WithFaults(l.objects, hook), Metadata: l.md, Cache: chunks, ClusterID: "c", Interval: 500 * time.Millisecond})
	l.must(err)
	g.Go(func() error { return chunks.Run(ctx) })
	g.Go(func() error { return tier.Run(ctx) })
	return tier
}

// start begins a run of the follower.
func (l *lab) start() {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.ctx)
	g, ctx := errgroup.WithContext(ctx)
	fs := vfs.WithFaults(l.disk, func(op vfs.Op) error {
		if hook := l.onDisk.Load(); hook != nil {
			return (*hook)(op)
		}
		return nil
	})
	var m *Manager
	dir, err := segment.OpenDir(segment.DirOptions{FS: fs, Path: "/data", OnOffline: func(err error) { m.DirOffline("/data", err) }})
	l.must(err)
	tier := l.tier(ctx, g, func(ctx context.Context, op object.Op) error {
		if hook := l.onStore.Load(); hook != nil {
			return (*hook)(ctx, op)
		}
		return nil
	})
	o := Options{
		Broker: 2, Metadata: l.md, Dirs: []*segment.Dir{dir}, Remote: tier,
		TopicConfig:         func(map[string]string) (TopicConfig, error) { return TopicConfig{Log: logConfig()}, nil },
		Dial:                l.net.Host("follower").Dial,
		InterBrokerListener: "INTERNAL",
		Logger:              slog.New(slog.NewTextHandler(io.MultiWriter(&l.logged, l.t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if l.options != nil {
		l.options(&o)
	}
	m, err = New(o)
	l.must(err)
	l.follower = follower{m: m, f: newFetchers(m), dir: dir}
	run := l.f
	g.Go(func() error { return dir.Run(ctx) })
	g.Go(func() error { return run.run(ctx) })
	l.stop = sync.OnceFunc(func() {
		cancel()
		l.must(g.Wait())
		_ = dir.Close() // it may be offline
	})
	l.t.Cleanup(l.stop)
}

// crash ends the follower's run as a power cut does and begins another.
func (l *lab) crash(disk *vfs.Mem) {
	l.t.Helper()
	l.stop()
	l.disk = disk
	l.start()
}

func logConfig() segment.Config {
	return segment.Config{SegmentBytes: 2000, IndexIntervalBytes: 200, RetentionBytes: -1, RetentionAge: -1, LocalRetentionBytes: 1, LocalRetentionAge: -1,
		Delete: true, RemoteEnabled: true}
}

// topic creates a topic led by broker 1 in epoch 1, with its log there.
func (l *lab) topic(name string) *ledger {
	l.t.Helper()
	id, err := l.md.CreateTopic(l.ctx, metadata.TopicSpec{Name: name, Assignments: [][]metadata.BrokerID{{1, 2, 3}}})
	l.must(err)
	synctest.Wait()
	_ = id
	l.elect(name, 1, 1)
	return l.leaders[1].ledger(l.tip(name))
}

func (l *lab) tip(name string) metadata.TopicIDPartition {
	l.t.Helper()
	t, ok := l.md.Image().Topic(name)
	if !ok {
		l.t.Fatalf("no topic %s", name)
	}
	return metadata.TopicIDPartition{Topic: t.ID}
}

// elect decides who leads.
func (l *lab) elect(name string, leader metadata.BrokerID, epoch int32) {
	l.t.Helper()
	topic, _ := l.md.Image().Topic(name)
	from := topic.Partitions[0]
	to := from
	to.Leader, to.LeaderEpoch, to.LeaderBrokerEpoch = leader, epoch, l.leaders[leader].session.Epoch
	to.Epoch++
	for _, err := range l.md.AlterPartitions(l.ctx, []metadata.PartitionChange{{TopicIDPartition: l.tip(name), From: from, To: to}}) {
		l.must(err)
	}
	synctest.Wait()
	l.leaders[leader].lead(l.tip(name), epoch)
}

// open opens the follower's log of a topic.
func (l *lab) open(name string) *Partition {
	l.t.Helper()
	p, err := l.m.open(l.dir, metadata.TopicPartition{Topic: name}, l.tip(name), TopicConfig{Log: logConfig()})
	l.must(err)
	s := *p.state.Load()
	s.remote = true
	p.state.Store(&s)
	return p
}

// follow opens the follower's log and follows broker 1 in epoch 1.
func (l *lab) follow(name string) *Partition {
	l.t.Helper()
	p := l.open(name)
	l.f.assign(p, 1, 1)
	return p
}

// until waits for a condition, for at most a minute of virtual time.
func (l *lab) until(what string, ok func() bool) {
	l.t.Helper()
	for range 6000 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatalf("never: %s", what)
}

// caughtUp waits until p has all that lg has.
func (l *lab) caughtUp(p *Partition, lg *ledger) {
	l.t.Helper()
	l.until(fmt.Sprintf("%s has all of the leader's %d records", p.tp, lg.log.LogEnd()), func() bool {
		return p.log.SyncedOffset() == lg.log.LogEnd() && p.log.HighWatermark() == lg.log.LogEnd()
	})
}

// equal compares what two logs hold from an offset on.
func (l *lab) equal(p *Partition, lg *ledger, from int64) {
	l.t.Helper()
	got, want := dump(l.t, p.log, from), dump(l.t, lg.log, from)
	if !slices.Equal(got, want) {
		l.t.Errorf("follower has %q, leader %q", got, want)
	}
}

// dump lists a log's records as offset/epoch=value.
func dump(t testing.TB, log *segment.Log, from int64) []string {
	t.Helper()
	var out []string
	for at := max(from, log.LocalLogStart()); at < log.LogEnd(); {
		c, err := log.Read(at, segment.ReadOptions{UpTo: log.LogEnd(), MaxBytes: 1 << 20, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		at = c.NextOffset()
		c.Release()
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := batch.Each(nil, func(r record.Record) error {
				out = append(out, fmt.Sprintf("%d/%d=%s", r.Offset, batch.LeaderEpoch(), bytes.TrimLeft(r.Value, "0")))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			b = rest
		}
	}
	return out
}

var errInjected = errors.New("injected")

// batches are record batches from an offset on, one per value.
func batches(base int64, epoch int32, values ...string) []byte {
	var out []byte
	for i, v := range values {
		b := record.NewBuilder(record.BuilderOptions{BaseOffset: base + int64(i), LeaderEpoch: epoch})
		b.Append(1_700_000_000_000, nil, []byte(v))
		out = append(out, b.Build()...)
	}
	return out
}

// afterOps keeps what a power cut at the n-th write of a disk leaves.
func afterOps(ops *int, n int, disk *vfs.Mem, left *atomic.Pointer[vfs.Mem]) func(vfs.Op) error {
	var mu sync.Mutex
	return func(op vfs.Op) error {
		if !op.Kind.Write() {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if *ops++; *ops == n {
			left.Store(disk.Crash(rand.New(rand.NewSource(int64(n))), 50))
		}
		return nil
	}
}

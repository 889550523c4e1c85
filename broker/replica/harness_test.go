package replica_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is broker 1's replica manager over a real log directory, metadata store
// and tier, all in memory. What is in it outlives a run; start begins one.
type bench struct {
	t       *testing.T
	kv      *kv.Mem
	disk    *vfs.Mem
	objects *object.Mem
	config  replica.TopicConfig
	leading map[string]int // OnLeadership, by partition: started minus stopped

	// the disk's syncs: held back by so long, or failing
	syncDelay atomic.Int64
	getDelay  atomic.Int64            // of every read from the object store
	kvHook    atomic.Pointer[kv.Hook] // what happens between the broker and etcd
	onDisk    atomic.Pointer[func(vfs.Op) error]

	*run
}

// run is one life of the broker.
type run struct {
	md      *metadata.Store
	dir     *segment.Dir
	m       *replica.Manager
	session *metadata.Session
	inForce atomic.Pointer[metadata.Session] // what the manager is told
	stop    func()
}

func newBench(t *testing.T) *bench {
	return &bench{
		t: t, kv: kv.NewMem(), disk: vfs.NewMem(), objects: object.NewMem(), leading: map[string]int{},
		config: replica.TopicConfig{MinInSyncReplicas: 1, Log: segment.Config{
			SegmentBytes: 2000, IndexIntervalBytes: 200, RetentionBytes: -1, RetentionAge: -1, LocalRetentionBytes: 1, LocalRetentionAge: -1,
			Delete: true, RemoteEnabled: true,
		}},
	}
}

// in runs a test in a bubble of virtual time.
func in(t *testing.T, test func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		test(t, b)
	})
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// start opens everything and registers the broker; it ends with the test, or
// with stop.
func (b *bench) start() {
	b.t.Helper()
	b.open()
	b.register()
}

// open is start without the registration.
func (b *bench) open() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	r := &run{}
	b.run = r
	var err error
	r.md, err = metadata.Open(ctx, metadata.Options{KV: b.kv.Client(func(ctx context.Context, c kv.Call) error {
		if hook := b.kvHook.Load(); hook != nil {
			return (*hook)(ctx, c)
		}
		return nil
	})})
	b.must(err)
	fs := vfs.WithFaults(b.disk, func(op vfs.Op) error {
		if wait := b.syncDelay.Load(); wait > 0 && op.Kind == vfs.OpSync {
			time.Sleep(time.Duration(wait))
		}
		if hook := b.onDisk.Load(); hook != nil {
			return (*hook)(op)
		}
		return nil
	})
	r.dir, err = segment.OpenDir(segment.DirOptions{FS: fs, Path: "/data"})
	b.must(err)
	chunks, err := cache.New(cache.Options{MemoryBytes: 1 << 20, ChunkBytes: 4 << 10})
	b.must(err)
	objects := object.WithFaults(b.objects, func(_ context.Context, op object.Op) error {
		if wait := b.getDelay.Load(); wait > 0 && op.Kind == object.OpGet && !op.After {
			time.Sleep(time.Duration(wait))
		}
		return nil
	})
	tier, err := tiering.New(tiering.Options{Store: objects, Metadata: r.md, Cache: chunks, ClusterID: "c", Interval: 500 * time.Millisecond})
	b.must(err)
	r.m, err = replica.New(replica.Options{
		Broker: 1, Metadata: r.md, Dirs: []*segment.Dir{r.dir}, Remote: tier, RetentionInterval: time.Second,
		Session:     r.inForce.Load,
		TopicConfig: func(map[string]string) (replica.TopicConfig, error) { return b.config, nil },
		OnLeadership: func(p *replica.Partition, leading bool) {
			if b.leading[p.TopicPartition().String()]--; leading {
				b.leading[p.TopicPartition().String()] += 2
			}
		},
	})
	b.must(err)
	var g errgroup.Group
	for _, f := range []func(context.Context) error{r.md.Run, r.dir.Run, chunks.Run, tier.Run, r.m.Run} {
		g.Go(func() error { return f(ctx) })
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if r.session != nil {
			b.must(r.session.Close(ctx))
			synctest.Wait()
		}
		cancel()
		b.must(g.Wait())
		b.must(r.dir.Close())
	}
	b.t.Cleanup(r.stop)
	<-r.m.Ready()
	synctest.Wait()
}

func (b *bench) register() {
	b.t.Helper()
	var err error
	b.session, err = b.md.RegisterBroker(b.t.Context(), metadata.Registration{ID: 1, DirectoryID: "d", Incarnation: fmt.Sprint(time.Now().UnixNano())})
	b.must(err)
	b.inForce.Store(b.session)
	time.Sleep(50 * time.Millisecond) // it may be noticed late
	synctest.Wait()
}

// restart ends the run cleanly and begins another, which does not lead yet.
func (b *bench) restart() {
	b.t.Helper()
	b.stop()
	time.Sleep(time.Second) // another incarnation
	b.start()
}

// topic creates a topic of one partition and returns its partition here, or nil.
func (b *bench) topic(name string, replicas ...metadata.BrokerID) *replica.Partition {
	b.t.Helper()
	if len(replicas) == 0 {
		replicas = []metadata.BrokerID{1}
	}
	_, err := b.md.CreateTopic(b.t.Context(), metadata.TopicSpec{Name: name, Assignments: [][]metadata.BrokerID{replicas}})
	b.must(err)
	synctest.Wait()
	return b.partition(name)
}

func tp(name string) metadata.TopicPartition { return metadata.TopicPartition{Topic: name} }

func (b *bench) partition(name string) *replica.Partition {
	p, err := b.m.Partition(tp(name))
	if err != nil {
		return nil
	}
	return p
}

// decide changes the state of a topic's partition as a controller would.
func (b *bench) decide(name string, change func(p *metadata.Partition)) {
	b.t.Helper()
	synctest.Wait()
	topic, ok := b.md.Image().Topic(name)
	if !ok {
		b.t.Fatalf("no topic %s", name)
	}
	from := topic.Partitions[0]
	to := from
	change(&to)
	for _, err := range b.md.AlterPartitions(b.t.Context(), []metadata.PartitionChange{{TopicIDPartition: metadata.TopicIDPartition{Topic: topic.ID}, From: from, To: to}}) {
		b.must(err)
	}
	synctest.Wait()
}

// elect makes broker 1 the leader under its registration.
func (b *bench) elect(name string) {
	b.t.Helper()
	b.decide(name, func(p *metadata.Partition) {
		p.Leader, p.LeaderBrokerEpoch = 1, b.session.Epoch
		p.LeaderEpoch++
	})
}

func (b *bench) append(name string, acks replica.Acks, values ...string) (replica.Appended, error) {
	builder := record.NewBuilder(record.BuilderOptions{})
	for _, v := range values {
		builder.Append(time.Now().UnixMilli(), nil, []byte(v))
	}
	return b.m.Append(tp(name), builder.Build(), acks, segment.Client, time.Now())
}

// fill appends n records of about a hundred bytes and waits for their acks.
func (b *bench) fill(name string, n int) {
	b.t.Helper()
	for i := range n {
		a, err := b.append(name, replica.AcksAll, fmt.Sprintf("%0100d", i))
		b.must(err)
		b.must(a.Wait(b.t.Context()))
	}
}

// fetch reads a partition from an offset, without waiting unless told.
func (b *bench) fetch(p *replica.Partition, offset int64, change func(r *replica.FetchRequest)) replica.FetchResult {
	req := &replica.FetchRequest{Replica: -1, MinBytes: 1, MaxBytes: 1 << 20, Partitions: []replica.FetchPartition{
		{ID: p.ID(), Offset: offset, MaxBytes: 1 << 20, CurrentEpoch: -1, FetchedEpoch: -1},
	}}
	if change != nil {
		change(req)
	}
	r := b.m.Fetch(b.t.Context(), req)[0]
	if r.Data != nil {
		b.t.Cleanup(r.Data.Release)
	}
	return r
}

func (b *bench) wants(what string, got, want error) {
	b.t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		b.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// hold makes the operations of the disk that match wait until release.
func (b *bench) hold(match func(op vfs.Op) bool) (release func()) {
	held := make(chan struct{})
	hook := func(op vfs.Op) error {
		if match(op) {
			<-held
		}
		return nil
	}
	b.onDisk.Store(&hook)
	release = sync.OnceFunc(func() {
		b.onDisk.Store(nil)
		close(held)
	})
	b.t.Cleanup(release)
	return release
}

package replica_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// fleet is several brokers' replica managers with their controllers: one store,
// one bucket, one network, and a disk each, all in memory. It stands for a
// cluster without clients' API.
type fleet struct {
	t       *testing.T
	kv      *kv.Mem
	net     *wire.MemoryNetwork
	objects *object.Mem
	nodes   []*node
	config  replica.TopicConfig
	unclean atomic.Bool
	options func(n *node, o *replica.Options)
	logged  *strings.Builder
	logging sync.Mutex
}

// node is one broker; what is in it outlives a run.
type node struct {
	*fleet
	id       metadata.BrokerID
	rack     string
	role     string
	disk     *vfs.Mem
	cutOff   atomic.Bool // from the store
	onKV     atomic.Pointer[func(context.Context, kv.Call) error]
	noStore  atomic.Bool  // the bucket does not answer this broker
	badDisk  atomic.Bool  // syncs fail
	slowSync atomic.Int64 // nanoseconds
	runs     int

	*life
}

// life is one run of a broker.
type life struct {
	md      *metadata.Store
	dir     *segment.Dir
	m       *replica.Manager
	remote  *tiering.Manager
	inForce atomic.Pointer[metadata.Session]
	dead    atomic.Bool // what it says from now on is not heard
	stop    func()
}

// inFleet runs a test over n brokers in a bubble of virtual time.
func inFleet(t *testing.T, n int, prepare func(f *fleet), test func(t *testing.T, f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{
			t: t, kv: kv.NewMem(), net: wire.NewMemoryNetwork(), objects: object.NewMem(), logged: &strings.Builder{},
			config: replica.TopicConfig{MinInSyncReplicas: 1, Log: segment.Config{
				SegmentBytes: 2000, IndexIntervalBytes: 200, RetentionBytes: -1, RetentionAge: -1, LocalRetentionBytes: -1, LocalRetentionAge: -1, Delete: true,
			}},
		}
		for id := range n {
			f.nodes = append(f.nodes, &node{fleet: f, id: metadata.BrokerID(id + 1), rack: string(rune('a' + id)), disk: vfs.NewMem()})
		}
		if prepare != nil {
			prepare(f)
		}
		for _, n := range f.nodes {
			n.start()
		}
		f.until("all are registered", func() bool { return len(f.nodes[0].md.Image().Brokers()) == len(f.nodes) })
		test(t, f)
		if t.Failed() {
			t.Log(f.log())
		}
	})
}

// Write implements io.Writer for the logs of all.
func (f *fleet) Write(p []byte) (int, error) {
	f.logging.Lock()
	defer f.logging.Unlock()
	return f.logged.Write(p)
}

func (f *fleet) log() string {
	f.logging.Lock()
	defer f.logging.Unlock()
	return f.logged.String()
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// until waits for a condition, for at most a minute and a half of virtual time.
func (f *fleet) until(what string, ok func() bool) {
	f.t.Helper()
	for range 9_000 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Fatalf("never: %s\n%s", what, f.log())
}

func (f *fleet) node(id metadata.BrokerID) *node { return f.nodes[id-1] }

func (n *node) host() string { return fmt.Sprint("broker", n.id) }

// hook stands between a broker and the store.
func (n *node) hook(l *life) kv.Hook {
	return func(ctx context.Context, c kv.Call) error {
		if n.cutOff.Load() || l.dead.Load() {
			return fmt.Errorf("%w: cut off", kv.ErrUnavailable)
		}
		if fn := n.onKV.Load(); fn != nil {
			return (*fn)(ctx, c)
		}
		return nil
	}
}

func (n *node) onStore(context.Context, object.Op) error {
	if n.noStore.Load() {
		return errors.New("bucket is away")
	}
	return nil
}

// start begins a run.
func (n *node) start() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	g, ctx := errgroup.WithContext(ctx)
	l := &life{}
	n.life = l
	n.runs++
	var err error
	l.md, err = metadata.Open(ctx, metadata.Options{KV: n.kv.Client(n.hook(l))})
	n.must(err)
	fs := vfs.WithFaults(n.disk, func(op vfs.Op) error {
		if d := n.slowSync.Load(); d > 0 && op.Kind == vfs.OpSync {
			time.Sleep(time.Duration(d))
		}
		if n.badDisk.Load() && op.Kind == vfs.OpSync {
			return errors.New("bad disk")
		}
		return nil
	})
	l.dir, err = segment.OpenDir(segment.DirOptions{FS: fs, Path: "/data", OnOffline: func(err error) { l.m.DirOffline("/data", err) }})
	n.must(err)
	chunks, err := cache.New(cache.Options{MemoryBytes: 1 << 20, ChunkBytes: 4 << 10})
	n.must(err)
	tier, err := tiering.New(tiering.Options{Store: object.WithFaults(n.objects, n.onStore), Metadata: l.md, Cache: chunks, ClusterID: "c", Interval: 500 * time.Millisecond})
	n.must(err)
	l.remote = tier
	o := replica.Options{
		Broker: n.id, Metadata: l.md, Dirs: []*segment.Dir{l.dir}, Remote: tier, RetentionInterval: time.Second,
		TopicConfig: func(map[string]string) (replica.TopicConfig, error) { return n.config, nil },
		Session:     l.inForce.Load, Dial: n.net.Host(n.host()).Dial, InterBrokerListener: "IN", LagMax: 10 * time.Second,
		Logger: slog.New(slog.NewTextHandler(n.fleet, nil)).With("broker", n.id),
	}
	if n.options != nil {
		n.options(n, &o)
	}
	l.m, err = replica.New(o)
	n.must(err)
	ctl, err := controller.New(controller.Options{Store: l.md, Sessions: l.inForce.Load, Unclean: func(string) bool { return n.unclean.Load() }, BalanceInterval: -1})
	n.must(err)
	listener, err := n.net.Listen(n.host() + ":9092")
	n.must(err)
	server, err := wire.NewServer(wire.Options{Handler: answerer{l.m}, Listeners: []wire.Listener{{Name: "IN", Listener: listener}}})
	n.must(err)
	for _, f := range []func(context.Context) error{l.md.Run, l.dir.Run, chunks.Run, tier.Run, l.m.Run, ctl.Run, server.Run, func(ctx context.Context) error { return n.register(ctx, l) }} {
		g.Go(func() error { return f(ctx) })
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		n.must(g.Wait())
		_ = l.dir.Close() // of a broker that died, nobody cares
	})
	n.t.Cleanup(l.stop)
	<-l.m.Ready()
}

// register keeps the broker registered, under a new epoch where a lease was lost.
func (n *node) register(ctx context.Context, l *life) error {
	for ctx.Err() == nil {
		s, err := l.md.RegisterBroker(ctx, metadata.Registration{
			ID: n.id, Rack: n.rack, Role: n.role, DirectoryID: fmt.Sprint("d", n.id), Incarnation: fmt.Sprint(n.runs),
			Listeners: []metadata.Listener{{Name: "IN", Host: n.host(), Port: 9092}},
		})
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		l.inForce.Store(s)
		select {
		case <-s.Done():
		case <-ctx.Done():
		}
		s.Abandon()
	}
	return nil
}

// part cuts a broker's links to all others, or heals them.
func (n *node) part(cut bool) {
	for _, other := range n.nodes {
		if other.id != n.id {
			n.net.SetFault(n.host(), other.host(), wire.Fault{Cut: cut})
			n.net.SetFault(other.host(), n.host(), wire.Fault{Cut: cut})
		}
	}
}

// crash takes the broker's power: of what is not synced, keep percent survive.
func (n *node) crash(rng *rand.Rand, keep int) {
	n.dead.Store(true)
	n.part(true)
	left := n.disk.Crash(rng, keep)
	n.stop()
	n.disk = left
	for _, other := range n.nodes {
		n.net.Reset(n.host(), other.host())
	}
	n.part(false)
}

// topic creates a topic of one partition.
func (f *fleet) topic(name string, replicas ...metadata.BrokerID) {
	f.t.Helper()
	_, err := f.nodes[0].md.CreateTopic(f.t.Context(), metadata.TopicSpec{Name: name, Assignments: [][]metadata.BrokerID{replicas}})
	f.must(err)
	f.leader(name)
}

// partition is a topic's partition as a broker sees it.
func (n *node) image(name string) metadata.Partition {
	p, _ := n.md.Image().Partition(tp(name))
	return p
}

// leader waits until a broker leads and the others follow it.
func (f *fleet) leader(name string) (leader *node) {
	f.t.Helper()
	f.until("somebody leads "+name, func() bool {
		for _, n := range f.nodes {
			if p, err := n.m.Partition(tp(name)); err == nil && p.Leading() && !n.dead.Load() && !n.cutOff.Load() {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// inSync waits until so many replicas are.
func (f *fleet) inSync(name string, want ...metadata.BrokerID) {
	f.t.Helper()
	f.until(fmt.Sprintf("%s has the in-sync replicas %v", name, want), func() bool {
		isr := slices.Clone(f.leader(name).image(name).ISR)
		slices.Sort(isr)
		return slices.Equal(isr, want)
	})
}

// unchanged does something, and looks for changes of the partition's state.
func (f *fleet) unchanged(name string, d time.Duration, do func()) {
	f.t.Helper()
	before := f.leader(name).image(name)
	do()
	time.Sleep(d)
	synctest.Wait()
	if after := f.leader(name).image(name); !after.Equal(before) {
		f.t.Errorf("%s became %+v, was %+v", name, after, before)
	}
}

// decide changes the state of a topic's partition as a controller would, when nobody
// is about to change it: the change holds only if the state is what it was.
func (f *fleet) decide(name string, change func(p *metadata.Partition)) {
	f.t.Helper()
	synctest.Wait()
	md := f.nodes[0].md
	topic, _ := md.Image().Topic(name)
	to := topic.Partitions[0]
	change(&to)
	for _, err := range md.AlterPartitions(f.t.Context(), []metadata.PartitionChange{{TopicIDPartition: metadata.TopicIDPartition{Topic: topic.ID}, From: topic.Partitions[0], To: to}}) {
		f.must(err)
	}
	synctest.Wait()
}

func (n *node) partition(name string) *replica.Partition {
	n.t.Helper()
	p, err := n.m.Partition(tp(name))
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (n *node) append(name string, acks replica.Acks, values ...string) (replica.Appended, error) {
	builder := record.NewBuilder(record.BuilderOptions{})
	for _, v := range values {
		builder.Append(time.Now().UnixMilli(), nil, []byte(v))
	}
	return n.m.Append(tp(name), builder.Build(), acks, segment.Client, time.Now())
}

// put appends to the leader, whoever that is, until it is acked by all.
func (f *fleet) put(name string, values ...string) {
	f.t.Helper()
	for _, v := range values {
		f.until("an ack", func() bool {
			a, err := f.leader(name).append(name, replica.AcksAll, v)
			return err == nil && a.WaitOr(f.t.Context(), time.After(30*time.Second)) == nil
		})
	}
}

// fill puts n records of about a hundred bytes.
func (f *fleet) fill(name string, n int) {
	f.t.Helper()
	for i := range n {
		f.put(name, fmt.Sprintf("%0100d", i))
	}
}

// read fetches as a consumer. It returns what is read by offset.
func (n *node) read(name string, offset int64, change func(r *replica.FetchRequest)) (replica.FetchResult, map[int64]string) {
	n.t.Helper()
	t, ok := n.md.Image().Topic(name)
	if !ok {
		n.t.Fatalf("no topic %s", name)
	}
	req := &replica.FetchRequest{Replica: -1, MinBytes: 1, MaxBytes: 1 << 20, AnyReplica: true, Partitions: []replica.FetchPartition{
		{ID: metadata.TopicIDPartition{Topic: t.ID}, Offset: offset, MaxBytes: 1 << 20, CurrentEpoch: -1, FetchedEpoch: -1},
	}}
	if change != nil {
		change(req)
	}
	r := n.m.Fetch(n.t.Context(), req)[0]
	if r.Data == nil {
		return r, nil
	}
	defer r.Data.Release()
	b, err := r.Data.AppendTo(nil)
	n.must(err)
	return r, valuesOf(n.t, b)
}

// valuesOf decodes whole batches.
func valuesOf(t *testing.T, b []byte) map[int64]string {
	t.Helper()
	out := map[int64]string{}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := batch.Each(nil, func(r record.Record) error {
			out[r.Offset] = string(r.Value)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		b = rest
	}
	return out
}

// all reads a broker's local log from an offset to its end.
func (n *node) all(name string, from int64) map[int64]string {
	n.t.Helper()
	out := map[int64]string{}
	log := n.partition(name).Log()
	for from = max(from, log.LocalLogStart()); from < log.LogEnd(); {
		c, err := log.Read(from, segment.ReadOptions{UpTo: log.LogEnd(), MaxBytes: 1 << 20, MinOne: true})
		n.must(err)
		b, err := c.AppendTo(nil)
		n.must(err)
		from = c.NextOffset()
		c.Release()
		for o, v := range valuesOf(n.t, b) {
			out[o] = v
		}
	}
	return out
}

func wants(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// batch is one record.
func batch(value string) []byte {
	builder := record.NewBuilder(record.BuilderOptions{})
	builder.Append(time.Now().UnixMilli(), nil, []byte(value))
	return builder.Build()
}

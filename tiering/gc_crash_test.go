package tiering

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

var (
	crashes   = flag.Int("crashes", 200, "random crashes of TestFsckIsCleanAfterRandomCrashes")
	crashSeed = flag.Int64("crashseed", 0, "first seed of TestFsckIsCleanAfterRandomCrashes; 0: the time")
)

const livesOfASeed = 12

// TestFsckIsCleanAfterRandomCrashes is invariant 5 and what issue 5 asks of fsck: lives of a partition that end with
// a crash in upload, eviction, retention, topic deletion and its return, and changes of leader while the old one goes
// on, with the bucket and etcd failing now and then. While it goes on nothing is deleted that can be reached or
// could until less than the grace period ago; afterwards nothing is missing, and nothing is left but what is named.
func TestFsckIsCleanAfterRandomCrashes(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = time.Now().UnixNano() % 1e9
	}
	total := *crashes
	if testing.Short() {
		total = min(total, 60)
	}
	died := 0
	defer func() { t.Logf("%d crashes, the last with -crashseed %d -crashes 1", died, seed) }()
	for ; died < total && !t.Failed(); seed++ {
		died += crashLives(t, seed)
	}
	seed--
}

// guard is the bucket, and refuses to lose what must stay.
type guard struct {
	object.Store
	w     *chaos
	mu    sync.Mutex
	named map[string]time.Time // last seen reachable
}

// look notes what is reachable now.
func (g *guard) look() map[string]bool {
	now := g.w.reachable()
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range now {
		g.named[key] = time.Now()
	}
	return now
}

func (g *guard) Delete(ctx context.Context, keys ...string) error {
	now := g.look()
	for _, key := range keys {
		g.mu.Lock()
		last, was := g.named[key]
		g.mu.Unlock()
		switch {
		case now[key]:
			g.w.t.Errorf("%s is deleted and a manifest names it", key)
		case was && time.Since(last) < g.w.grace && !g.w.purging(key):
			g.w.t.Errorf("%s is deleted %v after a manifest named it", key, time.Since(last))
		}
	}
	return g.Store.Delete(ctx, keys...)
}

// chaos is a world with what the lives share.
type chaos struct {
	*world
	rng     *rand.Rand
	grace   time.Duration
	guard   *guard
	md      *metadata.Store // of the test
	control *Manager        // of the controller's broker, which leads nothing
	stale   []*broker
	flaky   sync.Mutex
	faults  *rand.Rand // of the bucket and etcd, nil while they work
	purged  map[metadata.TopicID]bool
	crashed int
}

// reachable is what manifests name, those of deleted topics that may come back too.
func (c *chaos) reachable() map[string]bool {
	ctx := context.WithoutCancel(c.t.Context())
	names := map[string]bool{}
	md, err := metadata.Open(ctx, metadata.Options{KV: c.kv})
	if err != nil {
		c.t.Fatal(err)
	}
	im := md.Image()
	topics := im.Topics()
	for _, g := range im.Tombstones() {
		if !g.Purging {
			topics = append(topics, &g.Topic)
		}
	}
	for _, topic := range topics {
		pointer, ok := im.RemotePointer(metadata.TopicIDPartition{Topic: topic.ID})
		if !ok {
			continue
		}
		root, err := manifest.DecodeRoot(c.body(pointer.Manifest))
		if err != nil {
			c.t.Fatal(err)
		}
		dir, _ := manifest.DirOf(pointer.Manifest)
		names["c1/"+pointer.Manifest] = true
		tr := manifest.Tree{Root: root, Load: func(_ context.Context, ref manifest.Ref) (*manifest.Node, error) {
			names["c1/"+manifest.NodeKey(dir, ref.Object)] = true
			return manifest.DecodeNode(c.body(manifest.NodeKey(dir, ref.Object)), ref)
		}}
		for e, err := range tr.Walk(ctx, 0, nil) {
			if err != nil {
				c.t.Fatal(err)
			}
			names["c1/"+manifest.SegmentKey(dir, e.Object, manifest.LogSuffix)] = true
			names["c1/"+manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix)] = true
		}
	}
	return names
}

func (c *chaos) body(key string) []byte {
	b, err := object.ReadAll(context.WithoutCancel(c.t.Context()), c.store, "c1/"+key, 1<<30)
	if err != nil {
		c.t.Errorf("named %s: %v", key, err)
	}
	return b
}

// purging says whether a key is of a topic that can no longer come back.
func (c *chaos) purging(key string) bool {
	f, _, ok := manifest.ParseTopicKey(strings.TrimPrefix(key, "c1/"))
	if !ok {
		return false
	}
	im, err := c.md.Fresh(context.WithoutCancel(c.t.Context()))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, g := range im.Tombstones() {
		if g.Topic.ID == f.ID {
			return g.Purging
		}
	}
	_, there := im.TopicByID(f.ID)
	return !there
}

// fault is an error now and then, while there are faults.
func (c *chaos) fault(what error) error {
	c.flaky.Lock()
	defer c.flaky.Unlock()
	if c.faults != nil && c.faults.Intn(8) == 0 {
		return what
	}
	return nil
}

func (c *chaos) setFaults(on bool) {
	c.flaky.Lock()
	defer c.flaky.Unlock()
	c.faults = nil
	if on {
		c.faults = rand.New(rand.NewSource(c.rng.Int63()))
	}
}

func (c *chaos) seams() (object.Store, kv.KV) {
	store := object.WithFaults(c.guard, func(context.Context, object.Op) error { return c.fault(object.ErrUnavailable) })
	client := c.kv.Client(func(_ context.Context, call kv.Call) error {
		if call.Kind == kv.CallTxn {
			time.Sleep(2 * time.Millisecond) // virtual
			return c.fault(kv.ErrUnavailable)
		}
		return nil
	})
	return store, client
}

func (c *chaos) settings(fs vfs.FS, point *crashPoint) settings {
	s := tiny()
	if c.rng.Intn(2) == 0 {
		s = crashSettings()
	}
	store, client := c.seams()
	s.fs = fs
	s.o.Grace, s.o.Sweep = c.grace, 200*time.Millisecond
	s.noLead = true
	if point != nil {
		s = point.armOver(s, fs, store, client)
	} else {
		s.store, s.kv = store, client
	}
	return s
}

// armOver is arm over given seams.
func (p *crashPoint) armOver(s settings, fs vfs.FS, store object.Store, client kv.KV) settings {
	s.fs = vfs.WithFaults(fs, func(op vfs.Op) error {
		if op.N == 0 {
			return nil
		}
		return p.step(fmt.Sprint("disk ", op.Kind, " ", op.Path))
	})
	s.store = object.WithFaults(store, func(_ context.Context, op object.Op) error {
		if op.Kind != object.OpPut && op.Kind != object.OpDelete {
			return p.alive()
		}
		return p.step(fmt.Sprint("bucket ", op.Kind, " ", op.Key, " after ", op.After))
	})
	s.kv = &crashKV{KV: client, p: p}
	return s
}

// alive fails once the process is dead.
func (p *crashPoint) alive() error {
	if p.dead() {
		return errCrash
	}
	return nil
}

// crashKV counts transactions before and after they take effect.
type crashKV struct {
	kv.KV
	p *crashPoint
}

func (k *crashKV) Txn(ctx context.Context, t kv.Txn) (kv.TxnResponse, error) {
	if err := k.p.step("etcd before"); err != nil {
		return kv.TxnResponse{}, fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
	}
	resp, err := k.KV.Txn(ctx, t)
	if serr := k.p.step("etcd after"); serr != nil {
		return kv.TxnResponse{}, fmt.Errorf("%w: %w", kv.ErrUnavailable, serr)
	}
	return resp, err
}

// lead elects the world's one broker anew, or nobody.
func (c *chaos) lead(leader metadata.BrokerID) {
	from, ok := c.md.Image().PartitionByID(c.tip())
	if !ok {
		c.t.Fatal("no topic")
	}
	to := from
	to.Leader, to.Recovering, to.LeaderEpoch = leader, false, from.LeaderEpoch+1
	if errs := c.md.AlterPartitions(c.t.Context(), []metadata.PartitionChange{{TopicIDPartition: c.tip(), From: from, To: to}}); errs[0] != nil {
		c.t.Fatal(errs[0])
	}
}

// begin starts a life: on the disk of the last leader, or on an empty one that takes what the tier has.
func (c *chaos) begin(point *crashPoint, empty bool) (*broker, error) {
	c.lead(1)
	if empty {
		c.fs = vfs.NewMem()
	}
	b, err := c.start(c.settings(c.fs, point))
	if err != nil {
		return nil, err
	}
	// As an unclean leader does, also one whose predecessor died while it did.
	aux, ok, err := b.m.AuxState(c.t.Context(), c.tip())
	if from := max(aux.EndOffset, aux.LogStart); err == nil && ok && b.log.LogEnd() < from {
		if err = b.log.TruncateFullyAndStartAt(from, aux.LogStart); err == nil {
			err = b.log.RestoreFromRemote(from, aux.Epochs, aux.ProducerSnapshot)
		}
	}
	if err != nil {
		return b, err
	}
	if err := b.log.AssignEpoch(b.epoch, b.log.LogEnd()); err != nil {
		return b, err
	}
	b.log.SetHighWatermark(b.log.LogEnd())
	b.m.Lead(c.tip(), b.epoch, b.log)
	// Deposed leaders go on for a while, and what they leave in the bucket may disagree with a log that began without a
	// disk: the operator is for the log.
	c.operate(b)
	return b, nil
}

// operate has an operator look at a broker, as long as that lives, for a partition that waits for a decision.
func (c *chaos) operate(b *broker) {
	tip := c.tip() // of the topic as it is in this life
	b.run(b.ctx, func(ctx context.Context) error {
		for bucket.Sleep(ctx, time.Second) {
			b.m.KeepLog(tip)
		}
		return nil
	})
}

// live is what a leader does until it dies or is deposed.
func (c *chaos) live(b *broker) {
	for range 2 + c.rng.Intn(6) {
		switch c.rng.Intn(5) {
		case 0, 1:
			_ = b.produce(10 + c.rng.Intn(120)) // fails once the disk does
		case 2:
			_ = b.evict()
		case 3:
			cfg := b.log.Config()
			cfg.RetentionBytes = []int64{-1, 2 << 10, 8 << 10}[c.rng.Intn(3)]
			b.log.SetConfig(cfg)
		case 4:
			c.setFaults(c.rng.Intn(3) == 0)
		}
		time.Sleep(time.Duration(c.rng.Intn(400)) * time.Millisecond) // virtual
	}
	c.guard.look()
}

// topicOps deletes the topic, and brings it back or has it purged and made anew. It says whether local files are gone.
func (c *chaos) topicOps() bool {
	ctx := c.t.Context()
	if err := c.md.DeleteTopic(ctx, "orders"); err != nil {
		c.t.Fatal(err)
	}
	if c.rng.Intn(2) == 0 {
		time.Sleep(time.Duration(c.rng.Intn(int(c.grace)))) // virtual
		if _, err := c.md.UndeleteTopic(ctx, c.topic.ID); err == nil {
			return true
		} else if !errors.Is(err, metadata.ErrPurging) {
			c.t.Fatal(err)
		}
	}
	topic, err := c.md.CreateTopic(ctx, metadata.TopicSpec{Name: "orders", Assignments: [][]metadata.BrokerID{{1}}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.topic = topic
	return true
}

// purger does the controller's work.
func (c *chaos) purger(ctx context.Context) error {
	for bucket.Sleep(ctx, 50*time.Millisecond) {
		for _, g := range c.md.Image().Tombstones() {
			if done, err := c.control.Purge(ctx, g); err == nil && done {
				for _, now := range c.md.Image().Tombstones() {
					if now.Topic.ID == g.Topic.ID {
						if err := c.md.FinishTombstone(ctx, g.Topic.ID); err != nil {
							return err
						}
					}
				}
			}
		}
	}
	return nil
}

// newChaos makes the world and the controller's broker.
func newChaos(t *testing.T, seed int64) (*chaos, func()) {
	w := newWorld(t)
	c := &chaos{world: w, rng: rand.New(rand.NewSource(seed)), grace: 500 * time.Millisecond}
	c.guard = &guard{Store: w.store, w: c, named: map[string]time.Time{}}
	var err error
	if c.md, err = metadata.Open(t.Context(), metadata.Options{KV: w.kv}); err != nil {
		t.Fatal(err)
	}
	store, client := c.seams()
	md, err := metadata.Open(t.Context(), metadata.Options{KV: client})
	if err != nil {
		t.Fatal(err)
	}
	chunks, err := cache.New(cache.Options{MemoryBytes: 1 << 20, ChunkBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	c.control, err = New(Options{
		Store: store, Metadata: md, Cache: chunks, ClusterID: "c1", Grace: c.grace, Sweep: 200 * time.Millisecond,
		RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, Collector: func() bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{c.md.Run, md.Run, chunks.Run, c.control.Run, c.purger} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return c, func() {
		cancel()
		wg.Wait()
	}
}

// crashLives runs one seed and returns how many processes died.
func crashLives(t *testing.T, seed int64) (died int) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := newChaos(t, seed)
		defer stop()
		empty := true
		for range livesOfASeed {
			c.setFaults(c.rng.Intn(4) == 0)
			point := &crashPoint{at: 1 + c.rng.Intn(1500)}
			b, err := c.begin(point, empty)
			if err == nil {
				c.live(b)
			}
			empty = c.end(b, point)
			if c.rng.Intn(6) == 0 {
				c.lead(metadata.NoBroker)
				time.Sleep(time.Duration(c.rng.Intn(3)) * c.grace) // virtual
			}
			if c.rng.Intn(4) == 0 {
				empty = c.topicOps()
			}
			if t.Failed() {
				break
			}
		}
		died = c.crashed
		c.check(empty)
	})
	return died
}

// end ends a life: with a crash, or as a leader that was deposed and does not know it for a while. It says whether
// the next one needs another disk.
func (c *chaos) end(b *broker, point *crashPoint) bool {
	for _, old := range c.stale {
		old.close()
	}
	c.stale = nil
	if point.dead() {
		c.crashed++
	} else if b != nil && c.rng.Intn(3) == 0 {
		c.stale = append(c.stale, b)
		return true
	} else {
		point.kill()
		c.crashed++
	}
	c.fs = c.fs.Crash(rand.New(rand.NewSource(c.rng.Int63())), []int{0, 50, 100}[c.rng.Intn(3)])
	if b != nil {
		b.close()
	}
	return c.rng.Intn(3) == 0
}

// kill is a crash now.
func (p *crashPoint) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tripped, p.what = true, "between operations"
}

// check lets all faults end and all grace periods pass, and compares.
func (c *chaos) check(empty bool) {
	t := c.t
	c.setFaults(false)
	b, err := c.begin(nil, empty)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if err := b.produce(60); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	for _, old := range c.stale {
		old.close()
	}
	time.Sleep(20 * time.Second) // virtual: grace periods, rounds, purges
	if _, err := b.readAll(t.Context(), b.log.LogStart(), 1<<20); err != nil {
		t.Error(err)
	}
	sum, err := b.m.Fsck(t.Context(), gc.FsckOptions{}, func(p gc.Problem) { t.Errorf("fsck: %+v", p) }, func(gc.FsckSummary) {})
	if err != nil || sum.Partitions != 1 || sum.Young != 0 {
		t.Errorf("fsck: %+v, %v", sum, err)
	}
	if _, err := b.m.Verify(t.Context(), gc.VerifyOptions{}, func(p gc.Problem) { t.Errorf("verify: %+v", p) }, func(gc.VerifySummary) {}); err != nil {
		t.Error(err)
	}
	// And without fsck's word for it.
	names := c.nothingMissing()
	for key := range c.objects() {
		if !names[key] && key != "c1/"+manifest.TopicDir("orders", c.topic.ID)+"topic.json" {
			t.Errorf("%s is left", key)
		}
	}
}

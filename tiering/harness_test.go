package tiering

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what outlives a broker: disk, etcd, bucket.
type world struct {
	t     testing.TB
	fs    *vfs.Mem
	kv    *kv.Mem
	store *object.Mem
	topic *metadata.Topic
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, fs: vfs.NewMem(), kv: kv.NewMem(), store: object.NewMem()}
	md, err := metadata.Open(t.Context(), metadata.Options{KV: w.kv})
	if err != nil {
		t.Fatal(err)
	}
	w.topic, err = md.CreateTopic(t.Context(), metadata.TopicSpec{Name: "orders", Assignments: [][]metadata.BrokerID{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) tip() metadata.TopicIDPartition {
	return metadata.TopicIDPartition{Topic: w.topic.ID}
}

// settings of one broker over a world.
type settings struct {
	fs          vfs.FS       // nil: the world's
	store       object.Store // nil: the world's
	kv          kv.KV
	config      segment.Config
	memory      int64 // of the cache
	chunk       int64
	bufferBytes int // the cache's chunks; 0: 4 KiB
	disk        *cache.Disk
	ahead       int64 // the cache's bound of what is prefetched; 0: its default
	o           Options
	untier      bool
	noLead      bool
	noRun       bool
}

func smallLog() segment.Config {
	return segment.Config{
		SegmentBytes: 4 << 10, IndexIntervalBytes: 512, RetentionBytes: -1, RetentionAge: -1,
		LocalRetentionBytes: 0, LocalRetentionAge: 0, Delete: true, RemoteEnabled: true,
	}
}

// broker is one life of a process: log directory, metadata store, cache, manager.
type broker struct {
	*world
	md    *metadata.Store
	dir   *segment.Dir
	log   *segment.Log
	m     *Manager
	cache *cache.Cache
	epoch int32
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// start opens everything. An error is returned rather than fatal, since crash tests make operations fail.
func (w *world) start(s settings) (*broker, error) {
	if s.fs == nil {
		s.fs = w.fs
	}
	if s.store == nil {
		s.store = w.store
	}
	if s.kv == nil {
		s.kv = w.kv
	}
	if s.memory == 0 {
		s.memory = 4 << 20
	}
	b := &broker{world: w}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	b.ctx, b.stop = ctx, cancel
	fail := func(err error) (*broker, error) {
		b.close()
		return nil, err
	}
	var err error
	if b.md, err = metadata.Open(ctx, metadata.Options{KV: s.kv}); err != nil {
		return fail(err)
	}
	b.run(ctx, b.md.Run)
	if b.cache, err = cache.New(cache.Options{MemoryBytes: s.memory, ChunkBytes: max(s.bufferBytes, 4<<10), PrefetchBytes: s.ahead, Disk: s.disk}); err != nil {
		return fail(err)
	}
	b.run(ctx, b.cache.Run)
	if b.dir, err = segment.OpenDir(segment.DirOptions{FS: s.fs, Path: "data"}); err != nil {
		return fail(err)
	}
	b.run(ctx, b.dir.Run)
	b.log, err = b.dir.OpenLog(segment.LogOptions{
		TopicPartition: metadata.TopicPartition{Topic: w.topic.Name}, TopicID: w.topic.ID, Config: s.config,
	})
	if err != nil {
		return fail(err)
	}
	o := s.o
	o.Store, o.Metadata, o.Cache, o.ClusterID, o.ChunkBytes = s.store, b.md, b.cache, "c1", s.chunk
	if o.Poll == 0 {
		o.Poll = 5 * time.Millisecond
	}
	if o.Interval == 0 {
		o.Interval = 10 * time.Millisecond
	}
	if o.Grace == 0 {
		o.Grace = time.Hour
	}
	if o.RetryMin == 0 {
		o.RetryMin, o.RetryMax = time.Millisecond, 10*time.Millisecond
	}
	if testing.Verbose() && o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(testWriter{w.t}, nil))
	}
	if b.m, err = New(o); err != nil {
		return fail(err)
	}
	if !s.noRun {
		b.run(ctx, b.m.Run)
	}
	part, _ := b.md.Image().PartitionByID(w.tip())
	b.epoch = part.LeaderEpoch
	if err := b.log.AssignEpoch(b.epoch, b.log.LogEnd()); err != nil {
		return fail(err)
	}
	if !s.untier && !s.noLead {
		b.m.Lead(w.tip(), b.epoch, b.log)
	}
	return b, nil
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}

func (b *broker) run(ctx context.Context, fn func(context.Context) error) {
	b.done.Go(func() { _ = fn(ctx) }) // how it ended shows in what the test checks
}

// close stops the processes; what is on disk is as a crash would leave it plus what Close of the directory adds.
func (b *broker) close() {
	b.stop()
	b.done.Wait()
	if b.dir != nil {
		_ = b.dir.Close() // fails when the disk was made to fail
	}
}

func (w *world) mustStart(s settings) *broker {
	w.t.Helper()
	b, err := w.start(s)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(b.close)
	return b
}

// produce appends n records, one batch of a few records each, and waits until they are synced. The value of a
// record is a function of its offset.
func (b *broker) produce(n int) error {
	for n > 0 {
		k := min(n, 1+int(b.log.LogEnd()%3))
		batch := testBatch(b.log.LogEnd(), k)
		info, err := b.log.AppendAsLeader(batch, segment.AppendOptions{LeaderEpoch: b.epoch, Origin: segment.Client, Now: time.Now()})
		if err != nil {
			return err
		}
		n -= k
		if err := b.log.Sync(); err != nil {
			return err
		}
		b.log.SetHighWatermark(info.LastOffset + 1)
	}
	return nil
}

func testTime(offset int64) int64 { return 1_700_000_000_000 + offset*10 }

func testValue(offset int64) []byte {
	rng := rand.New(rand.NewPCG(uint64(offset), 7))
	v := make([]byte, 100+rng.IntN(200))
	for i := range v {
		v[i] = byte(rng.Uint32())
	}
	return v
}

func testBatch(base int64, n int) []byte {
	bl := record.NewBuilder(record.BuilderOptions{})
	for i := range n {
		bl.Append(testTime(base+int64(i)), fmt.Appendf(nil, "key-%d", base+int64(i)), testValue(base+int64(i)))
	}
	return bl.Build()
}

// settle waits until cond holds.
func settle(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// uploaded waits until every sealed segment is in the tier.
func (b *broker) uploaded() {
	b.t.Helper()
	settle(b.t, "all closed segments are in the tier", b.isUploaded)
}

func (b *broker) isUploaded() bool {
	v := b.m.View(b.tip())
	return v.Loaded && len(b.log.Sealed(0)) == b.log.Segments()-1 && len(b.log.Sealed(v.HighestOffset+1)) == 0
}

// evict drops local segments that the view allows.
func (b *broker) evict() error {
	v := b.m.View(b.tip())
	_, err := b.log.ExpireLocal(time.Now().Add(time.Hour), v.HighestOffset, v.Loaded)
	return err
}

// readAt reads as the replica manager does: locally what is local, else from the tier.
func (b *broker) readAt(ctx context.Context, offset int64, max int) ([]byte, int64, error) {
	o := segment.ReadOptions{UpTo: b.log.HighWatermark(), MaxBytes: max, MinOne: true}
	var d segment.RemoteData
	var err error
	if offset >= b.log.LocalLogStart() {
		d, err = b.log.Read(offset, o)
	} else {
		d, err = b.m.Read(ctx, b.tip(), offset, o)
	}
	if err != nil {
		return nil, 0, err
	}
	defer d.Release()
	out, err := d.AppendTo(nil)
	return out, d.NextOffset(), err
}

// readAll reads from the log's start to the high watermark and checks every record.
func (b *broker) readAll(ctx context.Context, from int64, max int) (string, error) {
	var all []byte
	at := from
	for at < b.log.HighWatermark() {
		bytes, next, err := b.readAt(ctx, at, max)
		if err != nil {
			return "", fmt.Errorf("read at %d of %d to %d (local from %d): %w", at, from, b.log.HighWatermark(), b.log.LocalLogStart(), err)
		}
		if next <= at {
			return "", fmt.Errorf("read at %d: next %d", at, next)
		}
		if err := checkRecords(bytes, at, next); err != nil {
			return "", err
		}
		all = append(all, bytes...)
		at = next
	}
	return string(all), nil
}

func checkRecords(b []byte, at, next int64) error {
	want := int64(-1)
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err == nil {
			err = batch.Verify()
		}
		if err != nil {
			return fmt.Errorf("read at %d: %w", at, err)
		}
		if want >= 0 && batch.BaseOffset() != want {
			return fmt.Errorf("read at %d: batch at %d follows %d", at, batch.BaseOffset(), want-1)
		}
		err = batch.Each(nil, func(r record.Record) error {
			if string(r.Value) != string(testValue(r.Offset)) {
				return fmt.Errorf("offset %d has another value", r.Offset)
			}
			return nil
		})
		if err != nil {
			return err
		}
		want, b = batch.NextOffset(), rest
	}
	if want != next {
		return fmt.Errorf("read at %d: ends at %d, says %d", at, want, next)
	}
	return nil
}

// objects lists the bucket.
func (w *world) objects() map[string]int64 {
	out := map[string]int64{}
	for info, err := range w.store.List(context.WithoutCancel(w.t.Context()), "", "") {
		if err != nil {
			w.t.Fatal(err)
		}
		out[info.Key] = info.Size
	}
	return out
}

// reader reads a whole body, for tests.
func body(t testing.TB, s object.Store, key string) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var readAnything = segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 1 << 20, MinOne: true}

// Root returns the root of a partition's manifest, nil when nothing was ever copied. It must not be changed.
func (m *Manager) Root(ctx context.Context, tip metadata.TopicIDPartition) (*manifest.Root, error) {
	man, err := m.current(ctx, m.partition(tip), false)
	return man.Root, err
}

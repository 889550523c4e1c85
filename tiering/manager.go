package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/cost"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/read"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// Options are what New needs. Store, Metadata, Cache and ClusterID are required.
type Options struct {
	Store     object.Store
	Metadata  *metadata.Store
	Cache     *cache.Cache // run by the caller
	ClusterID string       // first part of every key
	// Topic returns what a topic's configuration says about copying; nil copies at once.
	Topic  func(name string) upload.TopicSettings
	Logger *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer

	Uploads  int           // partitions copied at a time: remote.log.manager.copier.thread.pool.size; default 10
	Interval time.Duration // retention and deletions: remote.log.manager.task.interval.ms; default 30 s
	Poll     time.Duration // how often sealed segments are looked for; default 500 ms
	Grace    time.Duration // how long objects outlive the manifest that named them; default 10 min
	Stall    time.Duration // an upload without progress for this long is given up; default 60 s
	// Sweep is how often orphans are looked for: remote.gc.interval.ms; default 6 h, < 0 = never.
	Sweep time.Duration
	// Collector says whether this broker looks at what nobody leads: partitions without a leader, folders of topics
	// that are gone. The controller's does. nil: it does not.
	Collector func() bool
	// ScrubRate is how many bytes a second of the led partitions' tier are verified in the background:
	// remote.scrub.bytes.per.second; 0 = none.
	ScrubRate int64
	// RetryMin and RetryMax bound the pause after a failure, which doubles; defaults 500 ms and 30 s.
	RetryMin, RetryMax time.Duration

	CopyRate  int64 // bytes a second: remote.log.manager.copy.max.bytes.per.second; 0 = unlimited
	FetchRate int64 // bytes a second: remote.log.manager.fetch.max.bytes.per.second; 0 = unlimited

	ChunkBytes int64 // most of one ranged read of more than one batch; default Cache.ChunkBytes
	ReadAhead  int64 // bytes fetched ahead of a sequential reader; default 16 MiB
	MetaBytes  int64 // bound of decoded manifests and indexes in memory; default 64 MiB

	// Ledger has what Store and Cache were used for; run by the caller. nil: nothing is counted.
	Ledger       *cost.Ledger
	Prices       func() cost.Prices // of now; nil: all is free
	TopicMetrics bool               // metrics.topic.enable: whether costs have the topic as a label
}

func (o *Options) check() error {
	if o.Store == nil || o.Metadata == nil || o.Cache == nil || o.ClusterID == "" {
		return errors.New("tiering: Store, Metadata, Cache and ClusterID are required")
	}
	if o.Topic == nil {
		o.Topic = func(string) upload.TopicSettings { return upload.TopicSettings{CopyLagBytes: -1} }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = metricnoop.NewMeterProvider().Meter("")
	}
	if o.Tracer == nil {
		o.Tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	for _, d := range []struct {
		v        *time.Duration
		fallback time.Duration
	}{
		{&o.Interval, 30 * time.Second}, {&o.Poll, 500 * time.Millisecond}, {&o.Grace, 10 * time.Minute},
		{&o.Stall, time.Minute}, {&o.RetryMin, 500 * time.Millisecond}, {&o.RetryMax, 30 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.fallback
		}
		if *d.v < 0 {
			return fmt.Errorf("tiering: negative duration %v", *d.v)
		}
	}
	for _, n := range []struct {
		v        *int64
		fallback int64
	}{{&o.ChunkBytes, int64(o.Cache.ChunkBytes())}, {&o.ReadAhead, 16 << 20}, {&o.MetaBytes, 64 << 20}} {
		if *n.v == 0 {
			*n.v = n.fallback
		}
	}
	if o.Uploads <= 0 {
		o.Uploads = 10
	}
	if o.Sweep == 0 {
		o.Sweep = gc.DefaultSweep
	}
	if o.Prices == nil {
		o.Prices = func() cost.Prices { return cost.Prices{} }
	}
	return nil
}

// Manager is the RemoteLogManager of one broker. All methods are safe for concurrent use.
type Manager struct {
	o          Options
	log        *slog.Logger
	bucket     *bucket.Cluster
	metrics    metrics
	unregister func() error
	tasks      *bucket.Tasks
	uploader   *upload.Uploader
	reader     *read.Reader
	topics     *upload.TopicFiles
	gc         *gc.Collector
	wake       chan struct{} // 1-buffered: the scheduler should look again

	mu         sync.Mutex
	partitions map[metadata.TopicIDPartition]*partition
}

// New returns a manager that knows no partition. Reads work at once; copying, retention and deletion need Run.
func New(o Options) (*Manager, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m := &Manager{
		o: o, log: o.Logger, tasks: &bucket.Tasks{},

		wake: make(chan struct{}, 1), partitions: map[metadata.TopicIDPartition]*partition{},
	}
	m.bucket = bucket.NewCluster(o.Store, o.ClusterID, bucket.Options{
		Stall: o.Stall, RetryMin: o.RetryMin, RetryMax: o.RetryMax, Memo: bucket.NewMemo(o.MetaBytes, m.tasks), Deleted: m.countDeletions,
	})
	m.topics = upload.NewTopicFiles(m.bucket, o.Metadata)
	var err error
	m.uploader, err = upload.New(upload.Options{Bucket: m.bucket, Logger: o.Logger, Meter: o.Meter, Tracer: o.Tracer, Rate: o.CopyRate})
	if err != nil {
		return nil, err
	}
	m.reader, err = read.New(read.Options{
		Bucket: m.bucket, Cache: o.Cache, Tasks: m.tasks, Manifests: parts{m}, Logger: o.Logger, Meter: o.Meter, Tracer: o.Tracer,
		ChunkBytes: o.ChunkBytes, ReadAhead: o.ReadAhead, Rate: o.FetchRate,
	})
	if err != nil {
		return nil, err
	}
	m.gc, err = gc.New(gc.Options{
		Bucket: m.bucket, Metadata: o.Metadata, Partitions: parts{m}, Logger: o.Logger, Meter: o.Meter,
		Sweep: o.Sweep, Grace: o.Grace, Collector: o.Collector, ScrubRate: o.ScrubRate,
	})
	if err != nil {
		return nil, err
	}
	if err := m.newMetrics(o.Meter); err != nil {
		return nil, err
	}
	return m, nil
}

// SetRates changes Options.CopyRate and FetchRate, also for what waits.
func (m *Manager) SetRates(copyRate, fetchRate int64) {
	m.uploader.SetRate(copyRate)
	m.reader.SetRate(fetchRate)
}

// partition returns the state of a partition, making it when need be.
func (m *Manager) partition(tip metadata.TopicIDPartition) *partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.partitions[tip]
	if p == nil {
		p = newPartition(tip)
		m.partitions[tip] = p
	}
	return p
}

func (m *Manager) snapshot() []*partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*partition, 0, len(m.partitions))
	for _, p := range m.partitions {
		all = append(all, p)
	}
	return all
}

// Lead starts the life cycle of a partition this broker leads. It never blocks. A second call with another epoch
// or log replaces the first, and so does one after the log's RemoteEnabled has changed. Of a log that is not tiered
// nothing is copied; what the tier has of it is given up if the topic says so (doc.go).
func (m *Manager) Lead(tip metadata.TopicIDPartition, leaderEpoch int32, log *segment.Log) {
	if m.partition(tip).lead(leaderEpoch, log) {
		m.nudge()
	}
}

// Resign ends what Lead started; a copy that is under way is broken off. It never blocks. Reads go on.
func (m *Manager) Resign(tip metadata.TopicIDPartition) {
	m.mu.Lock()
	p := m.partitions[tip]
	m.mu.Unlock()
	if p != nil {
		p.resign()
	}
}

// View is a partition's remote state as last known to this broker. Of a partition it does not lead it is what the
// pointer says: committed offsets, but no sizes before Refresh.
func (m *Manager) View(tip metadata.TopicIDPartition) segment.RemoteView {
	m.mu.Lock()
	p := m.partitions[tip]
	m.mu.Unlock()
	v := noView
	if p != nil {
		v = *p.view.Load()
		if p.led() {
			return v
		}
	}
	if pointer, ok := m.o.Metadata.Image().RemotePointer(tip); ok && pointer.EndOffset-1 != v.HighestOffset {
		v = noView
		v.HighestOffset, v.StartOffset = pointer.EndOffset-1, pointer.StartOffset
	}
	v.Loaded = true
	return v
}

// Refresh reads the remote state of a partition this broker does not lead, for followers that evict local
// segments or start from the tier.
func (m *Manager) Refresh(ctx context.Context, tip metadata.TopicIDPartition) (segment.RemoteView, error) {
	p := m.partition(tip)
	if p.led() {
		return *p.view.Load(), nil
	}
	man, err := m.current(ctx, p, true)
	if err != nil {
		return *p.view.Load(), read.ForLog(err)
	}
	p.observe(man)
	return *p.view.Load(), nil
}

// nudge makes the scheduler look for work now.
func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Purge deletes a deleted topic from the bucket once the grace period since its deletion has passed; done is false
// while it must be called later. It needs no leader.
func (m *Manager) Purge(ctx context.Context, t metadata.Tombstone) (done bool, err error) {
	return m.gc.Purge(ctx, t)
}

// Fsck compares the bucket with the manifests and the manifests with themselves, without reading segments.
func (m *Manager) Fsck(ctx context.Context, o gc.FsckOptions, report func(gc.Problem), progress func(gc.FsckSummary)) (gc.FsckSummary, error) {
	return m.gc.Fsck(ctx, o, report, progress)
}

// Verify reads every byte that the manifests name, and checks it.
func (m *Manager) Verify(ctx context.Context, o gc.VerifyOptions, report func(gc.Problem), progress func(gc.VerifySummary)) (gc.VerifySummary, error) {
	return m.gc.Verify(ctx, o, report, progress)
}

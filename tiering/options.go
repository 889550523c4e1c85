package tiering

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/cost"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/object"
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
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Meter = cmp.Or(o.Meter, metricnoop.NewMeterProvider().Meter(""))
	o.Tracer = cmp.Or(o.Tracer, tracenoop.NewTracerProvider().Tracer(""))
	o.Interval, o.Poll = cmp.Or(o.Interval, 30*time.Second), cmp.Or(o.Poll, 500*time.Millisecond)
	o.Grace, o.Stall = cmp.Or(o.Grace, 10*time.Minute), cmp.Or(o.Stall, time.Minute)
	o.RetryMin, o.RetryMax = cmp.Or(o.RetryMin, 500*time.Millisecond), cmp.Or(o.RetryMax, 30*time.Second)
	o.Sweep = cmp.Or(o.Sweep, gc.DefaultSweep)
	if d := min(o.Interval, o.Poll, o.Grace, o.Stall, o.RetryMin, o.RetryMax); d < 0 {
		return fmt.Errorf("tiering: negative duration %v", d)
	}
	o.ChunkBytes = cmp.Or(o.ChunkBytes, int64(o.Cache.ChunkBytes()))
	o.ReadAhead, o.MetaBytes = cmp.Or(o.ReadAhead, 16<<20), cmp.Or(o.MetaBytes, 64<<20)
	if o.Uploads <= 0 {
		o.Uploads = 10
	}
	if o.Prices == nil {
		o.Prices = func() cost.Prices { return cost.Prices{} }
	}
	return nil
}

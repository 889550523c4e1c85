package upload

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// ErrStalled ends an upload that made no progress for too long.
var ErrStalled = errors.New("no progress")

// Options are what an Uploader needs.
type Options struct {
	Bucket *bucket.Cluster
	Logger *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
	Rate   int64 // bytes a second; 0 = unlimited
}

// Uploader copies segments and manifests. All methods are safe for concurrent use, for different partitions.
type Uploader struct {
	bucket  *bucket.Cluster
	log     *slog.Logger
	tracer  trace.Tracer
	rate    *rate.Limiter
	metrics metrics
}

// New returns an uploader.
func New(o Options) (*Uploader, error) {
	u := &Uploader{bucket: o.Bucket, log: o.Logger, tracer: o.Tracer, rate: bucket.NewLimiter(o.Rate)}
	return u, u.metrics.init(o.Meter)
}

// SetRate changes Options.Rate, also for what waits.
func (u *Uploader) SetRate(bytesPerSecond int64) { bucket.SetRate(u.rate, bytesPerSecond) }

// ShowMetrics makes counters visible that have counted nothing yet: a rate needs the value before the first change.
func (u *Uploader) ShowMetrics(ctx context.Context) { u.metrics.show(ctx) }

// Leader is a partition's log under one leadership.
type Leader struct {
	TIP   metadata.TopicIDPartition
	Topic string
	Epoch int32
	Log   *segment.Log
}

// Dir is the partition's folder below the cluster's prefix.
func (l *Leader) Dir() string { return manifest.PartitionDir(l.Topic, l.TIP) }

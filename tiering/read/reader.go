package read

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
)

// Manifests are those of all partitions, as this broker knows them.
type Manifests interface {
	// Current returns a partition's manifest; fresh reads the pointer from etcd.
	Current(ctx context.Context, tip metadata.TopicIDPartition, fresh bool) (bucket.Manifest, error)
	// Leads says whether this broker leads a partition, and so knows its manifest.
	Leads(tip metadata.TopicIDPartition) bool
}

// Options are what a Reader needs.
type Options struct {
	Bucket    *bucket.Cluster
	Cache     *cache.Cache
	Tasks     *bucket.Tasks // closed by the caller, which ends what goes on behind readers' backs
	Manifests Manifests
	Logger    *slog.Logger
	Meter     metric.Meter
	Tracer    trace.Tracer

	ChunkBytes int64 // most of one ranged read of more than one batch
	ReadAhead  int64 // bytes fetched ahead of a sequential reader
	Rate       int64 // bytes a second; 0 = unlimited
}

// Reader reads records and answers look-ups. All methods are safe for concurrent use.
type Reader struct {
	o          Options
	bucket     *bucket.Cluster
	cache      *cache.Cache
	tasks      *bucket.Tasks
	manifests  Manifests
	log        *slog.Logger
	metrics    metrics
	reserve    *reserve
	streams    *streams
	pace       pace
	again      sync.Pool // of *[]byte, a chunk each, for GETs that are asked for a second time
	lane       *semaphore.Weighted
	fetchRate  *fairRate
	complained atomic.Int64 // when a failed read was logged last, Unix nanoseconds
}

// New returns a reader.
func New(o Options) (*Reader, error) {
	r := &Reader{
		o: o, bucket: o.Bucket, cache: o.Cache, tasks: o.Tasks, manifests: o.Manifests, log: o.Logger,
		reserve: &reserve{tasks: o.Tasks}, streams: newStreams(), lane: semaphore.NewWeighted(calmWidth), fetchRate: newFairRate(o.Rate),
	}
	r.again.New = func() any { return new([]byte) }
	return r, r.metrics.init(o.Meter)
}

// SetRate changes Options.Rate, also for what waits.
func (r *Reader) SetRate(bytesPerSecond int64) { r.fetchRate.set(bytesPerSecond) }

// ShowMetrics makes counters visible that have counted nothing yet: a rate needs the value before the first change.
func (r *Reader) ShowMetrics(ctx context.Context) { r.metrics.show(ctx) }

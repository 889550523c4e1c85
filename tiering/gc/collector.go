package gc

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// DefaultSweep is how often orphans are looked for.
const DefaultSweep = 6 * time.Hour

// etcdLimit bounds one operation on a pointer.
const etcdLimit = 10 * time.Second

// Job is work on a partition's manifest that runs in a pass of its leader, beside which nothing else changes the
// manifest and no copy runs. It returns the manifest as it is afterwards.
type Job func(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error)

// Led is a partition under one leadership of this broker.
type Led interface {
	TopicIDPartition() metadata.TopicIDPartition
	Topic() string
	Epoch() int32
	// Ready says whether the manifest was loaded under this leadership, which is not known to be over, and agrees with
	// the log: else nothing is deleted.
	Ready() bool
	// Extent is what the tier holds as far as is known: its first and its last offset, -1 for none.
	Extent() (start, last int64)
	// Holds says whether an object was copied and is not committed yet. Only a job may ask.
	Holds(stem string) bool
	// Confirm swaps the pointer for itself, which holds only while the leader epoch does. Only a job may ask.
	Confirm(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error)
	// Ask has a job done in the partition's next pass, and never if the leadership ends first. It never blocks.
	Ask(j Job)
	// Do has a job done in the partition's next pass and waits for it.
	Do(ctx context.Context, j Job) error
}

// Partitions are those of this broker.
type Partitions interface {
	Led() []Led
	// Find returns a led partition, nil for one that is not led here.
	Find(tip metadata.TopicIDPartition) Led
	// Current returns a partition's manifest; fresh reads the pointer from etcd.
	Current(ctx context.Context, tip metadata.TopicIDPartition, fresh bool) (bucket.Manifest, error)
	// Forget drops what is kept of a partition that no longer exists.
	Forget(tip metadata.TopicIDPartition)
	// Repair puts a segment's bad objects back, in a job. It returns the new name.
	Repair(ctx context.Context, p Led, man bucket.Manifest, e manifest.Entry, d bucket.Damage) (stem string, next bucket.Manifest, err error)
}

// Options are what a Collector needs, all but Collector and ScrubRate.
type Options struct {
	Bucket     *bucket.Cluster
	Metadata   *metadata.Store
	Partitions Partitions
	Logger     *slog.Logger
	Meter      metric.Meter
	Sweep      time.Duration // from one round to the next
	Grace      time.Duration // how long objects outlive the manifest that named them
	// Collector says whether this broker looks at what nobody leads: partitions without a leader, folders of topics
	// that are gone. nil: it does not.
	Collector func() bool
	ScrubRate int64 // bytes a second
}

// Collector deletes what no manifest names, and checks what they name.
type Collector struct {
	o        Options
	bucket   *bucket.Cluster
	metadata *metadata.Store
	log      *slog.Logger
	state    state
}

// New returns a collector that has seen nothing yet.
func New(o Options) (*Collector, error) {
	if o.Collector == nil {
		o.Collector = func() bool { return false }
	}
	c := &Collector{o: o, bucket: o.Bucket, metadata: o.Metadata, log: o.Logger}
	return c, c.state.init(o.Meter)
}

// ShowMetrics makes counters visible that have counted nothing yet: a rate needs the value before the first change.
func (c *Collector) ShowMetrics(ctx context.Context) { c.state.show(ctx) }

// CountDeletions counts a request that deletes objects, whoever makes it.
func (c *Collector) CountDeletions(ctx context.Context, objects int, err error) {
	c.state.deleteRequests.Add(ctx, 1)
	if err != nil {
		c.state.deleteErrors.Add(ctx, 1)
		return
	}
	c.state.deletedObjs.Add(ctx, int64(objects))
}

// Found is what the rounds have found so far: orphans that are marked to go, and objects that led partitions' manifests
// name and the store does not have.
func (c *Collector) Found() (orphans int, missing int64) { return c.state.found() }

// Run makes rounds and scrubs until ctx ends, as often and as fast as the options say.
func (c *Collector) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if c.o.Sweep > 0 {
		wg.Go(func() { c.sweepLoop(ctx) })
	}
	if c.o.ScrubRate > 0 {
		wg.Go(func() { c.scrubLoop(ctx) })
	}
}

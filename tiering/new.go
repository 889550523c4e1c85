package tiering

import (
	"context"
	"errors"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/read"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

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
		Stall: o.Stall, RetryMin: o.RetryMin, RetryMax: o.RetryMax, Memo: bucket.NewMemo(o.MetaBytes, m.tasks),
		Deleted: func(ctx context.Context, objects int, err error) { m.gc.CountDeletions(ctx, objects, err) },
	})
	m.topics = upload.NewTopicFiles(m.bucket, o.Metadata)
	var errs [3]error
	m.uploader, errs[0] = upload.New(upload.Options{Bucket: m.bucket, Logger: o.Logger, Meter: o.Meter, Tracer: o.Tracer, Rate: o.CopyRate})
	m.reader, errs[1] = read.New(read.Options{
		Bucket: m.bucket, Cache: o.Cache, Tasks: m.tasks, Manifests: parts{m}, Logger: o.Logger, Meter: o.Meter, Tracer: o.Tracer,
		ChunkBytes: o.ChunkBytes, ReadAhead: o.ReadAhead, Rate: o.FetchRate,
	})
	m.gc, errs[2] = gc.New(gc.Options{
		Bucket: m.bucket, Metadata: o.Metadata, Partitions: parts{m}, Logger: o.Logger, Meter: o.Meter,
		Sweep: o.Sweep, Grace: o.Grace, Collector: o.Collector, ScrubRate: o.ScrubRate,
	})
	if err := errors.Join(errs[:]...); err != nil {
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

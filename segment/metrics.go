package segment

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// metrics are the instruments of one log directory.
type metrics struct {
	syncTime metric.Float64Histogram
	attrs    metric.MeasurementOption
	record   []metric.RecordOption // attrs, made once

	rolls   atomic.Int64
	offline atomic.Bool
}

func newMetrics(m metric.Meter, path string, usage func() (vfs.Usage, error)) (*metrics, error) {
	x := &metrics{attrs: metric.WithAttributeSet(attribute.NewSet(attribute.String("dir", path)))}
	x.record = []metric.RecordOption{x.attrs}
	var err error
	if x.syncTime, err = m.Float64Histogram("coldbrook_log_flush_seconds",
		metric.WithUnit("s"), metric.WithDescription("Time of one group commit: the sync of a log's active segment, for all appends that wait for it."),
		metric.WithExplicitBucketBoundaries(.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 5)); err != nil {
		return nil, err
	}
	_, err = m.Int64ObservableCounter("coldbrook_log_rolls_total", metric.WithDescription("Segments closed."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(x.rolls.Load(), x.attrs)
			return nil
		}))
	if err != nil {
		return nil, err
	}
	_, err = m.Int64ObservableGauge("coldbrook_log_directory_offline", metric.WithDescription("1 if an I/O error took the log directory offline."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			var v int64
			if x.offline.Load() {
				v = 1
			}
			o.Observe(v, x.attrs)
			return nil
		}))
	if err != nil {
		return nil, err
	}
	return x, x.observeSpace(m, usage)
}

// observeSpace shows how full the disk is; nothing while it does not say.
func (x *metrics) observeSpace(m metric.Meter, usage func() (vfs.Usage, error)) error {
	total, err1 := m.Int64ObservableGauge("coldbrook_log_directory_disk_bytes", metric.WithUnit("By"),
		metric.WithDescription("Size of the disk that the log directory is on."))
	free, err2 := m.Int64ObservableGauge("coldbrook_log_directory_free_bytes", metric.WithUnit("By"),
		metric.WithDescription("What is left of it for us."))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		u, err := usage()
		if err != nil {
			return nil // log_directory_offline speaks of broken disks
		}
		o.ObserveInt64(total, int64(u.Total), x.attrs)
		o.ObserveInt64(free, int64(u.Free), x.attrs)
		return nil
	}, total, free)
	return err
}

// synced notes a group commit.
func (x *metrics) synced(ctx context.Context, took time.Duration) {
	x.syncTime.Record(ctx, took.Seconds(), x.record...)
}

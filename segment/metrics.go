package segment

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are the instruments of one log directory.
type metrics struct {
	syncTime metric.Float64Histogram
	attrs    metric.MeasurementOption
	record   []metric.RecordOption // attrs, made once

	rolls   atomic.Int64
	offline atomic.Bool
}

func newMetrics(m metric.Meter, path string) (*metrics, error) {
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
	return x, err
}

// synced notes a group commit.
func (x *metrics) synced(ctx context.Context, took time.Duration) {
	x.syncTime.Record(ctx, took.Seconds(), x.record...)
}

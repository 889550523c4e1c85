package coordinator

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

type metrics struct {
	attrs   metric.MeasurementOption
	load    metric.Float64Histogram
	records metric.Int64Counter
	failed  metric.Int64Counter
}

// newMetrics makes the instruments; count is asked for the gauge of partitions.
func newMetrics(meter metric.Meter, name string, count func() (loading, active int64)) (*metrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	kind := attribute.String("coordinator", name)
	m := &metrics{attrs: metric.WithAttributeSet(attribute.NewSet(kind))}
	var err error
	if m.load, err = meter.Float64Histogram("coldbrook_coordinator_partition_load_time",
		metric.WithUnit("s"), metric.WithDescription("Time to replay a partition's log.")); err != nil {
		return nil, err
	}
	if m.records, err = meter.Int64Counter("coldbrook_coordinator_records",
		metric.WithDescription("Records appended by coordinators.")); err != nil {
		return nil, err
	}
	if m.failed, err = meter.Int64Counter("coldbrook_coordinator_append_failures",
		metric.WithDescription("Batches of coordinators that could not be appended.")); err != nil {
		return nil, err
	}
	loadingSet := metric.WithAttributeSet(attribute.NewSet(kind, attribute.String("state", "loading")))
	activeSet := metric.WithAttributeSet(attribute.NewSet(kind, attribute.String("state", "active")))
	_, err = meter.Int64ObservableGauge("coldbrook_coordinator_num_partitions",
		metric.WithDescription("Partitions this broker coordinates, by state."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			loading, active := count()
			o.Observe(loading, loadingSet)
			o.Observe(active, activeSet)
			return nil
		}))
	return m, err
}

func (m *metrics) loaded(ctx context.Context, took time.Duration) {
	m.load.Record(ctx, took.Seconds(), m.attrs)
}

func (m *metrics) appended(ctx context.Context, records int, err error) {
	if err != nil {
		m.failed.Add(ctx, 1, m.attrs)
		return
	}
	m.records.Add(ctx, int64(records), m.attrs)
}

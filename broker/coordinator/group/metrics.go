package group

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics are counted on the partitions' goroutines and observed when asked for.
type metrics struct {
	groups  [numStates]atomic.Int64 // by state, over all partitions
	offsets atomic.Int64

	commits, deletions, expirations, rebalances atomic.Int64
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	m := &metrics{}
	for _, c := range []struct {
		count      *atomic.Int64
		name, desc string
	}{
		{&m.commits, "coldbrook_group_offset_commits", "Offsets committed."},
		{&m.deletions, "coldbrook_group_offset_deletions", "Offsets deleted on request or with their topic."},
		{&m.expirations, "coldbrook_group_offset_expirations", "Offsets past their retention."},
		{&m.rebalances, "coldbrook_group_completed_rebalances", "Generations that became stable."},
	} {
		if _, err := meter.Int64ObservableCounter(c.name, metric.WithDescription(c.desc),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(c.count.Load())
				return nil
			})); err != nil {
			return nil, err
		}
	}
	if _, err := meter.Int64ObservableGauge("coldbrook_group_offsets", metric.WithDescription("Committed offsets held."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(m.offsets.Load())
			return nil
		})); err != nil {
		return nil, err
	}
	var states [numStates]metric.MeasurementOption
	for s := range numStates {
		states[s] = metric.WithAttributeSet(attribute.NewSet(attribute.String("state", s.String())))
	}
	_, err := meter.Int64ObservableGauge("coldbrook_group_count", metric.WithDescription("Groups by state."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for s := range numStates {
				o.Observe(m.groups[s].Load(), states[s])
			}
			return nil
		}))
	return m, err
}

// moved counts a group into (1) or out of (-1) a state.
func (m *metrics) moved(s State, by int64) { m.groups[s].Add(by) }

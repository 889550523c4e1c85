package controller

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/coldbrook/coldbrook/metadata"
)

// metrics are the controller's instruments, with Kafka's words.
type metrics struct {
	elections metric.Int64Counter
	unclean   metric.Int64Counter
	conflicts metric.Int64Counter
	purged    metric.Int64Counter
}

func newMetrics(m metric.Meter, c *Controller) (*metrics, error) {
	if m == nil {
		m = noop.NewMeterProvider().Meter("controller")
	}
	var out metrics
	var errs [7]error
	out.elections, errs[0] = m.Int64Counter("coldbrook_controller_leader_elections",
		metric.WithDescription("Partitions whose leader, or its epoch, this broker changed as controller."))
	out.unclean, errs[6] = m.Int64Counter("coldbrook_controller_unclean_leader_elections",
		metric.WithDescription("Partitions for which this broker as controller elected a leader that was not in sync."))
	out.conflicts, errs[1] = m.Int64Counter("coldbrook_controller_conflicts",
		metric.WithDescription("Decisions that were outdated when they were written."))
	out.purged, errs[2] = m.Int64Counter("coldbrook_controller_topics_purged",
		metric.WithDescription("Deleted topics whose data is gone."))
	_, errs[3] = m.Int64ObservableGauge("coldbrook_controller_active_controller_count",
		metric.WithDescription("1 on the broker that is the controller."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			var active int64
			if c.active.Load() {
				active = 1
			}
			o.Observe(active)
			return nil
		}))
	_, errs[4] = m.Int64ObservableGauge("coldbrook_controller_offline_partitions_count",
		metric.WithDescription("Partitions without a leader, on the controller."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(c.count(func(p metadata.Partition) bool { return p.Leader == metadata.NoBroker }))
			return nil
		}))
	_, errs[5] = m.Int64ObservableGauge("coldbrook_controller_preferred_replica_imbalance_count",
		metric.WithDescription("Partitions not led by their preferred leader, on the controller."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(c.count(func(p metadata.Partition) bool { return len(p.Replicas) > 0 && p.Leader != p.Replicas[0] }))
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("controller metrics: %w", err)
	}
	return &out, nil
}

// count counts partitions on the controller; other brokers report none.
func (c *Controller) count(is func(metadata.Partition) bool) int64 {
	if !c.active.Load() {
		return 0
	}
	var n int64
	for _, t := range c.o.Store.Image().Topics() {
		for _, p := range t.Partitions {
			if is(p) {
				n++
			}
		}
	}
	return n
}

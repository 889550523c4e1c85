package tiering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/tiering/cost"
)

func (m *Manager) newMetrics(meter metric.Meter) error {
	var errs [2]error
	x := &m.metrics
	x.commits, errs[0] = meter.Int64Counter("coldbrook_remote_manifest_commits", metric.WithUnit("1"), metric.WithDescription("Manifests committed."))
	x.lostRaces, errs[1] = meter.Int64Counter("coldbrook_remote_manifest_lost_races", metric.WithUnit("1"), metric.WithDescription("Manifests not committed because the pointer or the leader had changed."))
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("tiering metrics: %w", err)
	}
	return m.observe(meter)
}

// gauges are what is read when metrics are scraped: sums over the partitions this broker leads, and the highest age.
var gauges = [...]struct {
	name, unit, doc string
	of              func(*Status) int64
}{
	{"remote_copy_lag_bytes", "By", "Bytes of sealed segments that are not in the remote store yet.", func(s *Status) int64 { return s.View.PendingBytes }},
	{"remote_copy_lag_segments", "1", "Sealed segments that are not in the remote store yet.", func(s *Status) int64 { return s.View.PendingSegments }},
	{"remote_log_size_bytes", "By", "Bytes of segments in the remote store, of led partitions.", func(s *Status) int64 { return s.View.Bytes }},
	{"remote_log_metadata_count", "1", "Segments in the remote store, of led partitions.", func(s *Status) int64 { return s.View.Segments }},
	{"remote_delete_lag_items", "1", "Items on the lists of pending deletions, of led partitions.", func(s *Status) int64 { return s.PendingDeletions }},
	{"remote_log_unready_partitions", "1", "Led partitions whose remote view is not loaded yet.", func(s *Status) int64 {
		if s.View.Loaded {
			return 0
		}
		return 1
	}},
	{"remote_log_held_partitions", "1", "Led partitions of which nothing is copied or deleted before an operator decides.", func(s *Status) int64 {
		if s.Held == "" {
			return 0
		}
		return 1
	}},
}

// observe registers the gauges, and what the store costs.
func (m *Manager) observe(meter metric.Meter) error {
	var errs [len(gauges) + 1]error
	var to [len(gauges)]metric.Int64ObservableGauge
	var all []metric.Observable
	for i, g := range gauges {
		to[i], errs[i] = meter.Int64ObservableGauge("coldbrook_"+g.name, metric.WithUnit(g.unit), metric.WithDescription(g.doc))
		all = append(all, to[i])
	}
	oldest, err := meter.Int64ObservableGauge("coldbrook_remote_oldest_unuploaded_age_ms", metric.WithUnit("ms"),
		metric.WithDescription("Age of the oldest sealed segment that is not in the remote store yet."))
	errs[len(gauges)] = err
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("tiering metrics: %w", err)
	}
	reg, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		m.metrics.shown.Do(func() { m.show(ctx) })
		var sums [len(gauges)]int64
		var age time.Duration
		for _, s := range m.Status(time.Now()) {
			age = max(age, s.OldestAge)
			for i, g := range gauges {
				sums[i] += g.of(&s)
			}
		}
		for i, n := range sums {
			o.ObserveInt64(to[i], n)
		}
		o.ObserveInt64(oldest, age.Milliseconds())
		return nil
	}, append(all, oldest)...)
	if err != nil {
		return fmt.Errorf("tiering metrics: %w", err)
	}
	costs, err := cost.Observe(meter, func() []cost.Row {
		rows, _ := m.Costs(time.Now(), m.o.Prices())
		return rows
	}, m.o.TopicMetrics)
	if err != nil {
		return err
	}
	m.unregister = func() error { return errors.Join(reg.Unregister(), costs()) }
	return nil
}

// show makes counters visible that have counted nothing yet: a rate needs the value before the first change.
func (m *Manager) show(ctx context.Context) {
	m.metrics.commits.Add(ctx, 0)
	m.metrics.lostRaces.Add(ctx, 0)
	m.uploader.ShowMetrics(ctx)
	m.reader.ShowMetrics(ctx)
	m.gc.ShowMetrics(ctx)
}

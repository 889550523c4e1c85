package tiering

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/tiering/cost"
)

// metrics are what the manager counts itself; rates are the scraper's business.
type metrics struct {
	deleteRequests, deleteErrors, deletedObjs metric.Int64Counter
	commits, lostRaces                        metric.Int64Counter

	shown sync.Once
}

// show makes counters visible that have counted nothing yet: a rate needs the value before the first change.
func (x *metrics) show(ctx context.Context) {
	for _, c := range []metric.Int64Counter{x.deleteRequests, x.deleteErrors, x.deletedObjs, x.commits, x.lostRaces} {
		c.Add(ctx, 0)
	}
}

// countDeletions counts a request that deletes objects.
func (m *Manager) countDeletions(ctx context.Context, objects int, err error) {
	m.metrics.deleteRequests.Add(ctx, 1)
	if err != nil {
		m.metrics.deleteErrors.Add(ctx, 1)
		return
	}
	m.metrics.deletedObjs.Add(ctx, int64(objects))
}

func (m *Manager) newMetrics(meter metric.Meter) error {
	var errs [5]error
	x := &m.metrics
	x.deleteRequests, errs[0] = meter.Int64Counter("coldbrook_remote_delete_requests", metric.WithUnit("1"), metric.WithDescription("Deletions from the remote store that were started."))
	x.deleteErrors, errs[1] = meter.Int64Counter("coldbrook_remote_delete_errors", metric.WithUnit("1"), metric.WithDescription("Deletions from the remote store that failed."))
	x.deletedObjs, errs[2] = meter.Int64Counter("coldbrook_remote_deleted_objects", metric.WithUnit("1"), metric.WithDescription("Objects deleted from the remote store."))
	x.commits, errs[3] = meter.Int64Counter("coldbrook_remote_manifest_commits", metric.WithUnit("1"), metric.WithDescription("Manifests committed."))
	x.lostRaces, errs[4] = meter.Int64Counter("coldbrook_remote_manifest_lost_races", metric.WithUnit("1"), metric.WithDescription("Manifests not committed because the pointer or the leader had changed."))
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("tiering metrics: %w", err)
	}
	return m.observe(meter)
}

// observe registers what is read when metrics are scraped: sums over the partitions this broker leads.
func (m *Manager) observe(meter metric.Meter) error {
	var err error
	gauge := func(name, unit, doc string) metric.Int64ObservableGauge {
		g, e := meter.Int64ObservableGauge("coldbrook_"+name, metric.WithUnit(unit), metric.WithDescription(doc))
		if e != nil && err == nil {
			err = e
		}
		return g
	}
	lagBytes := gauge("remote_copy_lag_bytes", "By", "Bytes of sealed segments that are not in the remote store yet.")
	lagSegments := gauge("remote_copy_lag_segments", "1", "Sealed segments that are not in the remote store yet.")
	oldest := gauge("remote_oldest_unuploaded_age_ms", "ms", "Age of the oldest sealed segment that is not in the remote store yet.")
	size := gauge("remote_log_size_bytes", "By", "Bytes of segments in the remote store, of led partitions.")
	count := gauge("remote_log_metadata_count", "1", "Segments in the remote store, of led partitions.")
	unready := gauge("remote_log_unready_partitions", "1", "Led partitions whose remote view is not loaded yet.")
	deleteLag := gauge("remote_delete_lag_items", "1", "Items on the lists of pending deletions, of led partitions.")
	if err != nil {
		return fmt.Errorf("tiering metrics: %w", err)
	}
	reg, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		m.metrics.shown.Do(func() {
			m.metrics.show(ctx)
			m.uploader.ShowMetrics(ctx)
			m.reader.ShowMetrics(ctx)
			m.gc.ShowMetrics(ctx)
		})
		t := m.totals()
		o.ObserveInt64(lagBytes, t.pendingBytes)
		o.ObserveInt64(lagSegments, t.pendingSegments)
		o.ObserveInt64(oldest, t.oldest.Milliseconds())
		o.ObserveInt64(size, t.bytes)
		o.ObserveInt64(count, t.segments)
		o.ObserveInt64(unready, t.unready)
		o.ObserveInt64(deleteLag, t.garbage)
		return nil
	}, lagBytes, lagSegments, oldest, size, count, unready, deleteLag)
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

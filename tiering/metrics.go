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

// metrics are Kafka's words for tiered storage (RemoteCopyBytesPerSec and so on) under our prefix; rates are the
// scraper's business.
type metrics struct {
	copyBytes, copyRequests, copyErrors       metric.Int64Counter
	deleteRequests, deleteErrors, deletedObjs metric.Int64Counter
	copySeconds                               metric.Float64Histogram
	copyThrottle                              metric.Float64Counter
	commits, lostRaces                        metric.Int64Counter

	counters []metric.Int64Counter   // all of them
	waits    []metric.Float64Counter // the throttles
	shown    sync.Once
}

// show makes counters visible that have counted nothing yet: a rate needs the value before the first change.
func (x *metrics) show(ctx context.Context) {
	for _, c := range x.counters {
		c.Add(ctx, 0)
	}
	for _, c := range x.waits {
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
	var err error
	var counters []metric.Int64Counter
	counter := func(name, unit, doc string) metric.Int64Counter {
		c, e := meter.Int64Counter("coldbrook_"+name, metric.WithUnit(unit), metric.WithDescription(doc))
		if e != nil && err == nil {
			err = e
		}
		counters = append(counters, c)
		return c
	}
	seconds := func(name, doc string) metric.Float64Histogram {
		h, e := meter.Float64Histogram("coldbrook_"+name, metric.WithUnit("s"), metric.WithDescription(doc),
			metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
		if e != nil && err == nil {
			err = e
		}
		return h
	}
	waited := func(name, doc string) metric.Float64Counter {
		c, e := meter.Float64Counter("coldbrook_"+name, metric.WithUnit("s"), metric.WithDescription(doc))
		if e != nil && err == nil {
			err = e
		}
		return c
	}
	m.metrics = metrics{
		copyBytes:      counter("remote_copy_bytes", "By", "Bytes of segments copied to the remote store."),
		copyRequests:   counter("remote_copy_requests", "1", "Copies of segments to the remote store that were started."),
		copyErrors:     counter("remote_copy_errors", "1", "Copies of segments to the remote store that did not end well."),
		deleteRequests: counter("remote_delete_requests", "1", "Deletions from the remote store that were started."),
		deleteErrors:   counter("remote_delete_errors", "1", "Deletions from the remote store that failed."),
		deletedObjs:    counter("remote_deleted_objects", "1", "Objects deleted from the remote store."),
		copySeconds:    seconds("remote_copy_seconds", "Time to copy and verify one segment."),
		copyThrottle:   waited("remote_copy_throttle_seconds", "Time that copies waited for remote.log.manager.copy.max.bytes.per.second."),
		commits:        counter("remote_manifest_commits", "1", "Manifests committed."),
		lostRaces:      counter("remote_manifest_lost_races", "1", "Manifests not committed because the pointer or the leader had changed."),
	}
	if err != nil {
		return fmt.Errorf("tiering metrics: %w", err)
	}
	m.metrics.counters = counters
	m.metrics.waits = []metric.Float64Counter{m.metrics.copyThrottle}
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

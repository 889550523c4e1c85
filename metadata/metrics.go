package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// metrics are the Store's instruments.
type metrics struct {
	events   metric.Int64Counter
	rejected metric.Int64Counter
	restarts metric.Int64Counter
	latency  metric.Float64Histogram
	writes   metric.Int64Counter
	gauges   metric.Registration
}

func newMetrics(m metric.Meter, image func() *Image) (*metrics, error) {
	if m == nil {
		m = noop.NewMeterProvider().Meter("metadata")
	}
	var out metrics
	var errs [8]error
	out.events, errs[0] = m.Int64Counter("coldbrook_metadata_events",
		metric.WithDescription("Changes of the cluster's metadata that this broker has seen."))
	out.rejected, errs[1] = m.Int64Counter("coldbrook_metadata_invalid_values",
		metric.WithDescription("Changes that could not be read, so that the previous value stays in use."))
	out.restarts, errs[2] = m.Int64Counter("coldbrook_metadata_watch_restarts",
		metric.WithDescription("Times the watch of the metadata ended and was opened again."))
	out.latency, errs[3] = m.Float64Histogram("coldbrook_metadata_request_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time that requests to the key-value store took."))
	out.writes, errs[7] = m.Int64Counter("coldbrook_metadata_writes",
		metric.WithDescription("Transactions of this broker that changed the key-value store, and leases it was granted. Renewals of leases are none."))
	topics, err := m.Int64ObservableGauge("coldbrook_metadata_topics", metric.WithDescription("Topics in the metadata image."))
	errs[4] = err
	revision, err := m.Int64ObservableGauge("coldbrook_metadata_revision", metric.WithDescription("Revision of the metadata image."))
	errs[5] = err
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("metadata metrics: %w", err)
	}
	out.gauges, errs[6] = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		im := image()
		o.ObserveInt64(topics, int64(len(im.names)))
		o.ObserveInt64(revision, im.revision)
		return nil
	}, topics, revision)
	if errs[6] != nil {
		return nil, fmt.Errorf("metadata metrics: %w", errs[6])
	}
	return &out, nil
}

// observe records one request to the store.
func (m *metrics) observe(ctx context.Context, op string, start time.Time, err error) {
	outcome := "ok"
	switch {
	case errors.Is(err, kv.ErrUnavailable):
		outcome = "unavailable"
	case err != nil:
		outcome = "error"
	}
	m.latency.Record(ctx, time.Since(start).Seconds(),
		metric.WithAttributes(attribute.String("operation", op), attribute.String("outcome", outcome)))
}

// wrote counts one request that changed the store.
func (m *metrics) wrote(ctx context.Context, op string, changed bool) {
	if changed {
		m.writes.Add(ctx, 1, metric.WithAttributes(attribute.String("operation", op)))
	}
}

package api

import (
	"context"

	"go.opentelemetry.io/otel/metric"
)

// measure registers the API's own figures, with Kafka's words.
func (a *API) measure(meter metric.Meter) error {
	if meter == nil {
		return nil
	}
	sessions, err := meter.Int64ObservableGauge("fetch.session.num.incremental.fetch.sessions", metric.WithDescription("Fetch sessions that are remembered."))
	if err != nil {
		return err
	}
	partitions, err := meter.Int64ObservableGauge("fetch.session.num.incremental.fetch.partitions.cached", metric.WithDescription("Partitions of all fetch sessions."))
	if err != nil {
		return err
	}
	evictions, err := meter.Int64ObservableCounter("fetch.session.incremental.fetch.session.evictions", metric.WithDescription("Fetch sessions that lost their slot to another."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := a.sessions.stats()
		o.ObserveInt64(sessions, s.sessions)
		o.ObserveInt64(partitions, s.partitions)
		o.ObserveInt64(evictions, s.evictions)
		return nil
	}, sessions, partitions, evictions)
	return err
}

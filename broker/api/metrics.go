package api

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/broker/quota"
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
	if err := a.measureQuotas(meter); err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := a.sessions.stats(time.Now())
		o.ObserveInt64(sessions, s.sessions)
		o.ObserveInt64(partitions, s.partitions)
		o.ObserveInt64(evictions, s.evictions)
		return nil
	}, sessions, partitions, evictions)
	return err
}

// measureQuotas registers what quotas have throttled, by Kafka's name of the quota.
func (a *API) measureQuotas(meter metric.Meter) error {
	throttled, err := meter.Int64ObservableCounter("quota.throttled.requests", metric.WithDescription("Requests of clients that were over a quota; of remote_fetch_byte_rate, fetches that left out what is cold."))
	if err != nil {
		return err
	}
	seconds, err := meter.Float64ObservableCounter("quota.throttle.time", metric.WithUnit("s"), metric.WithDescription("Time for which clients over a quota were told to stay away."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, kind := range quota.Kinds() {
			name, count := metric.WithAttributes(attribute.String("quota", kind.String())), a.o.Quotas.Throttled(kind)
			o.ObserveInt64(throttled, count.Times, name)
			o.ObserveFloat64(seconds, count.For.Seconds(), name)
		}
		return nil
	}, throttled, seconds)
	return err
}

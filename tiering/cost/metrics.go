package cost

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// allTopics is the topic of the one row there is when metrics do not have topics as a label.
const allTopics = "(all)"

// gauges are what is observed of each row of a report.
type gauges struct {
	requests           metric.Int64ObservableCounter
	bytes              metric.Int64ObservableCounter
	pieces, pieceBytes metric.Int64ObservableCounter
	stored, segments   metric.Int64ObservableGauge
	perDay             metric.Float64ObservableGauge
}

// Observe registers what the object store is used for, by topic or, unless byTopic, in one row. rows makes the
// report of now.
func Observe(meter metric.Meter, rows func() []Row, byTopic bool) (unregister func() error, err error) {
	var g gauges
	var errs [7]error
	g.requests, errs[0] = meter.Int64ObservableCounter("coldbrook_remote_requests",
		metric.WithDescription("Requests to the object store by topic and op; a delete is one for each object, a list one for each thousand."))
	g.bytes, errs[1] = meter.Int64ObservableCounter("coldbrook_remote_transferred_bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes put into the object store (direction in) and read out of it (out), by topic."))
	g.pieces, errs[2] = meter.Int64ObservableCounter("coldbrook_remote_cache_reads",
		metric.WithDescription("Pieces of objects that readers asked for, by topic and result: a hit needed no request of its own."))
	g.pieceBytes, errs[3] = meter.Int64ObservableCounter("coldbrook_remote_cache_read_bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes of those pieces."))
	g.stored, errs[4] = meter.Int64ObservableGauge("coldbrook_remote_topic_size_bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes of segments in the object store by topic, of led partitions."))
	g.segments, errs[5] = meter.Int64ObservableGauge("coldbrook_remote_topic_segments",
		metric.WithDescription("Segments in the object store by topic, of led partitions."))
	g.perDay, errs[6] = meter.Float64ObservableGauge("coldbrook_remote_cost_per_day",
		metric.WithDescription("What a day costs by topic, in remote.price.currency: this broker's requests of the last day, or since its start told for a day, and what its led partitions store."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("metrics of costs: %w", err)
	}
	reg, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		all := rows()
		if !byTopic {
			all = []Row{Total(all)}
			all[0].Topic = allTopics
		}
		for _, r := range all {
			g.observe(o, r)
		}
		return nil
	}, g.requests, g.bytes, g.pieces, g.pieceBytes, g.stored, g.segments, g.perDay)
	if err != nil {
		return nil, fmt.Errorf("metrics of costs: %w", err)
	}
	return reg.Unregister, nil
}

func (g *gauges) observe(o metric.Observer, r Row) {
	topic := attribute.String("topic", r.Topic)
	with := func(name, value string) metric.MeasurementOption {
		return metric.WithAttributes(topic, attribute.String(name, value))
	}
	u := r.Used
	for _, c := range []struct {
		to          metric.Int64ObservableCounter
		name, value string
		n           int64
	}{
		{g.requests, "op", "put", u.Put}, {g.requests, "op", "get", u.Get}, {g.requests, "op", "head", u.Head},
		{g.requests, "op", "list", u.List}, {g.requests, "op", "delete", u.Delete},
		{g.bytes, "direction", "in", u.BytesIn}, {g.bytes, "direction", "out", u.BytesOut},
		{g.pieces, "result", "hit", u.CacheHits}, {g.pieces, "result", "miss", u.CacheMisses},
		{g.pieceBytes, "result", "hit", u.CacheHitBytes}, {g.pieceBytes, "result", "miss", u.CacheMissBytes},
	} {
		o.ObserveInt64(c.to, c.n, with(c.name, c.value))
	}
	o.ObserveInt64(g.stored, r.RemoteBytes, metric.WithAttributes(topic))
	o.ObserveInt64(g.segments, r.Segments, metric.WithAttributes(topic))
	o.ObserveFloat64(g.perDay, r.PerDay, metric.WithAttributes(topic))
}

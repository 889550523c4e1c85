package replica

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics are the replica manager's own figures, with Kafka's metric words.
type metrics struct {
	late metric.Int64Counter
}

func newMetrics(m *Manager, meter metric.Meter) (*metrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("replica")
	}
	late, err := meter.Int64Counter("remote.fetch.late", metric.WithDescription("Cold reads that outlived the fetch that asked for them and went on into the cache."))
	if err != nil {
		return nil, err
	}
	gauge := func(name, doc, unit string, value func(*gauges) int64) error {
		_, err := meter.Int64ObservableGauge(name, metric.WithDescription(doc), metric.WithUnit(unit),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(value(m.gauges()))
				return nil
			}))
		return err
	}
	for _, g := range []struct {
		name, doc, unit string
		value           func(*gauges) int64
	}{
		{"replica.manager.partition.count", "Partitions on this broker.", "", func(g *gauges) int64 { return g.partitions }},
		{"replica.manager.leader.count", "Partitions this broker leads.", "", func(g *gauges) int64 { return g.leaders }},
		{"replica.manager.under.min.isr.partition.count", "Led partitions with fewer in-sync replicas than min.insync.replicas.", "", func(g *gauges) int64 { return g.underMinISR }},
		{"replica.manager.under.replicated.partitions", "Led partitions with replicas that are not in sync.", "", func(g *gauges) int64 { return g.underReplicated }},
		{"log.size", "Bytes of all logs on local disk.", "By", func(g *gauges) int64 { return g.localBytes }},
		{"log.segments", "Segments of all logs on local disk.", "", func(g *gauges) int64 { return g.segments }},
	} {
		if err := gauge(g.name, g.doc, g.unit, g.value); err != nil {
			return nil, err
		}
	}
	return &metrics{late: late}, nil
}

func (m *metrics) coldLate(ctx context.Context) { m.late.Add(ctx, 1) }

type gauges struct {
	partitions, leaders, underMinISR, underReplicated, localBytes, segments int64
}

func (m *Manager) gauges() *gauges {
	g := &gauges{}
	for _, p := range m.view.Load().byID {
		s := p.state.Load()
		g.partitions++
		g.localBytes += p.log.LocalBytes()
		g.segments += int64(p.log.Segments())
		if !s.leading {
			continue
		}
		g.leaders++
		if len(s.ISR) < s.minInSync {
			g.underMinISR++
		}
		if len(s.ISR) < len(s.Replicas) {
			g.underReplicated++
		}
	}
	return g
}

package replica

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/coldbrook/coldbrook/metadata"
)

// metrics are the replica manager's own figures, with Kafka's metric words.
type metrics struct {
	late, shrinks, expands, failedISR, bytesOut metric.Int64Counter
}

type gauge struct {
	instrument metric.Int64Observable
	value      func(*gauges) int64
}

var gaugeDefs = []struct {
	name, doc, unit string
	value           func(*gauges) int64
}{
	{"replica.manager.partition.count", "Partitions on this broker.", "", func(g *gauges) int64 { return g.partitions }},
	{"replica.manager.leader.count", "Partitions this broker leads.", "", func(g *gauges) int64 { return g.leaders }},
	{"replica.manager.offline.replica.count", "Partitions of this broker whose log is offline or does not open.", "", func(g *gauges) int64 { return g.offline }},
	{"replica.manager.under.min.isr.partition.count", "Led partitions with fewer in-sync replicas than min.insync.replicas.", "", func(g *gauges) int64 { return g.underMinISR }},
	{"replica.manager.at.min.isr.partition.count", "Led partitions with as many in-sync replicas as min.insync.replicas and no more.", "", func(g *gauges) int64 { return g.atMinISR }},
	{"replica.manager.under.replicated.partitions", "Led partitions with replicas that are not in sync.", "", func(g *gauges) int64 { return g.underReplicated }},
	{"log.size", "Bytes of all logs on local disk.", "By", func(g *gauges) int64 { return g.localBytes }},
	{"log.segments", "Segments of all logs on local disk.", "", func(g *gauges) int64 { return g.segments }},
}

func newMetrics(m *Manager, meter metric.Meter) (*metrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("replica")
	}
	mm := &metrics{}
	for _, d := range []struct {
		name, doc, unit string
		counter         *metric.Int64Counter
	}{
		{"remote.fetch.late", "Cold reads that outlived the fetch that asked for them and went on into the cache.", "", &mm.late},
		{"replica.manager.isr.shrinks", "Led partitions from whose in-sync replicas some were taken.", "", &mm.shrinks},
		{"replica.manager.isr.expands", "Led partitions to whose in-sync replicas some were added.", "", &mm.expands},
		{"replica.manager.failed.isr.updates", "Changes of in-sync replicas that were not made at the first attempt.", "", &mm.failedISR},
		{"replication.bytes.out", "Bytes of record batches that followers copied.", "By", &mm.bytesOut},
	} {
		var err error
		if *d.counter, err = meter.Int64Counter(d.name, metric.WithDescription(d.doc), metric.WithUnit(d.unit)); err != nil {
			return nil, err
		}
	}
	var list []gauge
	var instruments []metric.Observable
	for _, d := range gaugeDefs {
		g, err := meter.Int64ObservableGauge(d.name, metric.WithDescription(d.doc), metric.WithUnit(d.unit))
		if err != nil {
			return nil, err
		}
		list = append(list, gauge{g, d.value})
		instruments = append(instruments, g)
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := m.gauges()
		for _, g := range list {
			o.ObserveInt64(g.instrument, g.value(&now))
		}
		return nil
	}, instruments...)
	if err != nil {
		return nil, err
	}
	return mm, nil
}

func (m *metrics) coldLate(ctx context.Context) { m.late.Add(ctx, 1) }

func (m *metrics) replicated(ctx context.Context, bytes int) {
	if bytes > 0 {
		m.bytesOut.Add(ctx, int64(bytes))
	}
}

func (m *metrics) isrFailed(ctx context.Context, n int) { m.failedISR.Add(ctx, int64(n)) }

func (m *metrics) isrChanged(ctx context.Context, c *metadata.PartitionChange) {
	out := func(id metadata.BrokerID) bool { return !slices.Contains(c.To.ISR, id) }
	in := func(id metadata.BrokerID) bool { return !slices.Contains(c.From.ISR, id) }
	if slices.ContainsFunc(c.From.ISR, out) {
		m.shrinks.Add(ctx, 1)
	}
	if slices.ContainsFunc(c.To.ISR, in) {
		m.expands.Add(ctx, 1)
	}
}

type gauges struct {
	partitions, leaders, offline, underMinISR, atMinISR, underReplicated, localBytes, segments int64
}

func (m *Manager) gauges() gauges {
	v := m.view.Load()
	g := gauges{offline: int64(len(v.failed))}
	for _, p := range v.byID {
		s := p.state.Load()
		g.partitions++
		g.localBytes += p.log.LocalBytes()
		g.segments += int64(p.log.Segments())
		if p.dir.Offline() != nil || p.spoilt.Load() != nil {
			g.offline++
		}
		if !s.leading {
			continue
		}
		g.leaders++
		switch n := len(s.ISR); {
		case n < s.enough():
			g.underMinISR++
		case n == s.enough():
			g.atMinISR++
		}
		if s.underReplicated() {
			g.underReplicated++
		}
	}
	return g
}

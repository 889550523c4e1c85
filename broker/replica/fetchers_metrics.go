package replica

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// fetcherMetrics are the figures of the following side, with Kafka's metric words.
type fetcherMetrics struct {
	bytes, requests, errors, auxBuilds, auxErrors metric.Int64Counter
	callback                                      metric.Registration
}

// fetcherGauges are made of a walk over what is followed.
type fetcherGauges struct{ maxLag, failed, followed int64 }

var fetcherGaugeDefs = []struct {
	name, doc string
	value     func(fetcherGauges) int64
}{
	{"replica.fetcher.max.lag", "The most records that a follower on this broker is behind its leader's high watermark.", func(g fetcherGauges) int64 { return g.maxLag }},
	{"replica.fetcher.failed.partitions", "Followed partitions that cannot be copied at the moment.", func(g fetcherGauges) int64 { return g.failed }},
	{"replica.fetcher.partitions", "Partitions that this broker follows.", func(g fetcherGauges) int64 { return g.followed }},
}

func newFetcherMetrics(f *fetchers, meter metric.Meter) (*fetcherMetrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("replica")
	}
	m := &fetcherMetrics{}
	for _, d := range []struct {
		name, doc, unit string
		counter         *metric.Int64Counter
	}{
		{"replication.bytes.in", "Bytes of record batches copied from leaders.", "By", &m.bytes},
		{"replica.fetcher.requests", "Fetch requests that leaders answered.", "", &m.requests},
		{"replica.fetcher.request.errors", "Fetch requests that failed as a whole.", "", &m.errors},
		{"replica.fetcher.build.remote.log.aux.state", "Followers that started at the end of the tier.", "", &m.auxBuilds},
		{"replica.fetcher.build.remote.log.aux.state.errors", "Attempts to start at the end of the tier that failed.", "", &m.auxErrors},
	} {
		var err error
		if *d.counter, err = meter.Int64Counter(d.name, metric.WithDescription(d.doc), metric.WithUnit(d.unit)); err != nil {
			return nil, err
		}
	}
	gauges := make([]metric.Int64Observable, len(fetcherGaugeDefs))
	observables := make([]metric.Observable, len(gauges))
	for i, d := range fetcherGaugeDefs {
		g, err := meter.Int64ObservableGauge(d.name, metric.WithDescription(d.doc))
		if err != nil {
			return nil, err
		}
		gauges[i], observables[i] = g, g
	}
	var err error
	m.callback, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := f.gauges()
		for i, d := range fetcherGaugeDefs {
			o.ObserveInt64(gauges[i], d.value(now))
		}
		return nil
	}, observables...)
	return m, err
}

// close ends the observation. It cannot fail: the SDK only forgets a function.
func (m *fetcherMetrics) close() { _ = m.callback.Unregister() }

func (m *fetcherMetrics) fetched(ctx context.Context, bytes int) {
	m.requests.Add(ctx, 1)
	if bytes > 0 {
		m.bytes.Add(ctx, int64(bytes))
	}
}

func (m *fetcherMetrics) failed(ctx context.Context)    { m.errors.Add(ctx, 1) }
func (m *fetcherMetrics) auxBuilt(ctx context.Context)  { m.auxBuilds.Add(ctx, 1) }
func (m *fetcherMetrics) auxFailed(ctx context.Context) { m.auxErrors.Add(ctx, 1) }

func (f *fetchers) gauges() fetcherGauges {
	var g fetcherGauges
	for _, fo := range f.all() {
		g.followed++
		g.maxLag = max(g.maxLag, fo.lag.Load())
		if fo.failed.Load() {
			g.failed++
		}
	}
	return g
}

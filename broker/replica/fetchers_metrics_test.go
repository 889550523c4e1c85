package replica

import (
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestFollowingShowsInMetrics(t *testing.T) {
	inLab(t, func(l *lab) {
		reader := sdkmetric.NewManualReader()
		meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
		l.options = func(o *Options) { o.Meter = meter }
		l.crash(l.disk)
		lg := l.topic("t")
		l.tiered(lg, 200)
		p := l.follow("t")
		l.caughtUp(p, lg)
		lg.commit(lg.log.LogEnd() + 7) // the leader is ahead
		time.Sleep(time.Second)
		var all metricdata.ResourceMetrics
		l.must(reader.Collect(l.ctx, &all))
		got := map[string]int64{}
		for _, m := range all.ScopeMetrics[0].Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				got[m.Name] = data.DataPoints[0].Value
			case metricdata.Gauge[int64]:
				got[m.Name] = data.DataPoints[0].Value
			}
		}
		for name, want := range map[string]int64{
			"replication.bytes.in": p.log.LocalBytes(), "replica.fetcher.build.remote.log.aux.state": 1, "replica.fetcher.max.lag": 7,
			"replica.fetcher.partitions": 1, "replica.fetcher.failed.partitions": 0,
		} {
			if got[name] != want {
				t.Errorf("%s is %d, want %d", name, got[name], want)
			}
		}
		if got["replica.fetcher.requests"] < 2 {
			t.Errorf("%d requests", got["replica.fetcher.requests"])
		}
	})
}

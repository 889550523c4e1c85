package read

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
)

// metrics are Kafka's words for tiered storage (RemoteFetchBytesPerSec and so on) under our prefix.
type metrics struct {
	fetchBytes, fetchRequests, fetchErrors metric.Int64Counter
	auxRequests, auxErrors                 metric.Int64Counter
	hedges, hedgesWon                      metric.Int64Counter
	fetchSeconds                           metric.Float64Histogram
	fetchThrottle                          metric.Float64Counter
}

func (x *metrics) init(meter metric.Meter) error {
	var errs []error
	for _, c := range []struct {
		to              *metric.Int64Counter
		name, unit, doc string
	}{
		{&x.fetchBytes, "remote_fetch_bytes", "By", "Bytes of records handed out of the remote store."},
		{&x.fetchRequests, "remote_fetch_requests", "1", "Reads of records from the remote store."},
		{&x.fetchErrors, "remote_fetch_errors", "1", "Reads of records from the remote store that failed."},
		{&x.auxRequests, "build_remote_log_aux_state_requests", "1", "Requests for epochs and producer state at the end of the tier."},
		{&x.auxErrors, "build_remote_log_aux_state_errors", "1", "Requests for epochs and producer state that failed."},
		{&x.hedges, "remote_fetch_hedges", "1", "Ranged reads asked for a second time because the first took long."},
		{&x.hedgesWon, "remote_fetch_hedges_won", "1", "Ranged reads whose second answer came first."},
	} {
		var err error
		*c.to, err = meter.Int64Counter("coldbrook_"+c.name, metric.WithUnit(c.unit), metric.WithDescription(c.doc))
		errs = append(errs, err)
	}
	var err error
	x.fetchSeconds, err = meter.Float64Histogram("coldbrook_remote_fetch_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time of reads of records from the remote store, cached or not."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	errs = append(errs, err)
	x.fetchThrottle, err = meter.Float64Counter("coldbrook_remote_fetch_throttle_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time that reads waited for remote.log.manager.fetch.max.bytes.per.second."))
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("metrics of remote reads: %w", err)
	}
	return nil
}

func (x *metrics) show(ctx context.Context) {
	for _, c := range []metric.Int64Counter{x.fetchBytes, x.fetchRequests, x.fetchErrors, x.auxRequests, x.auxErrors, x.hedges, x.hedgesWon} {
		c.Add(ctx, 0)
	}
	x.fetchThrottle.Add(ctx, 0)
}

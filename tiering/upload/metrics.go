package upload

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
)

// metrics are Kafka's words for tiered storage (RemoteCopyBytesPerSec and so on) under our prefix.
type metrics struct {
	copyBytes, copyRequests, copyErrors metric.Int64Counter
	copySeconds                         metric.Float64Histogram
	copyThrottle                        metric.Float64Counter
}

func (x *metrics) init(meter metric.Meter) error {
	var errs [5]error
	x.copyBytes, errs[0] = meter.Int64Counter("coldbrook_remote_copy_bytes", metric.WithUnit("By"), metric.WithDescription("Bytes of segments copied to the remote store."))
	x.copyRequests, errs[1] = meter.Int64Counter("coldbrook_remote_copy_requests", metric.WithUnit("1"), metric.WithDescription("Copies of segments to the remote store that were started."))
	x.copyErrors, errs[2] = meter.Int64Counter("coldbrook_remote_copy_errors", metric.WithUnit("1"), metric.WithDescription("Copies of segments to the remote store that did not end well."))
	x.copySeconds, errs[3] = meter.Float64Histogram("coldbrook_remote_copy_seconds", metric.WithUnit("s"), metric.WithDescription("Time to copy and verify one segment."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	x.copyThrottle, errs[4] = meter.Float64Counter("coldbrook_remote_copy_throttle_seconds", metric.WithUnit("s"), metric.WithDescription("Time that copies waited for remote.log.manager.copy.max.bytes.per.second."))
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("metrics of remote copies: %w", err)
	}
	return nil
}

func (x *metrics) show(ctx context.Context) {
	for _, c := range []metric.Int64Counter{x.copyBytes, x.copyRequests, x.copyErrors} {
		c.Add(ctx, 0)
	}
	x.copyThrottle.Add(ctx, 0)
}

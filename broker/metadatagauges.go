package broker

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

const (
	// sizeEvery is how often etcd is asked how large it is.
	sizeEvery = 15 * time.Second
	// sizeTimeout bounds one question.
	sizeTimeout = 5 * time.Second
)

// measureMetadata measures what this broker's place in its cluster hangs on until ctx ends: its lease, its image, and
// the room that etcd has left. What is not known is not shown.
func (b *Broker) measureMetadata(ctx context.Context) error {
	var size atomic.Pointer[kv.Size]
	unregister, err := b.observeMetadata(&size)
	if err != nil {
		return err
	}
	tick := time.NewTicker(sizeEvery)
	defer tick.Stop()
	for {
		if sizer, ok := b.kv.(kv.Sizer); ok {
			bounded, cancel := context.WithTimeout(ctx, sizeTimeout)
			now, err := sizer.Size(bounded)
			cancel()
			if err == nil {
				size.Store(&now)
			} else {
				size.Store(nil)
				b.log.Debug("size of etcd", "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return unregister()
		}
	}
}

func (b *Broker) observeMetadata(size *atomic.Pointer[kv.Size]) (unregister func() error, err error) {
	m := b.o.Meter("broker")
	gauge := func(name, unit, text string) metric.Int64ObservableGauge {
		if err != nil {
			return nil
		}
		var g metric.Int64ObservableGauge
		g, err = m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		return g
	}
	lease := gauge("coldbrook_metadata_lease_age_ms", "ms", "Time since etcd last renewed this broker's lease.")
	image := gauge("coldbrook_metadata_image_age_ms", "ms", "Time since this broker last knew all that was decided.")
	bytes := gauge("coldbrook_etcd_db_bytes", "By", "Size of the etcd member's file.")
	used := gauge("coldbrook_etcd_db_in_use_bytes", "By", "Part of the etcd member's file that is in use.")
	quota := gauge("coldbrook_etcd_db_quota_bytes", "By", "Size at which etcd refuses writes.")
	if err != nil {
		return nil, err
	}
	r, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if s := b.session.Load(); s != nil {
			at, _ := s.Confirmed()
			o.ObserveInt64(lease, time.Since(at).Milliseconds())
		}
		o.ObserveInt64(image, time.Since(b.metadata.Confirmed()).Milliseconds())
		if s := size.Load(); s != nil {
			o.ObserveInt64(bytes, s.Bytes)
			o.ObserveInt64(used, s.InUse)
			if s.Quota > 0 {
				o.ObserveInt64(quota, s.Quota)
			}
		}
		return nil
	}, lease, image, bytes, used, quota)
	if err != nil {
		return nil, err
	}
	return r.Unregister, nil
}

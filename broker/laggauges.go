package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
)

const (
	// lagTimeout bounds one round: a scrape shows the last one that ended.
	lagTimeout = time.Minute
	// lagSeries is how many series one group's partition has: three measures, hot and cold.
	lagSeries = 6
)

// groupLag is the lag of one group in one partition.
type groupLag struct {
	group string
	lag   console.PartitionLag
}

// groupLags are the last round's.
type groupLags struct {
	rows    []groupLag
	leftOut int64
}

// measureGroups measures the lag of the groups that this broker coordinates until ctx ends, for its gauges.
func (b *Broker) measureGroups(ctx context.Context) error {
	var last atomic.Pointer[groupLags]
	last.Store(&groupLags{})
	unregister, err := observeLags(b.o.Meter("broker"), &last)
	if err != nil {
		return err
	}
	tick := time.NewTicker(b.settings.Load().Broker().GroupLagInterval)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, lagTimeout)
		lags, err := b.lagsOfGroups(bounded, b.settings.Load().Broker().GroupLagSeries/lagSeries)
		cancel()
		switch {
		case err == nil:
			last.Store(lags)
		case ctx.Err() == nil:
			b.log.Debug("lag of groups", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return unregister()
		}
	}
}

// lagsOfGroups measures at most so many partitions of groups, by the names of groups and topics.
func (b *Broker) lagsOfGroups(ctx context.Context, most int) (*groupLags, error) {
	out := &groupLags{}
	if most == 0 {
		return out, nil
	}
	groups, err := b.groups.Summaries(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(groups, func(a, b group.Summary) int { return strings.Compare(a.Group, b.Group) })
	var at []console.LagAt
	var names []string
	img := b.metadata.Image()
	for _, g := range groups {
		slices.SortFunc(g.Offsets, func(a, b group.Committed) int {
			return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		for _, o := range g.Offsets {
			if t, ok := img.Topic(o.Topic); !ok || int(o.Partition) >= len(t.Partitions) {
				continue // deleted, and not forgotten yet
			}
			if len(at) == most {
				out.leftOut++
				continue
			}
			at, names = append(at, console.LagAt{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset}), append(names, g.Group)
		}
	}
	lags, err := b.viewLags(ctx, at, false)
	if err != nil {
		return nil, err
	}
	for i, l := range lags.Partitions {
		if l.Error == "" {
			out.rows = append(out.rows, groupLag{names[i], l})
		}
	}
	return out, nil
}

// observeLags registers the gauges that show the last round.
func observeLags(meter metric.Meter, last *atomic.Pointer[groupLags]) (unregister func() error, err error) {
	var errs [4]error
	var records, bytes, leftOut metric.Int64ObservableGauge
	var seconds metric.Float64ObservableGauge
	records, errs[0] = meter.Int64ObservableGauge("coldbrook_group_lag_records",
		metric.WithDescription("Records between a group's committed offset and the high watermark: tier hot on the leader's local disk, cold only in the object store."))
	bytes, errs[1] = meter.Int64ObservableGauge("coldbrook_group_lag_bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes of those records, as stored."))
	seconds, errs[2] = meter.Float64ObservableGauge("coldbrook_group_lag_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of the first of those records; the cold part of it up to where the local log begins."))
	leftOut, errs[3] = meter.Int64ObservableGauge("coldbrook_group_lag_left_out",
		metric.WithDescription("Partitions of groups whose lag is not measured because of metrics.group.lag.max.series."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("lag metrics: %w", err)
	}
	reg, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		lags := last.Load()
		o.ObserveInt64(leftOut, lags.leftOut)
		for _, r := range lags.rows {
			l := r.lag
			set := []attribute.KeyValue{attribute.String("group", r.group), attribute.String("topic", l.Topic), attribute.String("partition", strconv.Itoa(int(l.Partition)))}
			hot := metric.WithAttributes(append(set[:3:3], attribute.String("tier", "hot"))...)
			cold := metric.WithAttributes(append(set[:3:3], attribute.String("tier", "cold"))...)
			o.ObserveInt64(records, l.Records-l.ColdRecords, hot)
			o.ObserveInt64(records, l.ColdRecords, cold)
			o.ObserveInt64(bytes, l.Bytes-l.ColdBytes, hot)
			o.ObserveInt64(bytes, l.ColdBytes, cold)
			if l.Ms >= 0 && l.ColdMs >= 0 {
				o.ObserveFloat64(seconds, float64(max(l.Ms-l.ColdMs, 0))/1000, hot)
				o.ObserveFloat64(seconds, float64(l.ColdMs)/1000, cold)
			}
		}
		return nil
	}, records, bytes, seconds, leftOut)
	if err != nil {
		return nil, fmt.Errorf("lag metrics: %w", err)
	}
	return reg.Unregister, nil
}

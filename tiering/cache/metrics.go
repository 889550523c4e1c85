package cache

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"
)

// register makes the instruments. They are read from Stats when somebody collects, so that a hit
// costs no more than an addition.
func (c *Cache) register(m metric.Meter) error {
	type source struct {
		instrument metric.Int64Observable
		value      func(Stats) int64
	}
	var sources []source
	var observables []metric.Observable
	var failed error
	counter := func(name, doc string, value func(Stats) int64) {
		i, err := m.Int64ObservableCounter("coldbrook_tier_cache_"+name, metric.WithDescription(doc))
		if err != nil {
			failed = err
		}
		sources = append(sources, source{i, value})
		observables = append(observables, i)
	}
	gauge := func(name, doc string, value func(Stats) int64) {
		i, err := m.Int64ObservableGauge("coldbrook_tier_cache_"+name, metric.WithDescription(doc))
		if err != nil {
			failed = err
		}
		sources = append(sources, source{i, value})
		observables = append(observables, i)
	}
	counter("hits", "Reads of remote data served from the cache.", func(s Stats) int64 { return s.Hits })
	counter("misses", "Reads of remote data that started a fetch.", func(s Stats) int64 { return s.Misses })
	counter("joined", "Reads of remote data that waited for a fetch already under way.", func(s Stats) int64 { return s.Joined })
	counter("prefetches", "Fetches started ahead of their readers.", func(s Stats) int64 { return s.Prefetches })
	counter("prefetches_dropped", "Fetches ahead of readers refused for lack of budget.", func(s Stats) int64 { return s.Dropped })
	counter("prefetches_unused", "Prefetched pieces evicted before anybody read them.", func(s Stats) int64 { return s.UnusedPrefetches })
	counter("evictions", "Pieces evicted to make room.", func(s Stats) int64 { return s.Evicted })
	counter("fetch_errors", "Fetches that failed.", func(s Stats) int64 { return s.Failed })
	counter("fetched_bytes", "Bytes fetched into the cache from the store.", func(s Stats) int64 { return s.FetchedBytes })
	counter("hit_bytes", "Bytes of pieces served from the cache.", func(s Stats) int64 { return s.HitBytes })
	gauge("used_bytes", "Memory of all buffers.", func(s Stats) int64 { return s.UsedBytes })
	gauge("pinned_bytes", "Memory of pieces in use.", func(s Stats) int64 { return s.PinnedBytes })
	gauge("ahead_bytes", "Memory of prefetched pieces that nobody has used yet.", func(s Stats) int64 { return s.AheadBytes })
	gauge("waiting", "Pieces that wait for memory.", func(s Stats) int64 { return s.Queued })
	gauge("fetching", "Fetches that run.", func(s Stats) int64 { return s.Running })
	gauge("limit_bytes", "Bound of the memory of all buffers.", func(Stats) int64 { return c.memory })
	if d := c.disk; d != nil {
		disk := func(value func(DiskStats) int64) func(Stats) int64 {
			return func(Stats) int64 { return value(d.Stats()) }
		}
		counter("disk_hits", "Pieces read from the disk instead of the store.", disk(func(s DiskStats) int64 { return s.Hits }))
		counter("disk_misses", "Pieces that the disk did not have.", disk(func(s DiskStats) int64 { return s.Misses }))
		counter("disk_read_bytes", "Bytes of pieces read from the disk.", disk(func(s DiskStats) int64 { return s.ReadBytes }))
		counter("disk_written_bytes", "Bytes of pieces written to the disk.", disk(func(s DiskStats) int64 { return s.WrittenBytes }))
		counter("disk_evictions", "Pieces removed from the disk to make room.", disk(func(s DiskStats) int64 { return s.Evicted }))
		counter("disk_bad", "Pieces on the disk that were not what had been written. They were removed.", disk(func(s DiskStats) int64 { return s.Bad }))
		counter("disk_dropped", "Pieces from the store that were not written to the disk, which was busy or out of order.", disk(func(s DiskStats) int64 { return s.Dropped }))
		counter("disk_errors", "Errors of the disk. It is left alone for a while after each.", disk(func(s DiskStats) int64 { return s.Errors }))
		gauge("disk_used_bytes", "Size of all pieces on the disk.", disk(func(s DiskStats) int64 { return s.UsedBytes }))
		gauge("disk_limit_bytes", "Bound of the size of all pieces on the disk.", disk(func(DiskStats) int64 { return d.max }))
		gauge("disk_out", "1 while the disk is left alone after an error.", disk(func(s DiskStats) int64 {
			if s.Out {
				return 1
			}
			return 0
		}))
	}
	if failed != nil {
		return fmt.Errorf("cache metrics: %w", failed)
	}
	reg, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := c.Stats()
		for _, src := range sources {
			o.ObserveInt64(src.instrument, src.value(s))
		}
		return nil
	}, observables...)
	if err != nil {
		return fmt.Errorf("cache metrics: %w", err)
	}
	c.unregister = reg.Unregister
	return nil
}

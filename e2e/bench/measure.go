package main

import (
	"context"
	"fmt"
	"time"
)

// usage is what a broker has used so far.
type usage struct {
	cpu         time.Duration
	mallocs     int64
	gets, bytes float64 // of the object store
	handed      float64 // bytes of old records given to consumers
}

func (p *process) usage(ctx context.Context) (u usage, err error) {
	if u.cpu, err = p.cpu(); err != nil {
		return u, err
	}
	if u.mallocs, err = p.mallocs(); err != nil {
		return u, err
	}
	if u.gets, u.bytes, err = p.storeUse(ctx); err != nil {
		return u, err
	}
	u.handed, err = p.Metric(ctx, "coldbrook_remote_fetch_bytes_total")
	return u, err
}

// measured runs a load and turns it into a row with the broker's own cost.
func (b *bench) measured(ctx context.Context, p *process, r row, load func() (result, error)) (row, error) {
	if err := p.forgetPeak(); err != nil {
		return r, err
	}
	before, err := p.usage(ctx)
	if err != nil {
		return r, err
	}
	res, err := load()
	if err != nil {
		return r, fmt.Errorf("%s: %w\n%s", r.Name, err, p.Log())
	}
	after, err := p.usage(ctx)
	if err != nil {
		return r, err
	}
	_, peak, err := p.memory()
	if err != nil {
		return r, err
	}
	gb := float64(res.bytes) / 1e9
	r.MBps = float64(res.bytes) / res.elapsed.Seconds() / 1e6
	r.Requests = float64(res.requests) / res.elapsed.Seconds()
	r.P50, r.P99 = percentile(res.took, 0.50), percentile(res.took, 0.99)
	r.CPU = (after.cpu - before.cpu).Seconds() / gb
	r.Allocs = float64(after.mallocs-before.mallocs) / float64(res.requests)
	r.PeakMB = float64(peak) / 1e6
	if after.handed > before.handed {
		r.GETs = (after.gets - before.gets) / gb
		r.Cached = max(0, 1-(after.bytes-before.bytes)/(after.handed-before.handed))
	}
	return r, nil
}

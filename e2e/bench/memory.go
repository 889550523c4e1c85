package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	memoryReplays = 8
	memoryEvery   = 200 * time.Millisecond
	// memoryBeside is what the broker may take beside its budgets.
	memoryBeside = 150e6
)

// memoryBudgets are the settings that say how much memory reading the tier may
// take, in bytes.
var memoryBudgets = []string{"remote.cache.bytes", "remote.log.index.file.cache.total.size.bytes"}

// memoryRows watch the broker's resident set while new consumers read a topic
// from MinIO that is many times what caches hold, over and over again.
func memoryRows(ctx context.Context, b *bench) error {
	t, err := b.startTier(ctx, nil)
	if err != nil {
		return err
	}
	defer t.end()
	ends, err := t.fillTier(ctx, "memory", memoryReplays, 64<<20, b.data)
	if err != nil {
		return err
	}
	budget, err := t.budget(ctx)
	if err != nil {
		return err
	}
	load := fetchLoad{Topic: "memory", Partitions: memoryReplays, Conns: memoryReplays, MaxBytes: 1 << 20, Ends: ends}
	var samples []sample
	r := row{Name: fmt.Sprintf("replay of %.0f GB by 8 consumers", b.readGB)}
	r, err = b.measured(ctx, t.process, r, func() (total result, err error) {
		sampling, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- t.watch(sampling, &samples) }()
		for float64(total.bytes) < b.readGB*1e9 && err == nil {
			var res result
			res, err = load.run(ctx, t.Kafka(), b.length)
			total.bytes += res.bytes
			total.requests += res.requests
			total.elapsed += res.elapsed
			total.took = append(total.took, res.took...)
		}
		stop()
		if e := <-done; err == nil {
			err = e
		}
		return total, err
	})
	if err != nil {
		return err
	}
	r.Note = fmt.Sprintf("%.2f of the bytes came from the store", 1-r.Cached)
	b.add(r)
	b.add(row{Name: "  RSS, the most", Value: r.PeakMB, Unit: "MB", Want: fmt.Sprintf("%.0f MB", (budget+memoryBeside)/1e6),
		Note: fmt.Sprintf("budgets %v: %.0f MB, and %.0f MB", memoryBudgets, budget/1e6, memoryBeside/1e6)})
	b.add(row{Name: "  RSS, growth over the second half", Value: slope(samples[len(samples)/2:]) * 60 / 1e6, Unit: "MB/min", Want: "flat"})
	return nil
}

// sample is a resident set at a time.
type sample struct{ seconds, bytes float64 }

// watch samples until ctx ends.
func (p *process) watch(ctx context.Context, to *[]sample) error {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for start := time.Now(); ; {
		now, _, err := p.memory()
		if err != nil {
			return err
		}
		*to = append(*to, sample{time.Since(start).Seconds(), float64(now)})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// slope is that of the line with the least squares, in bytes a second.
func slope(all []sample) float64 {
	var n, x, y, xx, xy float64
	for _, s := range all {
		n, x, y, xx, xy = n+1, x+s.seconds, y+s.bytes, xx+s.seconds*s.seconds, xy+s.seconds*s.bytes
	}
	if d := n*xx - x*x; d != 0 {
		return (n*xy - x*y) / d
	}
	return 0
}

// budget is what memoryBudgets are set to, together.
func (p *process) budget(ctx context.Context) (sum float64, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Kafka()))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	brokers, err := adm.ListBrokers(ctx)
	if err != nil {
		return 0, err
	}
	described, err := adm.DescribeBrokerConfigs(ctx, brokers.NodeIDs()...)
	if err != nil {
		return 0, err
	}
	for _, name := range memoryBudgets {
		found := false
		for _, c := range described[0].Configs {
			if c.Key == name {
				n, err := strconv.ParseFloat(c.MaybeValue(), 64)
				if err != nil {
					return 0, err
				}
				sum, found = sum+n, true
			}
		}
		if !found {
			return 0, fmt.Errorf("the broker has no setting %s", name)
		}
	}
	return sum, nil
}

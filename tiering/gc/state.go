package gc

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/metadata"
)

// state is what the collector keeps.
type state struct {
	mu      sync.Mutex
	round   int64
	marks   map[string]mark
	missing map[metadata.TopicIDPartition]int64 // objects the manifest names and the store does not have

	deleteRequests, deleteErrors, deletedObjs metric.Int64Counter
	deleted, aborted, failures, scrubbed, bad metric.Int64Counter
	orphans, lost                             metric.Int64Gauge
}

type mark struct {
	first time.Time // with the process's monotonic clock
	round int64     // last seen in
}

func (g *state) init(meter metric.Meter) error {
	g.marks, g.missing = map[string]mark{}, map[metadata.TopicIDPartition]int64{}
	var errs [10]error
	g.deleteRequests, errs[7] = meter.Int64Counter("coldbrook_remote_delete_requests", metric.WithUnit("1"), metric.WithDescription("Deletions from the remote store that were started."))
	g.deleteErrors, errs[8] = meter.Int64Counter("coldbrook_remote_delete_errors", metric.WithUnit("1"), metric.WithDescription("Deletions from the remote store that failed."))
	g.deletedObjs, errs[9] = meter.Int64Counter("coldbrook_remote_deleted_objects", metric.WithUnit("1"), metric.WithDescription("Objects deleted from the remote store."))
	g.deleted, errs[0] = meter.Int64Counter("coldbrook_remote_orphans_deleted", metric.WithUnit("1"), metric.WithDescription("Objects deleted because no manifest named them for the grace period."))
	g.aborted, errs[1] = meter.Int64Counter("coldbrook_remote_uploads_aborted", metric.WithUnit("1"), metric.WithDescription("Multipart uploads aborted because nobody had ended them for the grace period."))
	g.failures, errs[2] = meter.Int64Counter("coldbrook_remote_gc_errors", metric.WithUnit("1"), metric.WithDescription("Parts of the collection of orphans that failed."))
	g.orphans, errs[3] = meter.Int64Gauge("coldbrook_remote_orphans", metric.WithUnit("1"), metric.WithDescription("Objects and multipart uploads that no manifest names, older than the grace period, found by this broker's last round."))
	g.lost, errs[4] = meter.Int64Gauge("coldbrook_remote_missing_objects", metric.WithUnit("1"), metric.WithDescription("Objects that a manifest names and the store does not have, or has with another size, in this broker's partitions."))
	g.scrubbed, errs[5] = meter.Int64Counter("coldbrook_remote_scrub_bytes", metric.WithUnit("By"), metric.WithDescription("Bytes that the scrub in the background has read and checked."))
	g.bad, errs[6] = meter.Int64Counter("coldbrook_remote_bad_objects", metric.WithUnit("1"), metric.WithDescription("Objects that the scrub found missing or corrupt, repaired or not, each time it found them."))
	return errors.Join(errs[:]...)
}

// due marks something that is too much and says whether it was so for the grace period.
func (g *state) due(key string, modified, now time.Time, grace time.Duration) bool {
	if now.Sub(modified) < grace {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.marks[key]
	if !ok && len(g.marks) >= maxMarks {
		return false
	}
	if !ok || m.round < g.round-1 { // a round in between that did not see it begins the time again
		m.first = now
	}
	m.round = g.round
	g.marks[key] = m
	return now.Sub(m.first) >= grace
}

func (g *state) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.round++
}

// end forgets marks that count no more, and says how many are left.
func (g *state) end() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, m := range g.marks {
		if m.round < g.round {
			delete(g.marks, key)
		}
	}
	return len(g.marks)
}

func (g *state) unmark(keys ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range keys {
		delete(g.marks, k)
	}
}

// keepMissing forgets partitions that are not led any more.
func (g *state) keepMissing(led []Led) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for tip := range g.missing {
		if !slices.ContainsFunc(led, func(p Led) bool { return p.TopicIDPartition() == tip }) {
			delete(g.missing, tip)
		}
	}
}

// setMissing keeps how many objects a partition lacks and returns the sum.
func (g *state) setMissing(tip metadata.TopicIDPartition, n int64) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.missing, tip)
	if n > 0 {
		g.missing[tip] = n
	}
	return g.missingLocked()
}

func (g *state) missingLocked() int64 {
	var sum int64
	for _, n := range g.missing {
		sum += n
	}
	return sum
}

// found is how many orphans are marked, and how many named objects are missing.
func (g *state) found() (orphans int, missing int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.marks), g.missingLocked()
}

// show makes visible what has not happened yet.
func (g *state) show(ctx context.Context) {
	for _, c := range []metric.Int64Counter{g.deleteRequests, g.deleteErrors, g.deletedObjs, g.deleted, g.aborted, g.failures, g.scrubbed, g.bad} {
		c.Add(ctx, 0)
	}
	g.mu.Lock()
	missing := g.missingLocked()
	g.mu.Unlock()
	g.lost.Record(ctx, missing)
}

package tiering

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Collection of orphans: objects below topics/ that no reachable manifest names, and multipart uploads that nobody
// ends. A round compares LISTs with manifests and marks what is too much; a later round hands over what was marked
// for the grace period, and only then it goes.
//
// Nothing that may still be named can go, whatever clocks say, because of who deletes it:
//
//   - A partition's leader deletes in a pass of its own, which no copy runs beside. What it copied and did not commit
//     it knows. Before it deletes it swaps the pointer for itself: the swap holds only while its leader epoch does,
//     so whatever the LIST before it showed was written under this or an earlier epoch, and no commit that was sent
//     earlier can come to count after it.
//   - Of a partition without a leader the controller's broker deletes, after the same swap, what earlier leader
//     epochs wrote: etcd refuses their commits for ever.
//   - Of a topic that does not exist it deletes all, if an image read after the LIST shows neither the topic nor its
//     tombstone, and the folder has no topic.json: Purge removes that first, so a folder that has one is that of a
//     topic etcd has lost, which can be recovered.
//
// Age decides on top: Modified by the store's clock, and the time since this process first saw it too much by its own.
// A restart begins the second one again.

const (
	defaultSweep = 6 * time.Hour
	maxMarks     = 100_000 // of orphans remembered; more wait for a later round
	maxHandover  = 10_000  // orphans handed to one partition's leader at a time
)

// gcState is what the collector keeps.
type gcState struct {
	mu      sync.Mutex
	round   int64
	marks   map[string]mark
	missing map[metadata.TopicIDPartition]int64 // objects the manifest names and the store does not have

	deleted, aborted, failures, scrubbed, bad metric.Int64Counter
	orphans, lost                             metric.Int64Gauge
}

type mark struct {
	first time.Time // with the process's monotonic clock
	round int64     // last seen in
}

func (g *gcState) init(meter metric.Meter) error {
	g.marks, g.missing = map[string]mark{}, map[metadata.TopicIDPartition]int64{}
	var errs [7]error
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
func (g *gcState) due(key string, modified, now time.Time, grace time.Duration) bool {
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

func (g *gcState) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.round++
}

// end forgets marks that count no more, and says how many are left.
func (g *gcState) end() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, m := range g.marks {
		if m.round < g.round {
			delete(g.marks, key)
		}
	}
	return len(g.marks)
}

func (g *gcState) unmark(keys ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range keys {
		delete(g.marks, k)
	}
}

// setMissing keeps how many objects a partition lacks and returns the sum.
func (g *gcState) setMissing(tip metadata.TopicIDPartition, n int64) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.missing, tip)
	if n > 0 {
		g.missing[tip] = n
	}
	return g.missingLocked()
}

func (g *gcState) missingLocked() int64 {
	var sum int64
	for _, n := range g.missing {
		sum += n
	}
	return sum
}

// show makes visible what has not happened yet.
func (g *gcState) show(ctx context.Context) {
	for _, c := range []metric.Int64Counter{g.deleted, g.aborted, g.failures, g.scrubbed, g.bad} {
		c.Add(ctx, 0)
	}
	g.mu.Lock()
	missing := g.missingLocked()
	g.mu.Unlock()
	g.lost.Record(ctx, missing)
}

// sweepLoop makes rounds until ctx ends.
func (m *Manager) sweepLoop(ctx context.Context) {
	// The first one soon, since a mark takes a round: a broker that restarts daily collects, too.
	pause := m.o.Sweep / 16
	for bucket.Sleep(ctx, time.Duration(float64(pause)*(0.8+0.4*rand.Float64()))) {
		left, err := m.sweep(ctx)
		if err != nil && ctx.Err() == nil {
			m.log.Warn("collection of orphans incomplete", "err", err)
		}
		pause = m.o.Sweep
		if left > 0 { // what was marked need not wait for a whole interval more
			pause = min(pause, max(m.o.Grace, pause/8))
		}
	}
}

// sweep is one round: this broker's partitions, and, where it is the collector, what nobody leads. It returns how
// many orphans are marked.
func (m *Manager) sweep(ctx context.Context) (int, error) {
	m.gc.begin()
	var errs []error
	note := func(err error) {
		if err != nil && ctx.Err() == nil {
			m.gc.failures.Add(ctx, 1)
			errs = append(errs, err)
		}
	}
	uploads, err := m.oldUploads(ctx)
	note(err)
	for _, p := range m.snapshot() {
		note(m.sweepLed(ctx, p, uploads))
	}
	if m.o.Collector() {
		note(m.sweepRest(ctx, uploads))
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	left := m.gc.end()
	m.gc.orphans.Record(ctx, int64(left))
	return left, errors.Join(errs...)
}

// uploadMark is the mark of a multipart upload.
func uploadMark(u object.Upload) string { return u.Key + "\x00" + u.ID }

// oldUploads lists multipart uploads that were open for the grace period, by the partition's folder.
func (m *Manager) oldUploads(ctx context.Context) (map[string][]object.Upload, error) {
	out := map[string][]object.Upload{}
	now := time.Now()
	for u, err := range m.bucket.Store.Uploads(ctx, m.bucket.Prefix+manifest.TopicsDir) {
		if err != nil {
			return nil, bucket.Failed("list uploads", manifest.TopicsDir, err)
		}
		key := u.Key[len(m.bucket.Prefix):]
		if dir, _, n, ok := manifest.ParsePartitionKey(key); ok && n.Kind != manifest.KindForeign && m.gc.due(uploadMark(u), u.Initiated, now, m.o.Grace) {
			out[dir] = append(out[dir], u)
		}
	}
	return out, nil
}

// handover is what was found for a partition's leader to delete.
type handover struct {
	orphans []string // keys below the cluster's prefix
	uploads []object.Upload
}

// job is work on a partition's manifest that runs in a pass. It returns the manifest as it is afterwards.
type job func(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error)

// ask has a job done in the partition's next pass, and never if the leadership ends first. It never blocks.
func (m *Manager) ask(p *partition, l *leadership, j job) {
	p.mu.Lock()
	if p.leader == l {
		l.jobs = append(l.jobs, j)
		l.keepAt = time.Time{}
	}
	p.mu.Unlock()
	m.nudge()
}

// do has a job done in the partition's next pass and waits for it.
func (m *Manager) do(ctx context.Context, p *partition, l *leadership, j job) error {
	done := make(chan error, 1)
	m.ask(p, l, func(pass context.Context, man bucket.Manifest) (bucket.Manifest, error) {
		next, err := j(pass, man)
		done <- err
		return next, err
	})
	tick := time.NewTicker(m.o.Poll)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			p.mu.Lock()
			gone := p.leader != l && !p.busy
			p.mu.Unlock()
			if gone && len(done) == 0 {
				return ErrNotLeader
			}
		}
	}
}

// doJobs does what was asked for. A job that fails ends the pass; the others wait for the next.
func (m *Manager) doJobs(ctx context.Context, p *partition, l *leadership, man bucket.Manifest) (bucket.Manifest, error) {
	for {
		p.mu.Lock()
		if len(l.jobs) == 0 {
			p.mu.Unlock()
			return man, nil
		}
		j := l.jobs[0]
		l.jobs = l.jobs[1:]
		p.mu.Unlock()
		var err error
		if man, err = j(ctx, man); err != nil {
			return man, err
		}
	}
}

// sweepLed compares a led partition's folder with its manifest and hands what is due to the next pass.
func (m *Manager) sweepLed(ctx context.Context, p *partition, uploads map[string][]object.Upload) error {
	p.mu.Lock()
	l := p.leader
	ready := l != nil && l.loaded && !l.fenced
	p.mu.Unlock()
	if !ready {
		m.gc.setMissing(p.tip, 0)
		return nil
	}
	man, err := m.current(ctx, p, false)
	if err != nil {
		return err
	}
	dir := manifest.PartitionDir(l.topic, p.tip)
	h := handover{uploads: uploads[dir]}
	var lost []difference
	now := time.Now()
	for d, err := range m.audit(ctx, dir, m.bucket.Uncached(man)) {
		if err != nil {
			return err
		}
		switch d.kind {
		case unnamed:
			if m.gc.due(d.key, d.modified, now, m.o.Grace) && len(h.orphans) < maxHandover {
				h.orphans = append(h.orphans, d.key)
			}
		case missing, wrongSize:
			lost = append(lost, d)
		case foreign:
		}
	}
	m.gc.lost.Record(ctx, m.gc.setMissing(p.tip, m.confirmLost(ctx, p, lost)))
	if len(h.orphans)+len(h.uploads) == 0 {
		return nil
	}
	m.ask(p, l, func(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error) {
		return m.collectOrphans(ctx, p, l, man, h)
	})
	return nil
}

// confirmLost looks again at named objects that a LIST did not show, and says how many are really not there while
// the manifest still names them.
func (m *Manager) confirmLost(ctx context.Context, p *partition, lost []difference) (n int64) {
	for _, d := range lost {
		info, err := m.bucket.Store.Head(ctx, m.bucket.Prefix+d.key)
		if err == nil && info.Size == d.want || err != nil && !errors.Is(err, object.ErrNotFound) {
			continue
		}
		man, err := m.current(ctx, p, true) // a deposed leader's would be another
		if err != nil {
			continue
		}
		refs, err := m.references(ctx, man)
		if err != nil {
			continue
		}
		if there, err := refs.names(ctx, d.name); err != nil || !there || refs.waits(d.name) {
			continue
		}
		n++
		m.log.Error("an object that the manifest names is missing or has another size", "object", d.key, "size", info.Size, "want", d.want)
	}
	return n
}

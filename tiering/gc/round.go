package gc

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	maxMarks    = 100_000 // of orphans remembered; more wait for a later round
	maxHandover = 10_000  // orphans handed to one partition's leader at a time
)

// sweepLoop makes rounds until ctx ends.
func (c *Collector) sweepLoop(ctx context.Context) {
	// The first one soon, since a mark takes a round: a broker that restarts daily collects, too.
	pause := c.o.Sweep / 16
	for bucket.Sleep(ctx, time.Duration(float64(pause)*(0.8+0.4*rand.Float64()))) {
		left, err := c.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("collection of orphans incomplete", "err", err)
		}
		pause = c.o.Sweep
		if left > 0 { // what was marked need not wait for a whole interval more
			pause = min(pause, max(c.o.Grace, pause/8))
		}
	}
}

// Sweep is one round: this broker's partitions, and, where it is the collector, what nobody leads. It returns how
// many orphans are marked.
func (c *Collector) Sweep(ctx context.Context) (int, error) {
	c.state.begin()
	var errs []error
	note := func(err error) {
		if err != nil && ctx.Err() == nil {
			c.state.failures.Add(ctx, 1)
			errs = append(errs, err)
		}
	}
	uploads, err := c.oldUploads(ctx)
	note(err)
	led := c.o.Partitions.Led()
	c.state.keepMissing(led)
	for _, p := range led {
		note(c.sweepLed(ctx, p, uploads))
	}
	if c.o.Collector() {
		note(c.sweepRest(ctx, uploads))
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	left := c.state.end()
	c.state.orphans.Record(ctx, int64(left))
	return left, errors.Join(errs...)
}

// uploadMark is the mark of a multipart upload.
func uploadMark(u object.Upload) string { return u.Key + "\x00" + u.ID }

// oldUploads lists multipart uploads that were open for the grace period, by the partition's folder.
func (c *Collector) oldUploads(ctx context.Context) (map[string][]object.Upload, error) {
	out := map[string][]object.Upload{}
	now := time.Now()
	for u, err := range c.bucket.Store.Uploads(ctx, c.bucket.Prefix+manifest.TopicsDir) {
		if err != nil {
			return nil, bucket.Failed("list uploads", manifest.TopicsDir, err)
		}
		key := u.Key[len(c.bucket.Prefix):]
		if dir, _, n, ok := manifest.ParsePartitionKey(key); ok && n.Kind != manifest.KindForeign && c.state.due(uploadMark(u), u.Initiated, now, c.o.Grace) {
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

// sweepLed compares a led partition's folder with its manifest and hands what is due to the next pass.
func (c *Collector) sweepLed(ctx context.Context, p Led, uploads map[string][]object.Upload) error {
	tip := p.TopicIDPartition()
	if !p.Ready() {
		c.state.setMissing(tip, 0)
		return nil
	}
	man, err := c.o.Partitions.Current(ctx, tip, false)
	if err != nil {
		return err
	}
	dir := manifest.PartitionDir(p.Topic(), tip)
	h := handover{uploads: uploads[dir]}
	var lost []difference
	now := time.Now()
	for d, err := range c.audit(ctx, dir, c.bucket.Uncached(man)) {
		if err != nil {
			return err
		}
		switch d.kind {
		case unnamed:
			if c.state.due(d.key, d.modified, now, c.o.Grace) && len(h.orphans) < maxHandover {
				h.orphans = append(h.orphans, d.key)
			}
		case missing, wrongSize:
			lost = append(lost, d)
		case foreign:
		}
	}
	gone := c.confirmLost(ctx, tip, lost)
	c.state.lost.Record(ctx, c.state.setMissing(tip, gone))
	if gone > 0 { // what seems too much may be what is left of it
		h.orphans = nil
	}
	if len(h.orphans)+len(h.uploads) == 0 {
		return nil
	}
	p.Ask(func(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error) {
		return c.collectOrphans(ctx, p, man, h)
	})
	return nil
}

// confirmLost looks again at named objects that a LIST did not show, and says how many are really not there while
// the manifest still names them.
func (c *Collector) confirmLost(ctx context.Context, tip metadata.TopicIDPartition, lost []difference) (n int64) {
	for _, d := range lost {
		info, err := c.bucket.Head(ctx, d.key)
		if err == nil && info.Size == d.want || err != nil && !errors.Is(err, object.ErrNotFound) {
			continue
		}
		man, err := c.o.Partitions.Current(ctx, tip, true) // a deposed leader's would be another
		if err != nil {
			continue
		}
		refs, err := c.references(ctx, man)
		if err != nil {
			continue
		}
		if there, err := refs.names(ctx, d.name); err != nil || !there || refs.waits(d.name) {
			continue
		}
		n++
		c.log.Error("an object that the manifest names is missing or has another size", "object", d.key, "size", info.Size, "want", d.want)
	}
	return n
}

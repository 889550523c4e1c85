package gc

import (
	"context"
	"errors"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Collect deletes the objects of the garbage items whose time has come, but for former roots that are swept. It returns
// the indexes of the items that are wholly gone, and the errors of others, which stay on the list, and up to which time
// former roots are swept now. Deleting twice is no error, so a crash between a deletion and the commit that forgets it
// costs nothing.
func (c *Collector) Collect(ctx context.Context, man bucket.Manifest, swept int64, now time.Time) (done []int, sweptNow int64, err error) {
	sweptNow = swept
	for i := range man.Root.Garbage {
		g := &man.Root.Garbage[i]
		if g.NotBefore >= now.UnixMilli() { // it was cut to whole milliseconds
			continue
		}
		if g.IsSwept(swept) {
			done = append(done, i)
			continue
		}
		if derr := c.deleteItem(ctx, man, g); derr != nil {
			err = errors.Join(err, derr)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if g.Roots != nil {
			sweptNow = max(sweptNow, g.NotBefore)
		}
		done = append(done, i)
	}
	if err != nil {
		sweptNow = swept
	}
	return done, sweptNow, err
}

func (c *Collector) deleteItem(ctx context.Context, man bucket.Manifest, g *manifest.Garbage) error {
	switch {
	case g.Leaf != nil:
		return c.deleteRange(ctx, man, *g.Leaf)
	case g.Roots != nil:
		var keys []string
		for s := g.Roots.From; s < g.Roots.To && len(keys) < manifest.MaxDeadNames; s++ {
			keys = append(keys, manifest.NodeKey(man.Dir, manifest.RootName(g.Roots.LeaderEpoch, s)))
		}
		return c.bucket.Remove(ctx, keys)
	case len(g.Nodes) > 0:
		keys := make([]string, len(g.Nodes))
		for i, n := range g.Nodes {
			keys[i] = manifest.NodeKey(man.Dir, n)
		}
		return c.bucket.Remove(ctx, keys)
	default:
		keys := make([]string, 0, 2*len(g.Segments))
		for _, s := range g.Segments {
			keys = append(keys, manifest.OwnKeys(man.Dir, s)...)
		}
		return c.bucket.Remove(ctx, keys)
	}
}

// deleteRange deletes what left the manifest from one node: the segments first, the node last, so that what is
// left after a crash can still be found.
func (c *Collector) deleteRange(ctx context.Context, man bucket.Manifest, d manifest.DeadRange) error {
	node, err := man.Load(ctx, d.Ref)
	if errors.Is(err, manifest.ErrMissing) {
		return nil // deleted before, all that was below it first
	}
	if err != nil {
		return err
	}
	for _, ref := range node.Refs {
		if err := c.deleteRange(ctx, man, manifest.DeadRange{Ref: ref, From: ref.BaseOffset, To: ref.LastOffset + 1, Whole: d.Whole}); err != nil {
			return err
		}
	}
	var keys []string
	for i := range node.Entries {
		if e := &node.Entries[i]; d.Whole || e.BaseOffset >= d.From && e.BaseOffset < d.To {
			keys = append(keys, manifest.OwnKeys(man.Dir, e.Object)...)
		}
	}
	if err := c.bucket.Remove(ctx, keys); err != nil {
		return err
	}
	if !d.Whole {
		return nil
	}
	key := manifest.NodeKey(man.Dir, d.Ref.Object)
	c.bucket.Memo.Drop(key)
	return c.bucket.Remove(ctx, []string{key})
}

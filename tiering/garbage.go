package tiering

import (
	"context"
	"errors"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

const (
	removeLimit = 10 * time.Second
	stopLimit   = time.Second // removeLimit while stopping
)

// collect deletes the objects of the garbage items whose time has come. It returns the indexes of the items that
// are wholly gone, and the errors of others, which stay on the list. Deleting twice is no error, so a crash
// between a deletion and the commit that forgets it costs nothing.
func (m *Manager) collect(ctx context.Context, l *leadership, man bucket.Manifest, now time.Time) (done []int, err error) {
	swept := l.swept
	for i := range man.Root.Garbage {
		g := &man.Root.Garbage[i]
		if g.NotBefore >= now.UnixMilli() { // it was cut to whole milliseconds
			continue
		}
		if g.IsSwept(l.swept) {
			done = append(done, i)
			continue
		}
		if derr := m.deleteItem(ctx, man, g); derr != nil {
			err = errors.Join(err, derr)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if g.Roots != nil {
			swept = max(swept, g.NotBefore)
		}
		done = append(done, i)
	}
	if err == nil {
		l.swept = swept
	}
	return done, err
}

func (m *Manager) deleteItem(ctx context.Context, man bucket.Manifest, g *manifest.Garbage) error {
	switch {
	case g.Leaf != nil:
		return m.deleteRange(ctx, man, *g.Leaf)
	case g.Roots != nil:
		var keys []string
		for s := g.Roots.From; s < g.Roots.To && len(keys) < manifest.MaxDeadNames; s++ {
			keys = append(keys, manifest.NodeKey(man.Dir, manifest.RootName(g.Roots.LeaderEpoch, s)))
		}
		return m.bucket.Remove(ctx, keys)
	case len(g.Nodes) > 0:
		keys := make([]string, len(g.Nodes))
		for i, n := range g.Nodes {
			keys[i] = manifest.NodeKey(man.Dir, n)
		}
		return m.bucket.Remove(ctx, keys)
	default:
		keys := make([]string, 0, 2*len(g.Segments))
		for _, s := range g.Segments {
			keys = append(keys, owned(man.Dir, s)...)
		}
		return m.bucket.Remove(ctx, keys)
	}
}

// deleteRange deletes what left the manifest from one node: the segments first, the node last, so that what is
// left after a crash can still be found.
func (m *Manager) deleteRange(ctx context.Context, man bucket.Manifest, d manifest.DeadRange) error {
	node, err := man.Load(ctx, d.Ref)
	if errors.Is(err, manifest.ErrMissing) {
		return nil // deleted before, all that was below it first
	}
	if err != nil {
		return err
	}
	for _, ref := range node.Refs {
		if err := m.deleteRange(ctx, man, manifest.DeadRange{Ref: ref, From: ref.BaseOffset, To: ref.LastOffset + 1, Whole: d.Whole}); err != nil {
			return err
		}
	}
	var keys []string
	for i := range node.Entries {
		if e := &node.Entries[i]; d.Whole || e.BaseOffset >= d.From && e.BaseOffset < d.To {
			keys = append(keys, owned(man.Dir, e.Object)...)
		}
	}
	if err := m.bucket.Remove(ctx, keys); err != nil {
		return err
	}
	if !d.Whole {
		return nil
	}
	key := manifest.NodeKey(man.Dir, d.Ref.Object)
	m.bucket.Memo.Drop(key)
	return m.bucket.Remove(ctx, []string{key})
}

// owned returns the keys of an entry's two objects if they lie in the partition's own folder. Those of another
// topic are not this manifest's to delete.
func owned(dir, stem string) []string {
	keys := []string{manifest.SegmentKey(dir, stem, manifest.LogSuffix), manifest.SegmentKey(dir, stem, manifest.IndexSuffix)}
	if keys[0] != dir+manifest.SegmentsDir+stem+manifest.LogSuffix {
		return nil
	}
	return keys
}

// removePairs deletes copies no manifest will ever name. It is best effort and bounded, also when ctx has ended:
// what stays is an orphan for the collector.
func (m *Manager) removePairs(ctx context.Context, dir string, stems []string) {
	limit := removeLimit
	if ctx.Err() != nil {
		limit = stopLimit // somebody waits for the end of this broker
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var keys []string
	for _, s := range stems {
		keys = append(keys, owned(dir, s)...)
	}
	if err := m.bucket.Remove(ctx, keys); err != nil {
		m.log.Debug("aborted copy is left to the collector", "object", keys[0], "err", err)
	}
}

// worthForgetting says whether done has an item that is more than a former root.
func worthForgetting(items []manifest.Garbage, done []int) bool {
	for _, i := range done {
		if items[i].Roots == nil {
			return true
		}
	}
	return false
}

package gc

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// differenceKind is what is wrong between a partition's folder and its manifest.
type differenceKind int

const (
	unnamed   differenceKind = iota // an object that neither the manifest nor its garbage list names
	missing                         // an object that the manifest names and a LIST did not show
	wrongSize                       // an object that the manifest names with another size
	wrongSum                        // … or with another checksum; audit does not see that
	foreign                         // an object with a name that is not ours
)

// difference is one finding of audit.
type difference struct {
	kind     differenceKind
	key      string // below the cluster's prefix
	name     manifest.ObjectName
	size     int64
	modified time.Time
	want     int64           // size by the manifest
	entry    *manifest.Entry // of a segment that is missing or has another size
}

// references is what a manifest names, other than segments: those are looked up.
type references struct {
	man   bucket.Manifest
	nodes map[string]manifest.Ref // named and not waiting for deletion

	// Waiting for deletion: named by the garbage list.
	deadSegments map[string]bool
	deadNodes    map[string]bool
	deadRanges   []manifest.DeadRange
	deadRoots    []manifest.DeadRoots
}

// references reads the nodes above the leaves. man.root may be nil.
func (c *Collector) references(ctx context.Context, man bucket.Manifest) (*references, error) {
	r := &references{man: man, nodes: map[string]manifest.Ref{}, deadSegments: map[string]bool{}, deadNodes: map[string]bool{}}
	if man.Root == nil {
		return r, nil
	}
	live := func(ref manifest.Ref) { r.nodes[ref.Object] = ref }
	for _, ref := range man.Root.Refs {
		if err := man.EachNode(ctx, ref, live); err != nil {
			return nil, err
		}
	}
	for i := range man.Root.Garbage {
		g := &man.Root.Garbage[i]
		for _, s := range g.Segments {
			r.deadSegments[s] = true
		}
		for _, n := range g.Nodes {
			r.deadNodes[n] = true
		}
		if g.Roots != nil {
			r.deadRoots = append(r.deadRoots, *g.Roots)
		}
		if g.Leaf == nil {
			continue
		}
		r.deadRanges = append(r.deadRanges, *g.Leaf)
		r.deadNodes[g.Leaf.Ref.Object] = true // the deletion reads it; it may be live as well
		if g.Leaf.Whole {                     // some of it may be deleted already
			err := man.EachNode(ctx, g.Leaf.Ref, func(ref manifest.Ref) { r.deadNodes[ref.Object] = true })
			if err != nil && !errors.Is(err, manifest.ErrMissing) {
				return nil, err
			}
		}
	}
	return r, nil
}

// waits says whether the garbage list names the object, or may: it is the leader's to delete.
func (r *references) waits(n manifest.ObjectName) bool {
	switch n.Kind {
	case manifest.KindSegment:
		if r.deadSegments[n.Name] {
			return true
		}
		for _, d := range r.deadRanges {
			if n.Base >= d.From && n.Base < d.To {
				return true
			}
		}
	case manifest.KindNode:
		return r.deadNodes[n.Name]
	case manifest.KindRoot:
		for _, d := range r.deadRoots {
			if n.Epoch == d.LeaderEpoch && n.Sequence >= d.From && n.Sequence < d.To {
				return true
			}
		}
	case manifest.KindForeign:
	}
	return false
}

// names says whether the manifest or its garbage list names the object.
func (r *references) names(ctx context.Context, n manifest.ObjectName) (bool, error) {
	switch {
	case r.waits(n):
		return true, nil
	case r.man.Root == nil:
		return false, nil
	case n.Kind == manifest.KindRoot:
		return n.Name == manifest.RootName(r.man.Root.LeaderEpoch, r.man.Root.Sequence), nil
	case n.Kind == manifest.KindNode:
		_, ok := r.nodes[n.Name]
		return ok, nil
	}
	e, err := r.man.Find(ctx, n.Base)
	if errors.Is(err, manifest.ErrOffsetOutOfRange) {
		return false, nil
	}
	return err == nil && e.BaseOffset == n.Base && e.Object == n.Name, err
}

// audit compares a partition's folder with a manifest, in one LIST and one walk side by side: both are in the order
// of offsets, so memory does not grow with the partition. Differences may be of the moment between the two; who acts
// on one looks again. Objects of other topics that the manifest names are not looked at.
func (c *Collector) audit(ctx context.Context, dir string, man bucket.Manifest) iter.Seq2[difference, error] {
	return func(yield func(difference, error) bool) {
		refs, err := c.references(ctx, man)
		if err != nil {
			yield(difference{}, err)
			return
		}
		a := auditor{refs: refs, dir: dir, yield: yield, unseen: map[string]bool{}}
		for name := range refs.nodes {
			a.unseen[name] = true
		}
		next, stop := iter.Pull2(man.Entries(ctx, 0))
		defer stop()
		a.next = next
		if !a.advance() {
			return
		}
		for info, err := range c.bucket.List(ctx, dir) {
			if err != nil {
				yield(difference{}, err)
				return
			}
			if !a.object(info, info.Key) {
				return
			}
		}
		for a.entry != nil {
			if !a.leave() {
				return
			}
		}
		for name := range a.unseen {
			if !yield(difference{kind: missing, key: manifest.NodeKey(dir, name), name: manifest.ObjectName{Kind: manifest.KindNode, Name: name}, want: refs.nodes[name].Size}, nil) {
				return
			}
		}
	}
}

// Whole says whether the store has all that a manifest names from an offset on, and refuses with the first that it has
// not. Nothing of it comes from memory.
func (c *Collector) Whole(ctx context.Context, man bucket.Manifest, from int64) error {
	for d, err := range c.audit(ctx, man.Dir, c.bucket.Uncached(man)) {
		if err != nil {
			return err
		}
		lost := d.kind == missing || d.kind == wrongSize
		if lost && (d.entry == nil || d.entry.LastOffset >= from) && !wholeIn(ctx, c.bucket, d) {
			return &bucket.ObjectError{Op: "look for", Object: d.key, Err: manifest.ErrMissing}
		}
	}
	return nil
}

// wholeIn looks again for an object that a LIST did not show as it should be.
func wholeIn(ctx context.Context, in *bucket.Cluster, d difference) bool {
	info, err := in.Head(ctx, d.key)
	return err == nil && info.Size == d.want
}

// auditor is the state of one audit.
type auditor struct {
	refs     *references
	dir      string
	yield    func(difference, error) bool
	unseen   map[string]bool // named nodes not listed yet
	next     func() (*manifest.Entry, error, bool)
	entry    *manifest.Entry // whose objects are expected next, nil at the end
	log, idx bool            // which of them were seen
}

// advance goes to the next entry. It says whether to go on.
func (a *auditor) advance() bool {
	a.log, a.idx, a.entry = false, false, nil
	for {
		e, err, ok := a.next()
		switch {
		case !ok:
			return true
		case err != nil:
			a.yield(difference{}, err)
			return false
		case strings.Contains(e.Object, "/"):
			continue // another topic's
		}
		own := *e
		a.entry = &own
		return true
	}
}

// leave reports what was not seen of the current entry and goes to the next.
func (a *auditor) leave() bool {
	for _, o := range []struct {
		seen   bool
		suffix string
		size   int64
	}{{a.log, manifest.LogSuffix, a.entry.Bytes}, {a.idx, manifest.IndexSuffix, a.entry.IndexBytes}} {
		if o.seen {
			continue
		}
		key := manifest.SegmentKey(a.dir, a.entry.Object, o.suffix)
		d := difference{kind: missing, key: key, name: manifest.ParseName(key[len(a.dir):]), want: o.size, entry: a.entry}
		if !a.yield(d, nil) {
			return false
		}
	}
	return a.advance()
}

// object takes one listed object.
func (a *auditor) object(info object.Info, key string) bool {
	n := manifest.ParseName(strings.TrimPrefix(key, a.dir))
	d := difference{kind: unnamed, key: key, name: n, size: info.Size, modified: info.Modified}
	switch n.Kind {
	case manifest.KindForeign:
		d.kind = foreign
		return a.yield(d, nil)
	case manifest.KindRoot:
		if r := a.refs.man.Root; r != nil && n.Name == manifest.RootName(r.LeaderEpoch, r.Sequence) {
			return true
		}
	case manifest.KindNode:
		if ref, ok := a.refs.nodes[n.Name]; ok {
			delete(a.unseen, n.Name)
			return a.sized(d, ref.Size, nil)
		}
	case manifest.KindSegment:
		for a.entry != nil && a.entry.BaseOffset < n.Base {
			if !a.leave() {
				return false
			}
		}
		if a.entry != nil && a.entry.Object == n.Name {
			want := a.entry.Bytes
			if n.Index {
				a.idx, want = true, a.entry.IndexBytes
			} else {
				a.log = true
			}
			return a.sized(d, want, a.entry)
		}
	}
	return a.refs.waits(n) || a.yield(d, nil)
}

// sized reports a named object whose size is not the manifest's.
func (a *auditor) sized(d difference, want int64, e *manifest.Entry) bool {
	if d.size == want {
		return true
	}
	d.kind, d.want, d.entry = wrongSize, want, e
	return a.yield(d, nil)
}

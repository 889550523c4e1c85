package tiering

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

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
	name     objectName
	size     int64
	modified time.Time
	want     int64  // size by the manifest
	entry    *Entry // of a segment that is missing or has another size
}

// references is what a manifest names, other than segments: those are looked up.
type references struct {
	man   manifest
	nodes map[string]Ref // named and not waiting for deletion

	// Waiting for deletion: named by the garbage list.
	deadSegments map[string]bool
	deadNodes    map[string]bool
	deadRanges   []DeadRange
	deadRoots    []DeadRoots
}

// references reads the nodes above the leaves. man.root may be nil.
func (m *Manager) references(ctx context.Context, man manifest) (*references, error) {
	r := &references{man: man, nodes: map[string]Ref{}, deadSegments: map[string]bool{}, deadNodes: map[string]bool{}}
	if man.root == nil {
		return r, nil
	}
	live := func(ref Ref) { r.nodes[ref.Object] = ref }
	for _, ref := range man.root.Refs {
		if err := man.eachNode(ctx, ref, live); err != nil {
			return nil, err
		}
	}
	for i := range man.root.Garbage {
		g := &man.root.Garbage[i]
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
			err := man.eachNode(ctx, g.Leaf.Ref, func(ref Ref) { r.deadNodes[ref.Object] = true })
			if err != nil && !errors.Is(err, ErrMissing) {
				return nil, err
			}
		}
	}
	return r, nil
}

// eachNode tells of a node and all nodes below it.
func (t tree) eachNode(ctx context.Context, ref Ref, fn func(Ref)) error {
	fn(ref)
	if ref.Level == 1 {
		return nil
	}
	node, err := t.load(ctx, ref)
	if err != nil {
		return err
	}
	for _, below := range node.Refs {
		if err := t.eachNode(ctx, below, fn); err != nil {
			return err
		}
	}
	return nil
}

// waits says whether the garbage list names the object, or may: it is the leader's to delete.
func (r *references) waits(n objectName) bool {
	switch n.kind {
	case nameSegment:
		if r.deadSegments[n.name] {
			return true
		}
		for _, d := range r.deadRanges {
			if n.base >= d.From && n.base < d.To {
				return true
			}
		}
	case nameNode:
		return r.deadNodes[n.name]
	case nameRoot:
		for _, d := range r.deadRoots {
			if n.epoch == d.LeaderEpoch && n.sequence >= d.From && n.sequence < d.To {
				return true
			}
		}
	case nameForeign:
	}
	return false
}

// names says whether the manifest or its garbage list names the object.
func (r *references) names(ctx context.Context, n objectName) (bool, error) {
	switch {
	case r.waits(n):
		return true, nil
	case r.man.root == nil:
		return false, nil
	case n.kind == nameRoot:
		return n.name == rootName(r.man.root.LeaderEpoch, r.man.root.Sequence), nil
	case n.kind == nameNode:
		_, ok := r.nodes[n.name]
		return ok, nil
	}
	e, err := r.man.find(ctx, n.base)
	if errors.Is(err, ErrOffsetOutOfRange) {
		return false, nil
	}
	return err == nil && e.BaseOffset == n.base && e.Object == n.name, err
}

// audit compares a partition's folder with a manifest, in one LIST and one walk side by side: both are in the order
// of offsets, so memory does not grow with the partition. Differences may be of the moment between the two; who acts
// on one looks again. Objects of other topics that the manifest names are not looked at.
func (m *Manager) audit(ctx context.Context, dir string, man manifest) iter.Seq2[difference, error] {
	return func(yield func(difference, error) bool) {
		refs, err := m.references(ctx, man)
		if err != nil {
			yield(difference{}, err)
			return
		}
		a := auditor{refs: refs, dir: dir, yield: yield, unseen: map[string]bool{}}
		for name := range refs.nodes {
			a.unseen[name] = true
		}
		next, stop := iter.Pull2(man.entries(ctx))
		defer stop()
		a.next = next
		if !a.advance() {
			return
		}
		for info, err := range m.o.Store.List(ctx, m.prefix+dir, "") {
			if err != nil {
				yield(difference{}, named("list", dir, err))
				return
			}
			if !a.object(info, info.Key[len(m.prefix):]) {
				return
			}
		}
		for a.entry != nil {
			if !a.leave() {
				return
			}
		}
		for name := range a.unseen {
			if !yield(difference{kind: missing, key: nodeKey(dir, name), name: objectName{kind: nameNode, name: name}, want: refs.nodes[name].Size}, nil) {
				return
			}
		}
	}
}

// entries walks all live entries; none without a root.
func (man manifest) entries(ctx context.Context) iter.Seq2[*Entry, error] {
	if man.root == nil {
		return func(func(*Entry, error) bool) {}
	}
	return man.walk(ctx, 0, nil)
}

// auditor is the state of one audit.
type auditor struct {
	refs     *references
	dir      string
	yield    func(difference, error) bool
	unseen   map[string]bool // named nodes not listed yet
	next     func() (*Entry, error, bool)
	entry    *Entry // whose objects are expected next, nil at the end
	log, idx bool   // which of them were seen
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
	}{{a.log, logSuffix, a.entry.Bytes}, {a.idx, indexSuffix, a.entry.IndexBytes}} {
		if o.seen {
			continue
		}
		key := segmentKey(a.dir, a.entry.Object, o.suffix)
		d := difference{kind: missing, key: key, name: parseName(key[len(a.dir):]), want: o.size, entry: a.entry}
		if !a.yield(d, nil) {
			return false
		}
	}
	return a.advance()
}

// object takes one listed object.
func (a *auditor) object(info object.Info, key string) bool {
	n := parseName(strings.TrimPrefix(key, a.dir))
	d := difference{kind: unnamed, key: key, name: n, size: info.Size, modified: info.Modified}
	switch n.kind {
	case nameForeign:
		d.kind = foreign
		return a.yield(d, nil)
	case nameRoot:
		if r := a.refs.man.root; r != nil && n.name == rootName(r.LeaderEpoch, r.Sequence) {
			return true
		}
	case nameNode:
		if ref, ok := a.refs.nodes[n.name]; ok {
			delete(a.unseen, n.name)
			return a.sized(d, ref.Size, nil)
		}
	case nameSegment:
		for a.entry != nil && a.entry.BaseOffset < n.base {
			if !a.leave() {
				return false
			}
		}
		if a.entry != nil && a.entry.Object == n.name {
			want := a.entry.Bytes
			if n.index {
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
func (a *auditor) sized(d difference, want int64, e *Entry) bool {
	if d.size == want {
		return true
	}
	d.kind, d.want, d.entry = wrongSize, want, e
	return a.yield(d, nil)
}

// uncached is a manifest as it is in the store now: no node comes from memory, and none stays there.
func (m *Manager) uncached(man manifest) manifest {
	man.load = func(ctx context.Context, ref Ref) (*Node, error) {
		key := nodeKey(man.dir, ref.Object)
		b, err := m.getAll(ctx, key, ref.Size)
		if err != nil {
			return nil, err
		}
		n, err := DecodeNode(b, ref)
		if err == nil && man.root != nil && (n.TopicID != man.root.TopicID || n.Partition != man.root.Partition) {
			err = fmt.Errorf("node of another partition: %w", ErrCorrupt)
		}
		if err != nil {
			return nil, &ObjectError{Op: "read manifest", Object: key, Err: err}
		}
		return n, nil
	}
	return man
}

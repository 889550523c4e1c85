package manifest

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
)

// Tree is a root together with what loads its nodes: everything that looks things up in a manifest.
type Tree struct {
	Root *Root
	Load NodeSource
}

// Find returns the entry that holds offset, or ErrOffsetOutOfRange. Cost: a binary search at each level.
func (t Tree) Find(ctx context.Context, offset int64) (*Entry, error) {
	r := t.Root
	if offset < r.StartOffset || offset >= r.EndOffset {
		return nil, fmt.Errorf("offset %d, tier holds %d to %d: %w", offset, r.StartOffset, r.EndOffset-1, ErrOffsetOutOfRange)
	}
	refs, entries := r.Refs, r.Tail
	for {
		i := sort.Search(len(refs), func(i int) bool { return refs[i].LastOffset >= offset })
		if i == len(refs) {
			break
		}
		node, err := t.Load(ctx, refs[i])
		if err != nil {
			return nil, err
		}
		refs, entries = node.Refs, node.Entries
	}
	i := sort.Search(len(entries), func(i int) bool { return entries[i].LastOffset >= offset })
	if i == len(entries) {
		return nil, fmt.Errorf("no entry holds offset %d of %d to %d: %w", offset, r.StartOffset, r.EndOffset-1, ErrCorrupt)
	}
	return &entries[i], nil
}

// Walk yields the live entries from the one that holds from on, oldest first. skip may refuse a whole node by
// its reference, so that a search need not load it.
func (t Tree) Walk(ctx context.Context, from int64, skip func(Ref) bool) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		from = max(from, t.Root.StartOffset)
		if t.walkRefs(ctx, t.Root.Refs, from, skip, yield) {
			walkEntries(t.Root.Tail, from, yield)
		}
	}
}

func (t Tree) walkRefs(ctx context.Context, refs []Ref, from int64, skip func(Ref) bool, yield func(*Entry, error) bool) bool {
	first := sort.Search(len(refs), func(i int) bool { return refs[i].LastOffset >= from })
	for _, ref := range refs[first:] {
		if skip != nil && skip(ref) {
			continue
		}
		node, err := t.Load(ctx, ref)
		if err != nil {
			yield(nil, err)
			return false
		}
		if !t.walkRefs(ctx, node.Refs, from, skip, yield) || !walkEntries(node.Entries, from, yield) {
			return false
		}
	}
	return true
}

func walkEntries(entries []Entry, from int64, yield func(*Entry, error) bool) bool {
	first := sort.Search(len(entries), func(i int) bool { return entries[i].LastOffset >= from })
	for i := first; i < len(entries); i++ {
		if !yield(&entries[i], nil) {
			return false
		}
	}
	return true
}

// FindTime returns the first entry whose highest timestamp is at least ts; nil when there is none.
func (t Tree) FindTime(ctx context.Context, ts, from int64) (*Entry, error) {
	for e, err := range t.Walk(ctx, from, func(r Ref) bool { return r.MaxTimestamp < ts }) {
		if err != nil {
			return nil, err
		}
		if e.MaxTimestamp >= ts {
			return e, nil
		}
	}
	return nil, nil
}

// MaxTimestamp returns the first live entry, of those that begin at offset from or behind it, that has the highest timestamp; nil when
// there is none. It reads one node a level, and more only where entries before from have the highest timestamp.
func (t Tree) MaxTimestamp(ctx context.Context, from int64) (*Entry, error) {
	return t.newest(ctx, t.Root.Refs, t.Root.Tail, max(from, t.Root.StartOffset), nil)
}

func (t Tree) newest(ctx context.Context, refs []Ref, entries []Entry, from int64, best *Entry) (*Entry, error) {
	for i := range entries {
		if e := &entries[i]; e.BaseOffset >= from && Newer(e.MaxTimestamp, e.BaseOffset, best) {
			best = e
		}
	}
	// The most promising first: it mostly decides, and the others need not be read.
	refs = slices.DeleteFunc(slices.Clone(refs), func(r Ref) bool { return r.LastOffset < from })
	slices.SortFunc(refs, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(b.MaxTimestamp, a.MaxTimestamp), cmp.Compare(a.BaseOffset, b.BaseOffset))
	})
	for _, ref := range refs {
		if !Newer(ref.MaxTimestamp, ref.BaseOffset, best) {
			continue
		}
		node, err := t.Load(ctx, ref)
		if err != nil {
			return nil, err
		}
		if best, err = t.newest(ctx, node.Refs, node.Entries, from, best); err != nil {
			return nil, err
		}
	}
	return best, nil
}

// NewestAround is the highest timestamp of what the root names that holds offset: at least that of the offset's entry.
func (t Tree) NewestAround(offset int64) int64 {
	if i := sort.Search(len(t.Root.Refs), func(i int) bool { return t.Root.Refs[i].LastOffset >= offset }); i < len(t.Root.Refs) {
		return t.Root.Refs[i].MaxTimestamp
	}
	if i := sort.Search(len(t.Root.Tail), func(i int) bool { return t.Root.Tail[i].LastOffset >= offset }); i < len(t.Root.Tail) {
		return t.Root.Tail[i].MaxTimestamp
	}
	return -1 << 62
}

// Newer says whether what has the timestamp ts and starts at base comes before best.
func Newer(ts, base int64, best *Entry) bool {
	return best == nil || ts > best.MaxTimestamp || ts == best.MaxTimestamp && base < best.BaseOffset
}

// Measure returns the entry that holds offset, the bytes of all entries after it, and the largest timestamp of what
// is known just before it, -1 for nothing.
func (t Tree) Measure(ctx context.Context, offset int64) (entry *Entry, after, before int64, err error) {
	before = -1
	refs, entries := t.Root.Refs, t.Root.Tail
	for {
		i := sort.Search(len(refs), func(i int) bool { return refs[i].LastOffset >= offset })
		if i > 0 {
			before = refs[i-1].MaxTimestamp
		}
		if i == len(refs) {
			break
		}
		for _, r := range refs[i+1:] {
			after += r.Bytes
		}
		for _, e := range entries { // a root's tail lies behind its references
			after += e.Bytes
		}
		node, err := t.Load(ctx, refs[i])
		if err != nil {
			return nil, 0, -1, err
		}
		refs, entries = node.Refs, node.Entries
	}
	if entry, err = t.Find(ctx, offset); err != nil {
		return nil, 0, -1, err
	}
	for i := range entries {
		switch e := &entries[i]; {
		case e.BaseOffset > entry.LastOffset:
			after += e.Bytes
		case e.LastOffset < entry.BaseOffset:
			before = e.MaxTimestamp
		}
	}
	return entry, after, before, nil
}

// EachNode tells of a node and all nodes below it.
func (t Tree) EachNode(ctx context.Context, ref Ref, fn func(Ref)) error {
	fn(ref)
	if ref.Level == 1 {
		return nil
	}
	node, err := t.Load(ctx, ref)
	if err != nil {
		return err
	}
	for _, below := range node.Refs {
		if err := t.EachNode(ctx, below, fn); err != nil {
			return err
		}
	}
	return nil
}

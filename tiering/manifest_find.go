package tiering

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
)

// tree is a root together with what loads its nodes: everything that looks things up in a manifest.
type tree struct {
	root *Root
	load nodeSource
}

// find returns the entry that holds offset, or ErrOffsetOutOfRange. Cost: a binary search at each level.
func (t tree) find(ctx context.Context, offset int64) (*Entry, error) {
	r := t.root
	if offset < r.StartOffset || offset >= r.EndOffset {
		return nil, fmt.Errorf("offset %d, tier holds %d to %d: %w", offset, r.StartOffset, r.EndOffset-1, ErrOffsetOutOfRange)
	}
	refs, entries := r.Refs, r.Tail
	for {
		i := sort.Search(len(refs), func(i int) bool { return refs[i].LastOffset >= offset })
		if i == len(refs) {
			break
		}
		node, err := t.load(ctx, refs[i])
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

// walk yields the live entries from the one that holds from on, oldest first. skip may refuse a whole node by
// its reference, so that a search need not load it.
func (t tree) walk(ctx context.Context, from int64, skip func(Ref) bool) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		from = max(from, t.root.StartOffset)
		if t.walkRefs(ctx, t.root.Refs, from, skip, yield) {
			walkEntries(t.root.Tail, from, yield)
		}
	}
}

func (t tree) walkRefs(ctx context.Context, refs []Ref, from int64, skip func(Ref) bool, yield func(*Entry, error) bool) bool {
	first := sort.Search(len(refs), func(i int) bool { return refs[i].LastOffset >= from })
	for _, ref := range refs[first:] {
		if skip != nil && skip(ref) {
			continue
		}
		node, err := t.load(ctx, ref)
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

// findTime returns the first entry whose highest timestamp is at least ts; nil when there is none.
func (t tree) findTime(ctx context.Context, ts, from int64) (*Entry, error) {
	for e, err := range t.walk(ctx, from, func(r Ref) bool { return r.MaxTimestamp < ts }) {
		if err != nil {
			return nil, err
		}
		if e.MaxTimestamp >= ts {
			return e, nil
		}
	}
	return nil, nil
}

// maxTimestamp returns the first live entry, of those that begin at offset from or behind it, that has the highest timestamp; nil when
// there is none. It reads one node a level, and more only where entries before from have the highest timestamp.
func (t tree) maxTimestamp(ctx context.Context, from int64) (*Entry, error) {
	return t.newest(ctx, t.root.Refs, t.root.Tail, max(from, t.root.StartOffset), nil)
}

func (t tree) newest(ctx context.Context, refs []Ref, entries []Entry, from int64, best *Entry) (*Entry, error) {
	for i := range entries {
		if e := &entries[i]; e.BaseOffset >= from && newer(e.MaxTimestamp, e.BaseOffset, best) {
			best = e
		}
	}
	// The most promising first: it mostly decides, and the others need not be read.
	refs = slices.DeleteFunc(slices.Clone(refs), func(r Ref) bool { return r.LastOffset < from })
	slices.SortFunc(refs, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(b.MaxTimestamp, a.MaxTimestamp), cmp.Compare(a.BaseOffset, b.BaseOffset))
	})
	for _, ref := range refs {
		if !newer(ref.MaxTimestamp, ref.BaseOffset, best) {
			continue
		}
		node, err := t.load(ctx, ref)
		if err != nil {
			return nil, err
		}
		if best, err = t.newest(ctx, node.Refs, node.Entries, from, best); err != nil {
			return nil, err
		}
	}
	return best, nil
}

// newestAround is the highest timestamp of what the root names that holds offset: at least that of the offset's entry.
func (t tree) newestAround(offset int64) int64 {
	if i := sort.Search(len(t.root.Refs), func(i int) bool { return t.root.Refs[i].LastOffset >= offset }); i < len(t.root.Refs) {
		return t.root.Refs[i].MaxTimestamp
	}
	if i := sort.Search(len(t.root.Tail), func(i int) bool { return t.root.Tail[i].LastOffset >= offset }); i < len(t.root.Tail) {
		return t.root.Tail[i].MaxTimestamp
	}
	return -1 << 62
}

// newer says whether what has the timestamp ts and starts at base comes before best.
func newer(ts, base int64, best *Entry) bool {
	return best == nil || ts > best.MaxTimestamp || ts == best.MaxTimestamp && base < best.BaseOffset
}

package tiering

import (
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

// maxTimestamp returns the first live entry that has the highest timestamp; nil for an empty tier.
func (t tree) maxTimestamp(ctx context.Context) (*Entry, error) {
	var best *Entry
	for i := range t.root.Tail {
		if e := &t.root.Tail[i]; best == nil || e.MaxTimestamp > best.MaxTimestamp {
			best = e
		}
	}
	// From the node with the highest timestamp on: the first live entry found that reaches it wins. A trimmed
	// leaf may have lost its highest entry, so the search goes on with what is left.
	refs := slices.Clone(t.root.Refs)
	slices.SortStableFunc(refs, func(a, b Ref) int {
		if a.MaxTimestamp != b.MaxTimestamp {
			if a.MaxTimestamp > b.MaxTimestamp {
				return -1
			}
			return 1
		}
		return 0
	})
	for _, ref := range refs {
		if best != nil && (ref.MaxTimestamp < best.MaxTimestamp || ref.MaxTimestamp == best.MaxTimestamp && ref.BaseOffset > best.BaseOffset) {
			continue
		}
		sub := tree{root: &Root{StartOffset: t.root.StartOffset, Refs: []Ref{ref}}, load: t.load}
		floor := int64(-1 << 62)
		for e, err := range sub.walk(ctx, ref.BaseOffset, func(r Ref) bool { return r.MaxTimestamp <= floor }) {
			if err != nil {
				return nil, err
			}
			if e.MaxTimestamp > floor {
				floor = e.MaxTimestamp
				if best == nil || floor > best.MaxTimestamp || floor == best.MaxTimestamp && e.BaseOffset < best.BaseOffset {
					best = e
				}
			}
			if floor == ref.MaxTimestamp {
				break
			}
		}
	}
	return best, nil
}

package tiering

import (
	"context"
	"slices"
)

// reservedGarbage keeps room on the garbage list for former roots, which every commit adds.
const reservedGarbage = 32

// dropBefore takes out the entries that end before start, oldest first, and puts their objects on the garbage
// list. When the list is full it stops early: the rest follows once the list is worked off. It says whether
// anything was dropped.
func (e *edit) dropBefore(ctx context.Context, start int64) (bool, error) {
	r := &e.next
	dropped := false
	for len(r.Refs) > 0 && r.Refs[0].BaseOffset < start {
		ref := r.Refs[0]
		switch {
		case ref.LastOffset < start:
			if !e.buryLeaf(DeadRange{Ref: ref, From: r.StartOffset, To: ref.LastOffset + 1, Whole: true}) {
				return dropped, nil
			}
			r.Refs = r.Refs[1:]
			e.take(ref.Segments-r.Trimmed.Segments, ref.Bytes-r.Trimmed.Bytes, ref.LastOffset+1)
			r.Trimmed = Trimmed{}
			dropped = true
		case ref.Level > 1:
			node, err := e.node(ctx, ref)
			if err != nil {
				return dropped, err
			}
			if len(r.Refs)+nodeRefs > maxRefs || !e.buryNode(ref.Object) {
				return dropped, nil
			}
			r.Refs = slices.Concat(node.Refs, r.Refs[1:])
		default:
			done, err := e.trimLeaf(ctx, ref, start)
			return dropped || done, err
		}
	}
	if len(r.Refs) > 0 {
		return dropped, nil
	}
	n := 0
	for n < len(r.Tail) && r.Tail[n].LastOffset < start && e.burySegment(r.Tail[n].Object) {
		e.take(1, r.Tail[n].Bytes, r.Tail[n].LastOffset+1)
		n++
	}
	r.Tail = r.Tail[n:]
	return dropped || n > 0, nil
}

// trimLeaf drops the first entries of a leaf that keeps others. The leaf itself stays.
func (e *edit) trimLeaf(ctx context.Context, ref Ref, start int64) (bool, error) {
	r := &e.next
	leaf, err := e.node(ctx, ref)
	if err != nil {
		return false, err
	}
	from, to := r.StartOffset, r.StartOffset
	var gone Trimmed
	for i := range leaf.Entries {
		entry := &leaf.Entries[i]
		if entry.BaseOffset < from {
			continue
		}
		if entry.LastOffset >= start {
			break
		}
		to = entry.LastOffset + 1
		gone.Segments++
		gone.Bytes += entry.Bytes
	}
	if gone.Segments == 0 || !e.buryLeaf(DeadRange{Ref: ref, From: from, To: to}) {
		return false, nil
	}
	r.Trimmed.Segments += gone.Segments
	r.Trimmed.Bytes += gone.Bytes
	e.take(gone.Segments, gone.Bytes, to)
	return true, nil
}

func (e *edit) take(segments, bytes, start int64) {
	r := &e.next
	r.Segments -= segments
	r.Bytes -= bytes
	r.StartOffset = start
	r.Epochs = r.Epochs.trim(start)
}

func (e *edit) room() bool { return len(e.next.Garbage) < maxGarbage-reservedGarbage }

func (e *edit) deadNames() int {
	n := 0
	for i := range e.next.Garbage {
		n += len(e.next.Garbage[i].Segments) + len(e.next.Garbage[i].Nodes)
	}
	return n
}

// last returns the index of the newest item that match accepts, -1 for none.
func (e *edit) last(match func(*Garbage) bool) int {
	for i := len(e.next.Garbage) - 1; i >= 0; i-- {
		if match(&e.next.Garbage[i]) {
			return i
		}
	}
	return -1
}

func (e *edit) bury(g Garbage) { e.next.Garbage = append(e.next.Garbage, g) }

func (e *edit) burySegment(stem string) bool {
	i := e.last(func(g *Garbage) bool { return len(g.Segments) > 0 && g.NotBefore == e.notBefore })
	switch {
	case e.deadNames() >= maxDeadNames, i < 0 && !e.room():
		return false
	case i < 0:
		e.bury(Garbage{NotBefore: e.notBefore, Segments: []string{stem}})
	default:
		e.next.Garbage[i].Segments = append(slices.Clip(e.next.Garbage[i].Segments), stem)
	}
	return true
}

func (e *edit) buryNode(name string) bool {
	i := e.last(func(g *Garbage) bool { return len(g.Nodes) > 0 && g.NotBefore == e.notBefore })
	switch {
	case e.deadNames() >= maxDeadNames, i < 0 && !e.room():
		return false
	case i < 0:
		e.bury(Garbage{NotBefore: e.notBefore, Nodes: []string{name}})
	default:
		e.next.Garbage[i].Nodes = append(slices.Clip(e.next.Garbage[i].Nodes), name)
	}
	return true
}

func (e *edit) buryLeaf(d DeadRange) bool {
	i := e.last(func(g *Garbage) bool { return g.Leaf != nil && g.Leaf.Ref.Object == d.Ref.Object })
	// An item is extended when its time is the same, or when there is no room: later is always safe.
	if i >= 0 && e.next.Garbage[i].Leaf.To == d.From && (e.next.Garbage[i].NotBefore == e.notBefore || !e.room()) {
		d.From = e.next.Garbage[i].Leaf.From
		e.next.Garbage[i] = Garbage{NotBefore: e.notBefore, Leaf: &d}
		return true
	}
	if !e.room() {
		return false
	}
	e.bury(Garbage{NotBefore: e.notBefore, Leaf: &d})
	return true
}

// buryRoots lists former roots of one epoch. When the list is full they are left to the collector of orphans.
func (e *edit) buryRoots(d DeadRoots) {
	if d.To <= d.From {
		return
	}
	i := e.last(func(g *Garbage) bool { return g.Roots != nil })
	full := len(e.next.Garbage) >= maxGarbage
	if i >= 0 {
		g := e.next.Garbage[i]
		if g.Roots.LeaderEpoch == d.LeaderEpoch && g.Roots.To == d.From && (g.NotBefore == e.notBefore || full) {
			d.From = g.Roots.From
			e.next.Garbage[i] = Garbage{NotBefore: e.notBefore, Roots: &d}
			return
		}
	}
	if !full {
		e.bury(Garbage{NotBefore: e.notBefore, Roots: &d})
	}
}

// forget removes the items at the given indexes, which must rise: their objects are deleted.
func (e *edit) forget(indexes []int) {
	for n := len(indexes) - 1; n >= 0; n-- {
		e.next.Garbage = slices.Delete(e.next.Garbage, indexes[n], indexes[n]+1)
	}
}

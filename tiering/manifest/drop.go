package manifest

import (
	"context"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// reservedGarbage keeps room on the garbage list for former roots, which every commit adds.
const reservedGarbage = 32

// DropBefore takes out the entries that end before start, oldest first, and puts their objects on the garbage
// list. When the list is full it stops early: the rest follows once the list is worked off. It says whether
// anything was dropped.
func (e *Edit) DropBefore(ctx context.Context, start int64) (bool, error) {
	r := &e.Next
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
func (e *Edit) trimLeaf(ctx context.Context, ref Ref, start int64) (bool, error) {
	r := &e.Next
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

func (e *Edit) take(segments, bytes, start int64) {
	r := &e.Next
	r.Segments -= segments
	r.Bytes -= bytes
	r.StartOffset = start
	r.Epochs = r.Epochs.trim(start)
}

func (e *Edit) room() bool { return len(e.Next.Garbage) < maxGarbage-reservedGarbage }

func (e *Edit) deadNames() int {
	n := 0
	for i := range e.Next.Garbage {
		n += len(e.Next.Garbage[i].Segments) + len(e.Next.Garbage[i].Nodes)
	}
	return n
}

// last returns the index of the newest item that match accepts, -1 for none.
func (e *Edit) last(match func(*Garbage) bool) int {
	for i := len(e.Next.Garbage) - 1; i >= 0; i-- {
		if match(&e.Next.Garbage[i]) {
			return i
		}
	}
	return -1
}

func (e *Edit) bury(g Garbage) { e.Next.Garbage = append(e.Next.Garbage, g) }

func (e *Edit) burySegment(stem string) bool {
	i := e.last(func(g *Garbage) bool { return len(g.Segments) > 0 && g.NotBefore == e.notBefore })
	switch {
	case e.deadNames() >= MaxDeadNames, i < 0 && !e.room():
		return false
	case i < 0:
		e.bury(Garbage{NotBefore: e.notBefore, Segments: []string{stem}})
	default:
		e.Next.Garbage[i].Segments = append(slices.Clip(e.Next.Garbage[i].Segments), stem)
	}
	return true
}

func (e *Edit) buryNode(name string) bool {
	i := e.last(func(g *Garbage) bool { return len(g.Nodes) > 0 && g.NotBefore == e.notBefore })
	switch {
	case e.deadNames() >= MaxDeadNames, i < 0 && !e.room():
		return false
	case i < 0:
		e.bury(Garbage{NotBefore: e.notBefore, Nodes: []string{name}})
	default:
		e.Next.Garbage[i].Nodes = append(slices.Clip(e.Next.Garbage[i].Nodes), name)
	}
	return true
}

func (e *Edit) buryLeaf(d DeadRange) bool {
	i := e.last(func(g *Garbage) bool { return g.Leaf != nil && g.Leaf.Ref.Object == d.Ref.Object })
	// An item is extended when its time is the same, or when there is no room: later is always safe.
	if i >= 0 && e.Next.Garbage[i].Leaf.To == d.From && (e.Next.Garbage[i].NotBefore == e.notBefore || !e.room()) {
		d.From = e.Next.Garbage[i].Leaf.From
		e.Next.Garbage[i] = Garbage{NotBefore: e.notBefore, Leaf: &d}
		return true
	}
	if !e.room() {
		return false
	}
	e.bury(Garbage{NotBefore: e.notBefore, Leaf: &d})
	return true
}

// buryRoots lists former roots of one epoch. When the list is full they are left to the collector of orphans.
func (e *Edit) buryRoots(d DeadRoots) {
	if d.To <= d.From {
		return
	}
	i := e.last(func(g *Garbage) bool { return g.Roots != nil })
	full := len(e.Next.Garbage) >= maxGarbage
	if i >= 0 {
		g := e.Next.Garbage[i]
		if g.Roots.LeaderEpoch == d.LeaderEpoch && g.Roots.To == d.From && (g.NotBefore == e.notBefore || full) {
			d.From = g.Roots.From
			e.Next.Garbage[i] = Garbage{NotBefore: e.notBefore, Roots: &d}
			return
		}
	}
	if !full {
		e.bury(Garbage{NotBefore: e.notBefore, Roots: &d})
	}
}

// Forget removes the items at the given indexes, which must rise: their objects are deleted.
func (e *Edit) Forget(indexes []int) {
	for n := len(indexes) - 1; n >= 0; n-- {
		e.Next.Garbage = slices.Delete(e.Next.Garbage, indexes[n], indexes[n]+1)
	}
}

// guessedRoots is how many names past an earlier leader's last root are deleted unseen: roots it PUT and could not
// commit. More than that are left to the collector of orphans.
const guessedRoots = 4

// BuryFormer lists the root that this one replaces, and the names in between that failed attempts may have used.
func (e *Edit) BuryFormer(old metadata.RemotePointer) {
	r := &e.Next
	switch {
	case old.Manifest == "":
		e.buryRoots(DeadRoots{LeaderEpoch: r.LeaderEpoch, From: 1, To: r.Sequence})
	case old.LeaderEpoch == r.LeaderEpoch:
		e.buryRoots(DeadRoots{LeaderEpoch: r.LeaderEpoch, From: old.Sequence, To: r.Sequence})
	default:
		// The old epoch is fenced: nothing it PUT later can become the manifest.
		e.buryRoots(DeadRoots{LeaderEpoch: old.LeaderEpoch, From: old.Sequence, To: old.Sequence + 1 + guessedRoots})
		e.buryRoots(DeadRoots{LeaderEpoch: r.LeaderEpoch, From: old.Sequence + 1, To: r.Sequence})
	}
}

// GiveUp empties the manifest, which begins and ends at start then. It is all or nothing: a part of a tier that lies
// in the middle of the local log could not be continued.
func (e *Edit) GiveUp(ctx context.Context, start int64) error {
	r := &e.Next
	if _, err := e.DropBefore(ctx, r.EndOffset); err != nil {
		return err
	}
	if r.Segments > 0 {
		return ErrNoRoom
	}
	r.StartOffset, r.EndOffset, r.Epochs = start, start, nil
	return nil
}

// IsSwept says whether the item is former roots that were deleted under this leadership. They stay listed until
// some commit is made for another reason: a commit of its own would leave another former root behind.
func (g *Garbage) IsSwept(swept int64) bool { return g.Roots != nil && g.NotBefore <= swept }

// SweptItems returns the indexes of the items that are swept.
func SweptItems(items []Garbage, swept int64) []int {
	var out []int
	for i := range items {
		if items[i].IsSwept(swept) {
			out = append(out, i)
		}
	}
	return out
}

// WorthForgetting says whether done has an item that is more than a former root.
func WorthForgetting(items []Garbage, done []int) bool {
	for _, i := range done {
		if items[i].Roots == nil {
			return true
		}
	}
	return false
}

package manifest

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// NodeSource returns the node a reference stands for.
type NodeSource func(ctx context.Context, ref Ref) (*Node, error)

// SealedNode is a node made by an edit that must be PUT before the root that refers to it.
type SealedNode struct {
	Name string
	Node *Node
	Ref  Ref
	Body []byte
}

// Edit builds the successor of a root. It never changes the root it started from.
type Edit struct {
	Next  Root
	Nodes []SealedNode
	Load  NodeSource
	// notBefore is when garbage of this edit may be deleted, in Unix milliseconds.
	notBefore int64
}

// quantum is the step to which garbage times are rounded up, so that the garbage of frequent commits shares items.
func quantum(grace time.Duration) time.Duration { return max(grace/8, time.Millisecond) }

// NewEdit begins the successor of a root at a time now. What it takes out may be deleted after the grace period.
func NewEdit(r *Root, load NodeSource, now time.Time, grace time.Duration) *Edit {
	e := &Edit{Next: *r, Load: load}
	e.Next.Refs = slices.Clone(r.Refs)
	e.Next.Tail = slices.Clone(r.Tail)
	e.Next.Garbage = slices.Clone(r.Garbage) // items are replaced, never changed in place
	q := quantum(grace).Milliseconds()
	e.notBefore = (now.Add(grace).UnixMilli() + q - 1) / q * q
	e.Next.Created = now.UnixMilli()
	return e
}

// Delay has nothing that is on the list of deletions so far go before a grace period from now.
func (e *Edit) Delay() {
	for i := range e.Next.Garbage {
		e.Next.Garbage[i].NotBefore = max(e.Next.Garbage[i].NotBefore, e.notBefore)
	}
}

// Add appends an entry, which must start at EndOffset. A root without entries may start anywhere at or above it.
func (e *Edit) Add(ctx context.Context, entry Entry) error {
	r := &e.Next
	if r.Segments == 0 && entry.BaseOffset >= r.EndOffset {
		r.StartOffset, r.EndOffset, r.Epochs = entry.BaseOffset, entry.BaseOffset, nil
	}
	if entry.BaseOffset != r.EndOffset {
		return fmt.Errorf("entry of offsets %d to %d, manifest ends at %d: %w", entry.BaseOffset, entry.LastOffset, r.EndOffset, ErrDiverged)
	}
	if err := entry.validate(); err != nil {
		return err
	}
	epochs, err := r.Epochs.extend(entry.Epochs)
	if err != nil {
		return err
	}
	if len(r.Tail) >= TailEntries {
		if err := e.SealTail(ctx); err != nil {
			return err
		}
	}
	r.Epochs = epochs
	r.Tail = append(r.Tail, entry)
	r.EndOffset = entry.LastOffset + 1
	r.Bytes += entry.Bytes
	r.Segments++
	return nil
}

// SealTail, which Add calls once the tail is full, makes the tail a part of a leaf, joins parts to a leaf once they fill one, and packs each level's
// trailing run of references once it has twice a node's.
func (e *Edit) SealTail(ctx context.Context) error {
	r := &e.Next
	if err := e.seal(&Node{Level: 1, Entries: r.Tail}); err != nil {
		return err
	}
	r.Tail = nil
	if err := e.joinParts(ctx); err != nil {
		return err
	}
	return e.PackLevels()
}

// PackLevels makes a node of the next level out of references of one level at the end of the root, where there are
// enough of them.
func (e *Edit) PackLevels() error {
	r := &e.Next
	end := len(r.Refs)
	for level := 1; level < maxLevel && end > 0; level++ {
		from := end
		for from > 0 && r.Refs[from-1].Level == level {
			from--
		}
		if from == 0 && r.Trimmed.Segments > 0 {
			from++ // a trimmed leaf stays at the root, where its trimming is known
		}
		if end-from >= 2*nodeRefs {
			if err := e.pack(from, level); err != nil {
				return err
			}
			from++
		}
		end = from
	}
	return nil
}

// joinParts replaces the trailing parts by one leaf once they have leafEntries. A part is a leaf of tailEntries: it
// keeps the root small while the leaf it will be a tenth of is still growing.
func (e *Edit) joinParts(ctx context.Context) error {
	r := &e.Next
	from := len(r.Refs)
	for from > 0 && r.Refs[from-1].Level == 1 && r.Refs[from-1].Segments < LeafEntries {
		from--
	}
	if from == 0 && r.Trimmed.Segments > 0 {
		from++ // a trimmed leaf stays as it is
	}
	parts := r.Refs[from:]
	var entries []Entry
	var n int64
	for i := range parts {
		n += parts[i].Segments
	}
	if n < LeafEntries || len(r.Garbage) >= maxGarbage-reservedGarbage || e.deadNames()+len(parts) > MaxDeadNames {
		return nil
	}
	for i := range parts {
		part, err := e.node(ctx, parts[i])
		if err != nil {
			return err
		}
		entries = append(entries, part.Entries...)
	}
	r.Refs = slices.Clone(r.Refs[:from])
	for len(entries) > 0 {
		k := min(len(entries), LeafEntries)
		if err := e.seal(&Node{Level: 1, Entries: entries[:k:k]}); err != nil {
			return err
		}
		entries = entries[k:]
	}
	for i := range parts {
		if !e.unmake(parts[i].Object) {
			e.buryNode(parts[i].Object)
		}
	}
	return nil
}

// unmake takes back a node that this edit made and no longer refers to.
func (e *Edit) unmake(name string) bool {
	n := len(e.Nodes)
	e.Nodes = slices.DeleteFunc(e.Nodes, func(x SealedNode) bool { return x.Name == name })
	return len(e.Nodes) < n
}

// pack replaces the nodeRefs references from index from on by one node of the next level.
func (e *Edit) pack(from, level int) error {
	r := &e.Next
	refs := r.Refs
	node := &Node{Level: level + 1, Refs: slices.Clone(refs[from : from+nodeRefs])}
	r.Refs = slices.Clone(refs[:from])
	if err := e.seal(node); err != nil {
		return err
	}
	r.Refs = append(r.Refs, refs[from+nodeRefs:]...)
	return nil
}

// seal encodes the node and appends the reference to it.
func (e *Edit) seal(n *Node) error {
	n.TopicID, n.Partition = e.Next.TopicID, e.Next.Partition
	name := NewNodeName(n.base())
	body, ref, err := n.Encode(name)
	if err != nil {
		return err
	}
	e.Nodes = append(e.Nodes, SealedNode{Name: name, Node: n, Ref: ref, Body: body})
	e.Next.Refs = append(e.Next.Refs, ref)
	return nil
}

// node returns a node, also one that this edit made itself.
func (e *Edit) node(ctx context.Context, ref Ref) (*Node, error) {
	for i := range e.Nodes {
		if e.Nodes[i].Name == ref.Object {
			return e.Nodes[i].Node, nil
		}
	}
	return e.Load(ctx, ref)
}

package tiering

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// nodeSource returns the node a reference stands for.
type nodeSource func(ctx context.Context, ref Ref) (*Node, error)

// newNode is a node made by an edit that must be PUT before the root that refers to it.
type newNode struct {
	name string
	node *Node
	ref  Ref
	body []byte
}

// edit builds the successor of a root. It never changes the root it started from.
type edit struct {
	next  Root
	nodes []newNode
	load  nodeSource
	// notBefore is when garbage of this edit may be deleted, in Unix milliseconds.
	notBefore int64
}

// quantum is the step to which garbage times are rounded up, so that the garbage of frequent commits shares items.
func quantum(grace time.Duration) time.Duration { return max(grace/8, time.Millisecond) }

func editOf(r *Root, load nodeSource, now time.Time, grace time.Duration) *edit {
	e := &edit{next: *r, load: load}
	e.next.Refs = slices.Clone(r.Refs)
	e.next.Tail = slices.Clone(r.Tail)
	e.next.Garbage = slices.Clone(r.Garbage) // items are replaced, never changed in place
	q := quantum(grace).Milliseconds()
	e.notBefore = (now.Add(grace).UnixMilli() + q - 1) / q * q
	e.next.Created = now.UnixMilli()
	return e
}

// add appends an entry, which must start at EndOffset. A root without entries may start anywhere at or above it.
func (e *edit) add(ctx context.Context, entry Entry) error {
	r := &e.next
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
	if len(r.Tail) >= tailEntries {
		if err := e.sealTail(ctx); err != nil {
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

// sealTail makes the tail a part of a leaf, joins parts to a leaf once they fill one, and packs each level's
// trailing run of references once it has twice a node's.
func (e *edit) sealTail(ctx context.Context) error {
	r := &e.next
	if err := e.seal(&Node{Level: 1, Entries: r.Tail}); err != nil {
		return err
	}
	r.Tail = nil
	if err := e.joinParts(ctx); err != nil {
		return err
	}
	return e.packLevels()
}

func (e *edit) packLevels() error {
	r := &e.next
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
func (e *edit) joinParts(ctx context.Context) error {
	r := &e.next
	from := len(r.Refs)
	for from > 0 && r.Refs[from-1].Level == 1 && r.Refs[from-1].Segments < leafEntries {
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
	if n < leafEntries || len(r.Garbage) >= maxGarbage-reservedGarbage || e.deadNames()+len(parts) > maxDeadNames {
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
		k := min(len(entries), leafEntries)
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
func (e *edit) unmake(name string) bool {
	n := len(e.nodes)
	e.nodes = slices.DeleteFunc(e.nodes, func(x newNode) bool { return x.name == name })
	return len(e.nodes) < n
}

// pack replaces the nodeRefs references from index from on by one node of the next level.
func (e *edit) pack(from, level int) error {
	r := &e.next
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
func (e *edit) seal(n *Node) error {
	n.TopicID, n.Partition = e.next.TopicID, e.next.Partition
	name := newNodeName(n.base())
	body, ref, err := n.encode(name)
	if err != nil {
		return err
	}
	e.nodes = append(e.nodes, newNode{name: name, node: n, ref: ref, body: body})
	e.next.Refs = append(e.next.Refs, ref)
	return nil
}

// node returns a node, also one that this edit made itself.
func (e *edit) node(ctx context.Context, ref Ref) (*Node, error) {
	for i := range e.nodes {
		if e.nodes[i].name == ref.Object {
			return e.nodes[i].node, nil
		}
	}
	return e.load(ctx, ref)
}

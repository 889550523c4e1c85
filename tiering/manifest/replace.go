package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Replace has the manifest name other objects for the offsets of one entry.
func (e *Edit) Replace(ctx context.Context, old, next Entry) error {
	r := &e.Next
	if next.BaseOffset != old.BaseOffset || next.LastOffset != old.LastOffset || next.Bytes != old.Bytes || next.CRC32C != old.CRC32C {
		return fmt.Errorf("entry of offsets %d to %d replaced by other bytes: %w", old.BaseOffset, old.LastOffset, ErrDiverged)
	}
	if err := next.validate(); err != nil {
		return err
	}
	if !e.burySegment(old.Object) {
		return errors.New("the list of pending deletions is full, try again later")
	}
	for i := range r.Tail {
		if r.Tail[i].Object == old.Object {
			r.Tail[i] = next
			return nil
		}
	}
	for i := range r.Refs {
		if r.Refs[i].BaseOffset <= old.BaseOffset && old.LastOffset <= r.Refs[i].LastOffset {
			ref, err := e.replaceBelow(ctx, r.Refs[i], old, next)
			r.Refs[i] = ref
			return err
		}
	}
	return fmt.Errorf("no node holds offset %d: %w", old.BaseOffset, ErrOffsetOutOfRange)
}

// replaceBelow makes a node anew with the entry replaced, and all nodes between.
func (e *Edit) replaceBelow(ctx context.Context, ref Ref, old, next Entry) (Ref, error) {
	was, err := e.node(ctx, ref)
	if err != nil {
		return ref, err
	}
	node := &Node{TopicID: was.TopicID, Partition: was.Partition, Level: was.Level, Entries: slices.Clone(was.Entries), Refs: slices.Clone(was.Refs), Unknown: was.Unknown}
	found := false
	for i := range node.Entries {
		if node.Entries[i].Object == old.Object {
			node.Entries[i], found = next, true
		}
	}
	for i := range node.Refs {
		if node.Refs[i].BaseOffset <= old.BaseOffset && old.LastOffset <= node.Refs[i].LastOffset {
			if node.Refs[i], err = e.replaceBelow(ctx, node.Refs[i], old, next); err != nil {
				return ref, err
			}
			found = true
		}
	}
	if !found {
		return ref, fmt.Errorf("node %s does not name %s: %w", ref.Object, old.Object, ErrCorrupt)
	}
	name := NewNodeName(node.base())
	body, made, err := node.Encode(name)
	if err != nil {
		return ref, err
	}
	made.Unknown = ref.Unknown
	e.Nodes = append(e.Nodes, SealedNode{Name: name, Node: node, Ref: made, Body: body})
	// A pending deletion that reads the old node needs it; then it is left to the collector of orphans.
	pending := func(g *Garbage) bool { return g.Leaf != nil && g.Leaf.Ref.Object == ref.Object }
	if e.last(pending) < 0 && !e.buryNode(ref.Object) {
		return ref, errors.New("the list of pending deletions is full, try again later")
	}
	return made, nil
}

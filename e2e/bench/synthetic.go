package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path"
	"strings"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// A synthetic manifest keeps the first and the last entries that a broker made,
// so that there is something to read at both ends and a log goes on behind it;
// those between are replaced by as many as wanted, of one offset each, whose
// objects do not exist.
const (
	realFront, realBack = 5, 4
	manifestTail        = 100 // tiering's bounds of a root, a leaf and a node
	manifestLeaf        = 1000
	manifestNode        = 50
)

// growManifest gives partition 0 of the only topic of that name a new root with
// n entries. It returns the entries that are real.
func growManifest(ctx context.Context, store object.Store, topic string, n int) ([]manifest.Entry, error) {
	objects := bucket.New(store, nil)
	clusters, err := objects.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	topics, err := objects.TopicsNamed(ctx, clusters[0], topic)
	if err != nil {
		return nil, err
	}
	old := topics[0].Roots[0]
	made := old.Tail
	if len(old.Refs) > 0 || len(made) < realFront+realBack {
		return nil, fmt.Errorf("a manifest of %d references and %d entries to begin with", len(old.Refs), len(made))
	}
	g := &grower{store: store, dir: clusters[0] + "/" + path.Dir(old.Key) + "/", n: n, front: made[:realFront], back: made[len(made)-realBack:]}
	if room := g.back[0].BaseOffset - g.from(); int64(g.middle()) > room {
		return nil, fmt.Errorf("%d entries for %d offsets", g.middle(), room)
	}
	root := *old.Root
	root.Previous, root.Sequence = strings.TrimSuffix(path.Base(old.Key), ".json"), root.Sequence+1
	root.Bytes, root.Segments, root.Garbage = 0, int64(n), nil
	if err := g.fill(ctx, &root); err != nil {
		return nil, err
	}
	for i := range n {
		root.Bytes += g.entry(i).Bytes
	}
	body, _, err := sealJSON("coldbrook.manifest.root", &root)
	if err != nil {
		return nil, err
	}
	if _, err := manifest.DecodeRoot(body); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%010d-%020d.json", root.LeaderEpoch, root.Sequence)
	_, err = store.Put(ctx, g.dir+name, object.Bytes(body), object.PutOptions{IfAbsent: true})
	return append(g.front[:realFront:realFront], g.back...), err
}

type grower struct {
	store       object.Store
	dir         string // of the manifest
	n           int
	front, back []manifest.Entry
}

func (g *grower) middle() int { return g.n - realFront - realBack }

// from is the first offset of the middle.
func (g *grower) from() int64 { return g.front[realFront-1].LastOffset + 1 }

// entry i of n.
func (g *grower) entry(i int) manifest.Entry {
	switch {
	case i < realFront:
		return g.front[i]
	case i >= g.n-realBack:
		return g.back[i-(g.n-realBack)]
	}
	e := g.front[realFront-1]
	e.BaseOffset = g.from() + int64(i-realFront)
	e.LastOffset = e.BaseOffset
	if i == g.n-realBack-1 {
		e.LastOffset = g.back[0].BaseOffset - 1
	}
	e.MaxTimestampOffset = e.BaseOffset
	e.Epochs = manifest.Lineage{{Epoch: e.Epochs[len(e.Epochs)-1].Epoch, StartOffset: e.BaseOffset}}
	e.Object = fmt.Sprintf("%020d-0-01234567-89ab-cdef-0123-456789abcdef", e.BaseOffset)
	return e
}

// fill puts all entries but the tail's into leaves, and leaves into nodes.
func (g *grower) fill(ctx context.Context, root *manifest.Root) error {
	root.Refs, root.Tail = nil, nil
	var leaves []manifest.Ref
	i := 0
	for g.n-i > manifestTail {
		leaf := &manifest.Node{TopicID: root.TopicID, Partition: root.Partition, Level: 1}
		for end := min(i+manifestLeaf, g.n-manifestTail); i < end; i++ {
			leaf.Entries = append(leaf.Entries, g.entry(i))
		}
		ref, err := g.put(ctx, leaf)
		if err != nil {
			return err
		}
		if leaves = append(leaves, ref); len(leaves) < manifestNode {
			continue
		}
		ref, err = g.put(ctx, &manifest.Node{TopicID: root.TopicID, Partition: root.Partition, Level: 2, Refs: leaves})
		if err != nil {
			return err
		}
		root.Refs, leaves = append(root.Refs, ref), nil
	}
	root.Refs = append(root.Refs, leaves...)
	for ; i < g.n; i++ {
		root.Tail = append(root.Tail, g.entry(i))
	}
	return nil
}

// put writes a node and returns the reference to it.
func (g *grower) put(ctx context.Context, n *manifest.Node) (ref manifest.Ref, err error) {
	body, sum, err := sealJSON("coldbrook.manifest.node", n)
	if err != nil {
		return ref, err
	}
	ref = manifest.Ref{Level: n.Level, Size: int64(len(body)), CRC32C: sum, MaxTimestamp: -1}
	for _, e := range n.Entries {
		ref.BaseOffset, ref.LastOffset, ref.MaxTimestamp = n.Entries[0].BaseOffset, e.LastOffset, max(ref.MaxTimestamp, e.MaxTimestamp)
		ref.Bytes, ref.Segments = ref.Bytes+e.Bytes, ref.Segments+1
	}
	for _, r := range n.Refs {
		ref.BaseOffset, ref.LastOffset, ref.MaxTimestamp = n.Refs[0].BaseOffset, r.LastOffset, max(ref.MaxTimestamp, r.MaxTimestamp)
		ref.Bytes, ref.Segments = ref.Bytes+r.Bytes, ref.Segments+r.Segments
	}
	ref.Object = fmt.Sprintf("leaf-%020d-%d-01234567-89ab-cdef-0123-456789abcdef", ref.BaseOffset, ref.Level)
	_, err = g.store.Put(ctx, g.dir+ref.Object+".json", object.Bytes(body), object.PutOptions{IfAbsent: true})
	return ref, err
}

// sealJSON writes an object as package tiering describes its format: a header
// with the checksum of the whole, its own digits taken as zeros.
func sealJSON(format string, v any) ([]byte, manifest.CRC, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, 0, err
	}
	head := `{"format":"` + format + `","version":1,"crc32c":"`
	out := append([]byte(head+`00000000",`), body[1:]...)
	sum := crc32.Checksum(out, castagnoli)
	copy(out[len(head):], fmt.Sprintf("%08x", sum))
	return out, manifest.CRC(sum), nil
}

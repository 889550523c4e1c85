package bucket

import (
	"context"
	"sort"

	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Segment is an entry with the head of its index: enough to read any of its batches.
type Segment struct {
	Entry  *manifest.Entry
	Head   *index.Head
	Object string // key of the .log below the cluster's prefix
	Chunks []index.Chunk
}

// ChunkOf returns the index of the chunk that holds offset, or the one before the hole that does.
func (s *Segment) ChunkOf(offset int64) int {
	i := sort.Search(len(s.Chunks), func(i int) bool { return s.Chunks[i].Offset > offset }) - 1
	return max(i, 0)
}

// Weight is what s takes in memory, in bytes.
func (s *Segment) Weight() int64 {
	return int64(len(s.Chunks))*40 + int64(len(s.Head.Cuts))*24 + int64(len(s.Head.Epochs))*16 + 512
}

// Segment reads the head of an entry's index; its chunks have at most limit bytes, or one piece.
func (c *Cluster) Segment(ctx context.Context, dir string, e *manifest.Entry, limit int64) (*Segment, error) {
	key := manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix)
	b := make([]byte, e.IndexHead)
	err := c.Retry(ctx, func(ctx context.Context) error {
		_, err := object.ReadFull(ctx, c.Reads, c.Prefix+key, 0, b)
		return err
	})
	if err != nil {
		return nil, Failed("read index", key, err)
	}
	h, err := index.DecodeHead(b, e.IndexBytes)
	if err == nil {
		err = h.IsOf(e)
	}
	if err != nil {
		return nil, &ObjectError{Op: "read index", Object: key, Err: err}
	}
	own := *e // not a pointer into a node, which would keep all of it
	return &Segment{
		Entry: &own, Head: h, Object: manifest.SegmentKey(dir, e.Object, manifest.LogSuffix),
		Chunks: index.Chunks(h.Cuts, h.LogBytes, limit),
	}, nil
}

// Section reads one part of an index object. It is small or rarely wanted, so it is not kept.
func (c *Cluster) Section(ctx context.Context, dir string, s *Segment, t index.Section) ([]byte, error) {
	pos, size := s.Head.Section(t)
	if size == 0 {
		return nil, nil
	}
	key := manifest.SegmentKey(dir, s.Entry.Object, manifest.IndexSuffix)
	b := make([]byte, size)
	err := c.Retry(ctx, func(ctx context.Context) error {
		_, err := object.ReadFull(ctx, c.Reads, c.Prefix+key, pos, b)
		return err
	})
	if err != nil {
		return nil, Failed("read index", key, err)
	}
	if err := s.Head.Check(t, b); err != nil {
		return nil, &ObjectError{Op: "read index", Object: key, Err: err}
	}
	return b, nil
}

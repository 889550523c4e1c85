package read

import (
	"context"
	"sort"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/index"
)

// crowded says that the sequential readers of late, with a chunk each, leave the cache no room for one that is being
// fetched. A chunk is gone then before its reader comes for the rest of it, and what is fetched ahead before its reader
// comes at all.
func (r *Reader) crowded() bool {
	return r.streams.active(time.Now()) >= r.cache.MemoryBytes()/r.o.ChunkBytes
}

// first returns the piece that an answer from offset on begins with: the chunk, or of a chunk that would not stay a
// part with what the answer takes. whole says that it reaches to the end of the
// chunk.
func (r *Reader) first(ctx context.Context, dir string, s *bucket.Segment, i int, offset int64, o segment.ReadOptions) (p piece, whole bool, err error) {
	c := s.Chunks[i]
	if 2*int64(o.MaxBytes) > c.Size || !r.crowded() {
		p, err = r.chunk(ctx, s, i)
		return p, true, err
	}
	if pin, there := r.cache.Lookup(readerOf(ctx), chunkKey(s, i)); there {
		return piece{pin: pin}, true, nil
	}
	withCuts, err := r.segmentWithCuts(ctx, dir, s.Entry)
	if err != nil {
		return piece{}, false, err
	}
	part := partOf(withCuts.Head.Cuts, c, offset, int64(o.MaxBytes))
	if part.Size == c.Size {
		p, err = r.chunk(ctx, s, i)
		return p, true, err
	}
	if p, err = r.piece(ctx, s, partKey(s, part), part); err != nil {
		return p, false, err
	}
	return p, part.Position+int64(len(p.Bytes())) == c.Position+c.Size, nil // whoever asked for it first
}

// partKey names a part of a chunk in the cache: chunks have positions, parts of them the complement. A part of the
// same beginning may be longer or shorter, and begins with the same batches.
func partKey(s *bucket.Segment, part index.Chunk) cache.Key {
	return cache.Key{Object: s.Object, Chunk: ^part.Position}
}

// partOf returns the run of pieces of c, between two of its cuts, that begins with the one that holds offset and has at
// least n bytes, if there are so many.
func partOf(cuts []index.Cut, c index.Chunk, offset, n int64) index.Chunk {
	end := c.Position + c.Size
	first := sort.Search(len(cuts), func(i int) bool { return cuts[i].Position >= c.Position })
	from := max(first, sort.Search(len(cuts), func(i int) bool { return cuts[i].Offset > offset })-1)
	part := index.Chunk{Position: cuts[from].Position, Offset: cuts[from].Offset}
	for to := from + 1; ; to++ {
		if to == len(cuts) || cuts[to].Position >= end {
			part.Size = end - part.Position
			return part
		}
		if part.Size = cuts[to].Position - part.Position; part.Size >= n {
			return part
		}
	}
}

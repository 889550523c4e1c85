package read

import (
	"context"
	"errors"
	"fmt"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// segment loads the head of an entry's index, unless it is known.
func (r *Reader) segment(ctx context.Context, dir string, e *manifest.Entry) (*bucket.Segment, error) {
	return bucket.Load(ctx, r.bucket.Memo, manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix), func(ctx context.Context) (*bucket.Segment, int64, error) {
		s, err := r.bucket.Segment(ctx, dir, e, r.o.ChunkBytes)
		if err != nil {
			return nil, 0, err
		}
		s.Head.Cuts = nil // the chunks say it
		return s, s.Weight(), nil
	})
}

// chunkKey names the i-th chunk in the cache.
func chunkKey(s *bucket.Segment, i int) cache.Key {
	return cache.Key{Object: s.Object, Chunk: s.Chunks[i].Position}
}

// chunk returns the i-th chunk from the cache, pinned, fetching it when need be. The fetch does not end with ctx.
func (r *Reader) chunk(ctx context.Context, s *bucket.Segment, i int) (piece, error) {
	return r.piece(ctx, s, chunkKey(s, i), s.Chunks[i])
}

// piece returns the bytes of c, which has whole batches and the name key.
func (r *Reader) piece(ctx context.Context, s *bucket.Segment, key cache.Key, c index.Chunk) (piece, error) {
	if r.outsized(c.Size) {
		out, err := r.reserve.get(ctx, key, c.Size, r.fetcher(readerOf(ctx).Client, s, c))
		return piece{out: out}, err
	}
	pin, err := r.cache.Get(ctx, readerOf(ctx), key, int(c.Size), r.fetcher(readerOf(ctx).Client, s, c))
	return piece{pin: pin}, err
}

// outsized says that a piece is read outside the cache: more than an ordinary chunk, which always fits.
func (r *Reader) outsized(size int64) bool {
	return size > max(r.cache.MemoryBytes()/outsizedShare, r.o.ChunkBytes)
}

// fetcher fetches and checks a chunk. A chunk that fails its checks is fetched once more: the damage may have
// happened on the way. The reader who asks first pays for it with its share of the rate.
func (r *Reader) fetcher(reader string, s *bucket.Segment, c index.Chunk) cache.Fetch {
	return func(ctx context.Context, dst []byte) (int, error) {
		dst = dst[:c.Size]
		var err error
		for range 2 {
			waited, werr := r.fetchRate.take(ctx, reader, c.Size)
			if werr != nil {
				return 0, werr
			}
			if waited > 0 {
				r.metrics.fetchThrottle.Add(ctx, waited.Seconds())
			}
			err = r.bucket.Retry(ctx, func(ctx context.Context) error { return r.get(ctx, r.bucket.Prefix+s.Object, c.Position, dst) })
			if err != nil {
				return 0, bucket.Failed("read", s.Object, err)
			}
			if err = index.CheckBatches(dst, c.Offset, s.Entry.LastOffset); err == nil {
				return len(dst), nil
			}
		}
		r.log.Error("remote segment is corrupt", "object", s.Object, "offset", c.Offset, "err", err)
		return 0, &bucket.ObjectError{Op: "check", Object: s.Object, Err: fmt.Errorf("at position %d: %w", c.Position, err)}
	}
}

// vanished says whether an error may come from reading below a manifest that was replaced longer than the grace
// period ago.
func vanished(err error) bool { return errors.Is(err, manifest.ErrMissing) }

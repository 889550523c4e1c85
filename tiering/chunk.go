package tiering

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// remoteSegment is an entry with the head of its index: enough to read any of its batches.
type remoteSegment struct {
	entry  *manifest.Entry
	head   *index.Head
	object string // key of the .log below the cluster's prefix
	chunks []index.Chunk
}

// chunkOf returns the index of the chunk that holds offset, or the one before the hole that does.
func (s *remoteSegment) chunkOf(offset int64) int {
	i := sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i].Offset > offset }) - 1
	return max(i, 0)
}

// segment loads the head of an entry's index, unless it is known.
func (m *Manager) segment(ctx context.Context, dir string, e *manifest.Entry) (*remoteSegment, error) {
	return memoGet(ctx, m.memo, manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix), func(ctx context.Context) (*remoteSegment, int64, error) {
		s, err := m.loadSegment(ctx, dir, e)
		if err != nil {
			return nil, 0, err
		}
		s.head.Cuts = nil // the chunks say it
		return s, s.weight(), nil
	})
}

// weight is what s takes in memory, in bytes.
func (s *remoteSegment) weight() int64 {
	return int64(len(s.chunks))*40 + int64(len(s.head.Cuts))*24 + int64(len(s.head.Epochs))*16 + 512
}

func (m *Manager) loadSegment(ctx context.Context, dir string, e *manifest.Entry) (*remoteSegment, error) {
	key := manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix)
	b := make([]byte, e.IndexHead)
	err := m.retry(ctx, func(ctx context.Context) error {
		_, err := object.ReadFull(ctx, m.o.Store, m.prefix+key, 0, b)
		return err
	})
	if err != nil {
		return nil, named("read index", key, err)
	}
	h, err := index.DecodeHead(b, e.IndexBytes)
	if err == nil {
		err = h.IsOf(e)
	}
	if err != nil {
		return nil, &ObjectError{Op: "read index", Object: key, Err: err}
	}
	own := *e // not a pointer into a node, which would keep all of it
	return &remoteSegment{
		entry: &own, head: h, object: manifest.SegmentKey(dir, e.Object, manifest.LogSuffix),
		chunks: index.Chunks(h.Cuts, h.LogBytes, m.o.ChunkBytes),
	}, nil
}

func (s *remoteSegment) key(i int) cache.Key {
	return cache.Key{Object: s.object, Chunk: s.chunks[i].Position}
}

// chunk returns the i-th chunk from the cache, pinned, fetching it when need be. The fetch does not end with ctx.
func (m *Manager) chunk(ctx context.Context, s *remoteSegment, i int) (piece, error) {
	return m.piece(ctx, s, s.key(i), s.chunks[i])
}

// piece returns the bytes of c, which has whole batches and the name key.
func (m *Manager) piece(ctx context.Context, s *remoteSegment, key cache.Key, c index.Chunk) (piece, error) {
	if m.outsized(c.Size) {
		out, err := m.reserve.get(ctx, key, c.Size, m.fetcher(readerOf(ctx), s, c))
		return piece{out: out}, err
	}
	pin, err := m.o.Cache.Get(ctx, readerOf(ctx), key, int(c.Size), m.fetcher(readerOf(ctx), s, c))
	return piece{pin: pin}, err
}

// outsized says that a piece is read outside the cache: more than an ordinary chunk, which always fits.
func (m *Manager) outsized(size int64) bool {
	return size > max(m.o.Cache.MemoryBytes()/outsizedShare, m.o.ChunkBytes)
}

// fetcher fetches and checks a chunk. A chunk that fails its checks is fetched once more: the damage may have
// happened on the way. The reader who asks first pays for it with its share of the rate.
func (m *Manager) fetcher(reader string, s *remoteSegment, c index.Chunk) cache.Fetch {
	return func(ctx context.Context, dst []byte) (int, error) {
		dst = dst[:c.Size]
		var err error
		for range 2 {
			waited, werr := m.fetchRate.take(ctx, reader, c.Size)
			if werr != nil {
				return 0, werr
			}
			if waited > 0 {
				m.metrics.fetchThrottle.Add(ctx, waited.Seconds())
			}
			err = m.retry(ctx, func(ctx context.Context) error { return m.get(ctx, m.prefix+s.object, c.Position, dst) })
			if err != nil {
				return 0, named("read", s.object, err)
			}
			if err = index.CheckBatches(dst, c.Offset, s.entry.LastOffset); err == nil {
				return len(dst), nil
			}
		}
		m.log.Error("remote segment is corrupt", "object", s.object, "offset", c.Offset, "err", err)
		return 0, &ObjectError{Op: "check", Object: s.object, Err: fmt.Errorf("at position %d: %w", c.Position, err)}
	}
}

// section reads one part of an index object. It is small or rarely wanted, so it is not kept.
func (m *Manager) section(ctx context.Context, dir string, s *remoteSegment, t index.Section) ([]byte, error) {
	pos, size := s.head.Section(t)
	if size == 0 {
		return nil, nil
	}
	key := manifest.SegmentKey(dir, s.entry.Object, manifest.IndexSuffix)
	b := make([]byte, size)
	err := m.retry(ctx, func(ctx context.Context) error {
		_, err := object.ReadFull(ctx, m.o.Store, m.prefix+key, pos, b)
		return err
	})
	if err != nil {
		return nil, named("read index", key, err)
	}
	if err := s.head.Check(t, b); err != nil {
		return nil, &ObjectError{Op: "read index", Object: key, Err: err}
	}
	return b, nil
}

// vanished says whether an error may come from reading below a manifest that was replaced longer than the grace
// period ago.
func vanished(err error) bool { return errors.Is(err, manifest.ErrMissing) }

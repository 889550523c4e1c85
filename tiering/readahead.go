package tiering

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

const (
	maxStreams = 4096
	maxHeads   = 16          // segments that one plan looks into
	planLimit  = time.Minute // to find out what to prefetch, index loads included
)

// streams recognises sequential readers: one that asks for the offset where an earlier answer ended. It knows no
// clients, so two readers in step share a stream, which is what they should do.
type streams struct {
	mu    sync.Mutex
	lru   *list.List // of *stream, newest first
	items map[streamKey]*list.Element
}

type streamKey struct {
	tip  metadata.TopicIDPartition
	next int64
}

type stream struct {
	key    streamKey
	window int64 // bytes to have under way ahead of it
}

func newStreams() *streams {
	return &streams{lru: list.New(), items: map[streamKey]*list.Element{}}
}

// advance notes that an answer went from offset to next and returns the read-ahead for it: none for the first,
// then lo, doubling up to hi.
func (s *streams) advance(tip metadata.TopicIDPartition, offset, next, lo, hi int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var window int64
	if el, ok := s.items[streamKey{tip, offset}]; ok {
		window = min(max(2*el.Value.(*stream).window, lo), hi)
		s.removeLocked(el)
	}
	if el, ok := s.items[streamKey{tip, next}]; ok {
		window = max(window, el.Value.(*stream).window)
		s.removeLocked(el)
	}
	st := &stream{streamKey{tip, next}, window}
	s.items[st.key] = s.lru.PushFront(st)
	if s.lru.Len() > maxStreams {
		s.removeLocked(s.lru.Back())
	}
	return window
}

func (s *streams) removeLocked(el *list.Element) {
	s.lru.Remove(el)
	delete(s.items, el.Value.(*stream).key)
}

// readAhead has the chunks fetched that the reader will ask for next, across segment borders. One plan per
// partition at a time; it is cheap when all is there already.
func (m *Manager) readAhead(ctx context.Context, p *partition, man manifest, offset, next int64, maxBytes int) {
	window := m.streams.advance(p.tip, offset, next, 2*m.o.ChunkBytes, m.o.ReadAhead)
	if window == 0 {
		return
	}
	window = max(window, min(int64(maxBytes), m.o.ReadAhead))
	if next >= man.root.EndOffset || !p.ahead.CompareAndSwap(false, true) {
		return
	}
	started := m.tasks.start(ctx, planLimit, func(ctx context.Context) {
		defer p.ahead.Store(false)
		m.prefetch(ctx, man, next, window)
	})
	if !started {
		p.ahead.Store(false)
	}
}

// prefetch starts fetches for window bytes from offset on, until the cache refuses. Errors are left to the read
// that will need the chunk.
func (m *Manager) prefetch(ctx context.Context, man manifest, offset, window int64) {
	var entries []*Entry
	var ahead int64
	for e, err := range man.walk(ctx, offset, nil) {
		if err != nil || ahead > window || len(entries) == maxHeads {
			break
		}
		entries = append(entries, e)
		ahead += e.Bytes
	}
	// All index heads at once: small segments would otherwise cost a round trip each, one after the other.
	for i := 1; i < len(entries); i++ {
		if m.memo.has(segmentKey(man.dir, entries[i].Object, indexSuffix)) {
			continue
		}
		m.tasks.start(ctx, planLimit, func(ctx context.Context) { _, _ = m.segment(ctx, man.dir, entries[i]) }) // below, again
	}
	for _, e := range entries {
		seg, err := m.segment(ctx, man.dir, e)
		if err != nil {
			return
		}
		for i := seg.chunkOf(offset); i < len(seg.chunks); i++ {
			if window <= 0 || !m.o.Cache.Prefetch(seg.key(i), int(seg.chunks[i].size), m.fetcher(seg, i)) {
				return
			}
			window -= seg.chunks[i].size
		}
	}
}

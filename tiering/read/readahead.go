package read

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

const (
	maxStreams = 4096
	maxHeads   = 16          // segments that one plan looks into
	planLimit  = time.Minute // to find out what to prefetch, index loads included

	// paceSample is the shortest time over which a reader's pace is measured.
	paceSample = 100 * time.Millisecond
	// aheadFactor is the read-ahead in units of pace × distance of the store. One would do if GETs did not share
	// the link: those that were asked for together also arrive together.
	aheadFactor = 4
	// aheadSlack is what a reader at full speed has ahead of it beyond that, in chunks. A near store answers by its
	// queue rather than by its distance, and the next chunk must be there when one GET takes several times as long.
	aheadSlack = 8
	// activeFor is how long a reader that does not come back still has its share of the read-ahead.
	activeFor = 2 * time.Second
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
	used   time.Time

	since  time.Time     // when the measurement of its pace began
	waited time.Duration // since then, for the store
	read   int64         // bytes since
	pace   float64       // bytes a second that it takes when it need not wait, 0 = not known yet

	planning atomic.Bool // a prefetch for it is being planned
	calm     atomic.Bool // it takes so little that what is ahead of it need not hurry
	roomy    atomic.Bool // the readers are so few that each can have the least: what is ahead of it may displace
}

// aheadLimits bound the read-ahead of one reader.
type aheadLimits struct {
	least, total int64         // bytes: of a sequential reader, and of all readers together
	slack        int64         // bytes, beyond what the distance makes necessary
	distance     time.Duration // of the store, 0 = not known
}

func newStreams() *streams {
	return &streams{lru: list.New(), items: map[streamKey]*list.Element{}}
}

// answer is what a reader got: size bytes from offset up to next, after waiting for them for so long.
type answer struct {
	tip                metadata.TopicIDPartition
	offset, next, size int64
	waited             time.Duration
	last               bool // nothing is behind it
}

// advance notes an answer and returns its reader with the read-ahead for it: none for the first answer, then as much
// as arrives at the reader's pace while a GET takes its time, within the reader's share of the total. It at most
// doubles from one answer to the next. What the reader waited for the store does not count as its pace: the window
// would follow its own shortness down.
func (s *streams) advance(a answer, lim aheadLimits, now time.Time) (*stream, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.takeLocked(streamKey{a.tip, a.offset})
	sequential := st != nil
	if sequential {
		st.measure(a, now)
	} else {
		st = &stream{since: now, read: a.size}
	}
	if other := s.takeLocked(streamKey{a.tip, a.next}); other != nil && other.window > st.window {
		st.window, sequential = other.window, true // the one ahead of it
	}
	st.key, st.used = streamKey{a.tip, a.next}, now
	s.items[st.key] = s.lru.PushFront(st)
	if s.lru.Len() > maxStreams {
		oldest := s.lru.Back()
		s.lru.Remove(oldest)
		delete(s.items, oldest.Value.(*stream).key)
	}
	if a.last {
		st.window = 0 // what is ahead of others need not be less for it
	}
	if !sequential || a.last {
		return st, 0
	}
	share := lim.total / s.activeLocked(now)
	st.roomy.Store(share >= lim.least)
	most := max(share, lim.least)
	want, calm := most, false
	if st.pace > 0 && lim.distance > 0 {
		want = int64(aheadFactor * st.pace * lim.distance.Seconds())
		if calm = want <= lim.least/2; !calm {
			want += lim.slack
		}
	}
	st.calm.Store(calm)
	st.window = max(min(want, most, 2*st.window), lim.least)
	return st, st.window
}

// measure keeps the reader's pace up to date.
func (st *stream) measure(a answer, now time.Time) {
	st.waited += a.waited
	took := now.Sub(st.since) - st.waited
	if took >= paceSample {
		st.pace = float64(st.read) / took.Seconds()
		st.since, st.waited, st.read = now, 0, 0
	}
	st.read += a.size // it is taken from now on
}

func (s *streams) takeLocked(key streamKey) *stream {
	el, ok := s.items[key]
	if !ok {
		return nil
	}
	s.lru.Remove(el)
	delete(s.items, key)
	return el.Value.(*stream)
}

// activeLocked counts the sequential readers of late, the one that asks included.
func (s *streams) activeLocked(now time.Time) int64 {
	return 1 + s.activeFromLocked(s.lru.Front().Next(), now)
}

// active counts the sequential readers of late.
func (s *streams) active(now time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.activeFromLocked(s.lru.Front(), now)
}

func (s *streams) activeFromLocked(el *list.Element, now time.Time) (n int64) {
	for ; el != nil; el = el.Next() {
		st := el.Value.(*stream)
		if now.Sub(st.used) > activeFor {
			break
		}
		if st.window > 0 {
			n++
		}
	}
	return n
}

// readAhead has the chunks fetched that the reader will ask for next, across segment borders. One plan per
// reader at a time; it is cheap when all is there already.
func (r *Reader) readAhead(ctx context.Context, man bucket.Manifest, a answer, maxBytes int) {
	lim := aheadLimits{least: min(2*r.o.ChunkBytes, r.o.ReadAhead), total: r.o.ReadAhead, slack: aheadSlack * r.o.ChunkBytes, distance: r.pace.shortest()}
	st, window := r.streams.advance(a, lim, time.Now())
	if window == 0 || r.crowded() {
		return
	}
	window = max(window, min(int64(maxBytes), r.o.ReadAhead))
	if !st.planning.CompareAndSwap(false, true) {
		return
	}
	started := r.tasks.Start(ctx, planLimit, func(ctx context.Context) {
		defer st.planning.Store(false)
		r.prefetch(ctx, man, a.next, window, st.calm.Load(), st.roomy.Load())
	})
	if !started {
		st.planning.Store(false)
	}
}

// prefetch starts fetches for window bytes from offset on, until the cache refuses. Errors are left to the read
// that will need the chunk.
func (r *Reader) prefetch(ctx context.Context, man bucket.Manifest, offset, window int64, calm, displace bool) {
	entries := r.upcoming(ctx, man, offset, 2*window)
	for n, e := range entries {
		if key := manifest.SegmentKey(man.Dir, e.Object, manifest.IndexSuffix); n > 0 && !r.bucket.Memo.Has(key) {
			// All index heads at once, and a window before they are needed: a plan that waits for one fetches nothing.
			r.tasks.Start(ctx, planLimit, func(ctx context.Context) { _, _ = r.segment(ctx, man.Dir, e) }) // below, again
		}
	}
	for _, e := range entries {
		if window <= 0 {
			return
		}
		seg, err := r.segment(ctx, man.Dir, e)
		if err != nil {
			return
		}
		for i := seg.ChunkOf(offset); i < len(seg.Chunks); i++ {
			c := seg.Chunks[i]
			fetch := r.fetcher(readerOf(ctx).Client, seg, c)
			if calm {
				fetch = r.calmly(fetch)
			}
			if window <= 0 || !r.outsized(c.Size) && !r.cache.Prefetch(chunkKey(seg, i), int(c.Size), fetch, displace) {
				return
			}
			window -= c.Size
		}
	}
}

// upcoming are the entries that hold so many bytes from offset on, and the next one, but not more than maxHeads.
func (r *Reader) upcoming(ctx context.Context, man bucket.Manifest, offset, bytes int64) []*manifest.Entry {
	var entries []*manifest.Entry
	for e, err := range man.Walk(ctx, offset, nil) {
		if err != nil || len(entries) == maxHeads {
			break
		}
		entries = append(entries, e)
		if bytes < 0 {
			break
		}
		left := e.Bytes
		if e.BaseOffset < offset { // as if its records were equally large
			left = int64(float64(left) * float64(e.LastOffset+1-offset) / float64(e.LastOffset+1-e.BaseOffset))
		}
		bytes -= left
	}
	return entries
}

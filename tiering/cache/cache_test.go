package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testChunk = 8 << 10

// fill writes what the piece of a key must contain.
func fill(key Key, dst []byte) {
	for i := range dst {
		dst[i] = byte(key.Chunk) ^ byte(i*7) ^ byte(len(key.Object))
	}
}

func check(t *testing.T, key Key, got []byte) {
	t.Helper()
	want := make([]byte, len(got))
	fill(key, want)
	if !bytes.Equal(got, want) {
		t.Errorf("piece %v has other bytes", key)
	}
}

// source counts fetches and can hold them back.
type source struct {
	n    atomic.Int64
	hold chan struct{} // when not nil, fetches wait for it
}

func (s *source) fetch(key Key) Fetch {
	return func(ctx context.Context, dst []byte) (int, error) {
		s.n.Add(1)
		if s.hold != nil {
			select {
			case <-s.hold:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		fill(key, dst)
		return len(dst), nil
	}
}

// start runs a cache for the rest of the test.
func start(t testing.TB, o Options) *Cache {
	t.Helper()
	if o.ChunkBytes == 0 {
		o.ChunkBytes = testChunk
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s := c.Stats(); s.UsedBytes != 0 || s.PinnedBytes != 0 || s.AheadBytes != 0 || s.Entries != 0 || s.Queued != 0 || s.Running != 0 {
			t.Errorf("left after the end: %+v", s)
		}
	})
	return c
}

func mustGet(t testing.TB, c *Cache, key Key, size int, f Fetch) *Pinned {
	t.Helper()
	p, err := c.Get(t.Context(), Reader{}, key, size, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSecondReadIsAHit(t *testing.T) {
	c := start(t, Options{MemoryBytes: 10 * testChunk})
	var src source
	key := Key{"a", 1}
	for range 3 {
		p := mustGet(t, c, key, 100, src.fetch(key))
		if p.Len() != 100 {
			t.Errorf("%d bytes", p.Len())
		}
		check(t, key, p.Bytes())
		p.Release()
		p.Release() // only the first counts
	}
	if src.n.Load() != 1 {
		t.Errorf("%d fetches", src.n.Load())
	}
	if s := c.Stats(); s.Hits != 2 || s.Misses != 1 || s.HitBytes != 200 || s.PinnedBytes != 0 || s.UsedBytes != pageBytes {
		t.Errorf("%+v", s)
	}
	if _, ok := c.Lookup(Reader{}, Key{"a", 2}); ok {
		t.Error("found what was never fetched")
	}
	if p, ok := c.Lookup(Reader{}, key); !ok {
		t.Error("did not find the piece")
	} else {
		p.Release()
	}
}

func TestManyReadersShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: 4 * testChunk})
		src := source{hold: make(chan struct{})}
		key := Key{"a", 1}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				p := mustGet(t, c, key, testChunk, src.fetch(key))
				check(t, key, p.Bytes())
				p.Release()
			})
		}
		synctest.Wait()
		close(src.hold)
		wg.Wait()
		if src.n.Load() != 1 {
			t.Errorf("%d fetches", src.n.Load())
		}
	})
}

func TestFetchOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: 4 * testChunk})
		src := source{hold: make(chan struct{})}
		key := Key{"a", 1}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx, Reader{}, key, testChunk, src.fetch(key)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		close(src.hold)
		synctest.Wait()
		p, ok := c.Lookup(Reader{}, key)
		if !ok {
			t.Fatal("the fetch did not land in the cache")
		}
		check(t, key, p.Bytes())
		p.Release()
		if src.n.Load() != 1 {
			t.Errorf("%d fetches", src.n.Load())
		}
	})
}

func TestMemoryIsNeverExceededAndWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: 2 * testChunk})
		var src source
		one := mustGet(t, c, Key{"a", 1}, testChunk, src.fetch(Key{"a", 1}))
		two := mustGet(t, c, Key{"a", 2}, testChunk, src.fetch(Key{"a", 2}))
		// All is pinned: who comes now waits.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx, Reader{}, Key{"a", 3}, testChunk, src.fetch(Key{"a", 3})); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if s := c.Stats(); s.Queued != 0 || s.Entries != 2 {
			t.Errorf("the caller that gave up left %+v", s)
		}
		order := make(chan int64, 2)
		var wg sync.WaitGroup
		for n := int64(4); n <= 5; n++ {
			wg.Go(func() {
				p := mustGet(t, c, Key{"a", n}, testChunk, src.fetch(Key{"a", n}))
				order <- n
				time.Sleep(time.Second)
				p.Release()
			})
			synctest.Wait()
		}
		if s := c.Stats(); s.Queued != 2 || s.UsedBytes > 2*testChunk || c.Prefetch(Key{"a", 6}, 1, src.fetch(Key{"a", 6}), false) {
			t.Errorf("waiting: %+v", s)
		}
		one.Release()
		synctest.Wait()
		if got := <-order; got != 4 {
			t.Errorf("%d was served first", got)
		}
		if len(order) != 0 {
			t.Error("two were served with the memory of one")
		}
		check(t, Key{"a", 2}, two.Bytes())
		two.Release()
		wg.Wait()
		if src.n.Load() != 4 {
			t.Errorf("%d fetches", src.n.Load())
		}
	})
}

// TestReadersTakeTurns: one that wants much does not hold up one that wants little, nor the other way round.
func TestReadersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: testChunk})
		var src source
		full := mustGet(t, c, Key{"a", 0}, testChunk, src.fetch(Key{"a", 0}))
		var mu sync.Mutex
		var served []int64
		var wg sync.WaitGroup
		want := func(ctx context.Context, reader string, n int64) {
			wg.Go(func() {
				p, err := c.Get(ctx, Reader{Client: reader}, Key{"a", n}, testChunk, src.fetch(Key{"a", n}))
				if err != nil {
					return
				}
				mu.Lock()
				served = append(served, n)
				mu.Unlock()
				p.Release()
			})
			synctest.Wait()
		}
		impatient, leave := context.WithCancel(t.Context())
		for n := range int64(4) {
			want(t.Context(), "much", 10+n)
		}
		for n := range int64(3) {
			want(impatient, "leaving", 30+n)
		}
		want(t.Context(), "little", 20)
		leave()
		synctest.Wait()
		want(t.Context(), "leaving", 34) // back again, in its old place
		want(t.Context(), "little", 21)
		want(t.Context(), "the same", 13)
		full.Release()
		wg.Wait()
		if want := []int64{10, 20, 34, 13, 13, 11, 21, 12}; !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
		if len(c.turns) != 0 || c.turn != 0 {
			t.Errorf("turns left: %v, %d", c.turns, c.turn)
		}
	})
}

func TestLeastRecentlyReleasedGoesFirst(t *testing.T) {
	c := start(t, Options{MemoryBytes: 3 * testChunk})
	var src source
	for _, n := range []int64{1, 2, 3, 1, 4} { // 4 displaces 2
		mustGet(t, c, Key{"a", n}, testChunk, src.fetch(Key{"a", n})).Release()
	}
	for n, want := range map[int64]bool{1: true, 2: false, 3: true, 4: true} {
		p, ok := c.Lookup(Reader{}, Key{"a", n})
		if ok {
			check(t, Key{"a", n}, p.Bytes())
			p.Release()
		}
		if ok != want {
			t.Errorf("piece %d there: %v, want %v", n, ok, want)
		}
	}
	if s := c.Stats(); s.Evicted != 1 || s.UsedBytes != 3*testChunk {
		t.Errorf("%+v", s)
	}
}

func TestPinnedPieceStaysWhileOthersCome(t *testing.T) {
	c := start(t, Options{MemoryBytes: 2 * testChunk})
	var src source
	held := mustGet(t, c, Key{"held", 0}, testChunk, src.fetch(Key{"held", 0}))
	for n := range int64(20) {
		mustGet(t, c, Key{"a", n}, testChunk, src.fetch(Key{"a", n})).Release()
	}
	check(t, Key{"held", 0}, held.Bytes())
	held.Release()
}

func TestSizesShareTheBound(t *testing.T) {
	const memory = 64 * pageBytes
	c := start(t, Options{MemoryBytes: memory, ChunkBytes: 16 * pageBytes})
	var src source
	for n, size := range []int{0, 1, pageBytes, pageBytes + 1, 8*pageBytes + 1, 16 * pageBytes, 40 * pageBytes, memory, 3, 16 * pageBytes, 17 * pageBytes, memory} {
		key := Key{"a", int64(n)}
		p := mustGet(t, c, key, size, src.fetch(key))
		if p.Len() != size {
			t.Errorf("%d bytes, want %d", p.Len(), size)
		}
		check(t, key, p.Bytes())
		if s := c.Stats(); s.UsedBytes > memory {
			t.Errorf("%d bytes used of %d", s.UsedBytes, memory)
		}
		p.Release()
	}
	if _, err := c.Get(t.Context(), Reader{}, Key{"a", 99}, memory+1, src.fetch(Key{"a", 99})); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
}

func TestErrorsAreDeliveredAndForgotten(t *testing.T) {
	c := start(t, Options{MemoryBytes: 4 * testChunk})
	key := Key{"a", 1}
	broken := errors.New("broken")
	for _, f := range []Fetch{
		func(context.Context, []byte) (int, error) { return 0, broken },
		func(_ context.Context, dst []byte) (int, error) { return len(dst) + 1, nil },
		func(context.Context, []byte) (int, error) { return -1, nil },
	} {
		if _, err := c.Get(t.Context(), Reader{}, key, 10, f); err == nil {
			t.Error("no error")
		}
	}
	var src source
	mustGet(t, c, key, 10, src.fetch(key)).Release()
	if s := c.Stats(); s.Failed != 3 || s.Fetched != 1 || s.UsedBytes != pageBytes {
		t.Errorf("%+v", s)
	}
}

func TestShortPieceKeepsItsLength(t *testing.T) {
	c := start(t, Options{MemoryBytes: 4 * testChunk})
	p := mustGet(t, c, Key{"a", 1}, 100, func(_ context.Context, dst []byte) (int, error) { return copy(dst, "tail"), nil })
	if string(p.Bytes()) != "tail" || cap(p.Bytes()) != 4 {
		t.Errorf("%q of capacity %d", p.Bytes(), cap(p.Bytes()))
	}
	p.Release()
}

func TestPrefetchStaysWithinItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: 8 * testChunk, PrefetchBytes: 2 * testChunk})
		var src source
		var took []bool
		for n := range int64(4) {
			took = append(took, c.Prefetch(Key{"a", n}, testChunk, src.fetch(Key{"a", n}), false))
		}
		if !took[0] || !took[1] || took[2] || took[3] {
			t.Errorf("prefetches accepted: %v", took)
		}
		synctest.Wait()
		if !c.Prefetch(Key{"a", 0}, testChunk, nil, false) {
			t.Error("a piece that is there was refused")
		}
		p := mustGet(t, c, Key{"a", 0}, testChunk, nil) // a hit: no fetch needed
		check(t, Key{"a", 0}, p.Bytes())
		p.Release()
		if !c.Prefetch(Key{"a", 2}, testChunk, src.fetch(Key{"a", 2}), false) {
			t.Error("the budget of a used piece is not free again")
		}
		synctest.Wait()
		if s := c.Stats(); s.Prefetches != 3 || s.Dropped != 2 || s.AheadBytes != 2*testChunk || src.n.Load() != 3 {
			t.Errorf("%+v", s)
		}
		// Prefetched pieces that nobody used make room like any other.
		for n := int64(10); n < 18; n++ {
			mustGet(t, c, Key{"b", n}, testChunk, src.fetch(Key{"b", n})).Release()
		}
		if s := c.Stats(); s.UnusedPrefetches != 2 || s.AheadBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPrefetchForReaderThatLeftMakesRoom: a reader that comes back touches what is ahead of it; what nobody touches
// gives way to prefetches, but only where they may displace, and the oldest goes first.
func TestPrefetchForReaderThatLeftMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: 8 * testChunk, PrefetchBytes: 4 * testChunk})
		var src source
		want := func(object string, chunk int64, displace bool) bool {
			defer synctest.Wait()
			return c.Prefetch(Key{object, chunk}, testChunk, src.fetch(Key{object, chunk}), displace)
		}
		for n := range int64(4) {
			want("a", n, true)
		}
		if want("b", 0, true) {
			t.Error("what was prefetched just now gave way")
		}
		time.Sleep(leftAfter)
		want("a", 0, true) // its reader comes back, whose window is shorter now
		want("a", 1, true)
		if want("b", 0, false) {
			t.Error("displaced though it may not")
		}
		if !want("b", 0, true) || !want("b", 1, true) || want("b", 2, true) {
			t.Error("want room for two pieces, those that nobody asks for again")
		}
		for n := range int64(2) {
			for _, object := range []string{"a", "b"} {
				p, ok := c.Lookup(Reader{}, Key{object, n})
				if !ok {
					t.Fatalf("piece %d of %s is gone", n, object)
				}
				p.Release()
			}
		}
		if s := c.Stats(); s.UnusedPrefetches != 2 || s.Entries != 4 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPrefetchIsDroppedWhenAllIsPinned(t *testing.T) {
	c := start(t, Options{MemoryBytes: testChunk, PrefetchBytes: testChunk})
	var src source
	p := mustGet(t, c, Key{"a", 1}, testChunk, src.fetch(Key{"a", 1}))
	if c.Prefetch(Key{"a", 2}, testChunk, src.fetch(Key{"a", 2}), false) {
		t.Error("accepted without memory")
	}
	p.Release()
	if s := c.Stats(); s.Entries != 1 || s.Queued != 0 || s.AheadBytes != 0 || s.Prefetches != 0 {
		t.Errorf("%+v", s)
	}
}

func TestInvalidatedObjectIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: 8 * testChunk})
		src := source{}
		for n := range int64(3) {
			mustGet(t, c, Key{"a", n}, testChunk, src.fetch(Key{"a", n})).Release()
			mustGet(t, c, Key{"bb", n}, testChunk, src.fetch(Key{"bb", n})).Release()
		}
		held := mustGet(t, c, Key{"a", 1}, testChunk, nil)
		src.hold = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // under way when the object is invalidated
			p := mustGet(t, c, Key{"a", 9}, testChunk, src.fetch(Key{"a", 9}))
			check(t, Key{"a", 9}, p.Bytes())
			p.Release()
		})
		synctest.Wait()
		c.Invalidate("a")
		c.Invalidate("never seen")
		close(src.hold)
		wg.Wait()
		for n, object := range []string{"a", "a", "a"} {
			if _, ok := c.Lookup(Reader{}, Key{object, int64(n)}); ok {
				t.Errorf("%s %d is still there", object, n)
			}
		}
		if _, ok := c.Lookup(Reader{}, Key{"a", 9}); ok {
			t.Error("a fetch from before the invalidation stayed")
		}
		for n := range int64(3) {
			p, ok := c.Lookup(Reader{}, Key{"bb", n})
			if !ok {
				t.Fatalf("bb %d went with a", n)
			}
			p.Release()
		}
		check(t, Key{"a", 1}, held.Bytes())
		before := src.n.Load()
		mustGet(t, c, Key{"a", 1}, testChunk, src.fetch(Key{"a", 1})).Release()
		if src.n.Load() != before+1 {
			t.Error("not fetched again")
		}
		held.Release()
	})
}

func TestEndOfRunFailsWaitersAndKeepsPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{MemoryBytes: 2 * testChunk, ChunkBytes: testChunk})
		if err != nil {
			t.Fatal(err)
		}
		src := source{hold: make(chan struct{})}
		errs := make(chan error, 3)
		get := func(n int64) {
			_, err := c.Get(t.Context(), Reader{}, Key{"a", n}, testChunk, src.fetch(Key{"a", n}))
			errs <- err
		}
		var plain source
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		held := mustGet(t, c, Key{"held", 0}, testChunk, plain.fetch(Key{"held", 0}))
		go get(1) // runs
		synctest.Wait()
		go get(2) // waits for memory
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want %v", err, ErrClosed)
			}
		}
		get(3)
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: got %v, want %v", err, ErrClosed)
		}
		if c.Prefetch(Key{"a", 4}, 1, nil, false) {
			t.Error("prefetch after the end")
		}
		check(t, Key{"held", 0}, held.Bytes())
		held.Release()
		if s := c.Stats(); s.UsedBytes != 0 || s.PinnedBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestGetBeforeRunWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{MemoryBytes: 2 * testChunk, ChunkBytes: testChunk})
		if err != nil {
			t.Fatal(err)
		}
		var src source
		got := make(chan *Pinned)
		go func() {
			p, err := c.Get(t.Context(), Reader{}, Key{"a", 1}, 1, src.fetch(Key{"a", 1}))
			if err != nil {
				t.Error(err)
			}
			got <- p
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		(<-got).Release()
		if err := c.Run(ctx); err == nil {
			t.Error("ran twice")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for _, o := range []Options{{ChunkBytes: 1000}, {ChunkBytes: pageBytes + 1}, {MemoryBytes: pageBytes, ChunkBytes: 2 * pageBytes}, {ChunkBytes: -pageBytes}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
	if c, err := New(Options{}); err != nil || c.ChunkBytes() != 4<<20 {
		t.Errorf("defaults: %v", err)
	}
}

// Readers, cancellations, invalidations and prefetches at once; the race detector and the scribbled
// buffers watch. Every byte read must be right.
func TestHammer(t *testing.T) {
	c := start(t, Options{MemoryBytes: 6 * testChunk, PrefetchBytes: 3 * testChunk})
	broken := errors.New("broken")
	fetch := func(key Key) Fetch {
		return func(_ context.Context, dst []byte) (int, error) {
			if key.Chunk%11 == 0 {
				return 0, broken
			}
			fill(key, dst)
			return len(dst), nil
		}
	}
	rounds := 400
	if testing.Short() {
		rounds = 50
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			seed := uint64(w + 1)
			for range rounds {
				seed = seed*6364136223846793005 + 1442695040888963407
				r := seed >> 33
				key := Key{[]string{"a", "bb", "ccc"}[r%3], int64(r>>8) % 16}
				size := testChunk
				if key.Chunk%3 == 0 {
					size = 100 + int(key.Chunk)*500
				}
				switch r >> 4 % 8 {
				case 0:
					c.Invalidate(key.Object)
				case 1:
					c.Prefetch(key, size, fetch(key), false)
				default:
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r%64)*100*time.Microsecond)
					p, err := c.Get(ctx, Reader{}, key, size, fetch(key))
					cancel()
					if err != nil {
						if !errors.Is(err, broken) && !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%v: %v", key, err)
						}
						continue
					}
					check(t, key, p.Bytes())
					p.Release()
				}
				if s := c.Stats(); s.UsedBytes > 6*testChunk || s.AheadBytes > 3*testChunk || s.AheadBytes < 0 {
					t.Errorf("%+v", s)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkHit(b *testing.B) {
	c := start(b, Options{MemoryBytes: 64 << 20, ChunkBytes: 1 << 20})
	key := Key{"topics/orders.AAAAAAAAAAAAAAAAAAAAAA/17/segments/00000000000000123456-12-0123456789abcdef.log", 3}
	fetch := func(_ context.Context, dst []byte) (int, error) { return len(dst), nil }
	mustGet(b, c, key, 1<<20, fetch).Release()
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		p, err := c.Get(ctx, Reader{}, key, 1<<20, fetch)
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
}

// A full cache and a reader that never sees a chunk twice: what a miss costs beside its copy.
func BenchmarkMissInFullCache(b *testing.B) {
	c := start(b, Options{MemoryBytes: 64 << 20, ChunkBytes: 1 << 20})
	fetch := func(_ context.Context, dst []byte) (int, error) {
		binary.LittleEndian.PutUint64(dst, 1)
		return len(dst), nil
	}
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		p, err := c.Get(b.Context(), Reader{}, Key{"a", n}, 1<<20, fetch)
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
}

func TestHitCostsOneSmallAllocation(t *testing.T) {
	c := start(t, Options{MemoryBytes: 4 * testChunk})
	var src source
	key := Key{"a", 1}
	f := src.fetch(key)
	mustGet(t, c, key, 100, f).Release()
	got := testing.AllocsPerRun(200, func() {
		p, err := c.Get(t.Context(), Reader{}, key, 100, f)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Discard.Write(p.Bytes())
		p.Release()
	})
	if got > 1 {
		t.Errorf("%.0f allocations for a hit, want at most 1", got)
	}
}

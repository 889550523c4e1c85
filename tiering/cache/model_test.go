package cache

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// TestCacheAgainstModel drives one cache with random operations and compares it with a plain list:
// what is there, in which order it will go, what is pinned, and how much memory that takes.
func TestCacheAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { runModel(t, rt) })
}

type modelPiece struct {
	key  Key
	size int
	pins int
	gone bool // invalidated while pinned
}

func (p *modelPiece) foot() int64 { return int64(footprint(p.size, testChunk)) }

// model holds the pieces in order of their last release, oldest first; pinned ones anywhere.
type model struct {
	memory int64
	pieces []*modelPiece
}

func (m *model) find(key Key) *modelPiece {
	for _, p := range m.pieces {
		if p.key == key && !p.gone {
			return p
		}
	}
	return nil
}

func (m *model) remove(p *modelPiece) {
	for i, q := range m.pieces {
		if q == p {
			m.pieces = append(m.pieces[:i:i], m.pieces[i+1:]...)
			return
		}
	}
}

func (m *model) used() (n int64) {
	for _, p := range m.pieces {
		n += p.foot()
	}
	return n
}

// admit makes room as the cache does, or reports that all is pinned.
func (m *model) admit(foot int64) bool {
	var firm int64
	for _, p := range m.pieces {
		if p.pins > 0 {
			firm += p.foot()
		}
	}
	if firm+foot > m.memory {
		return false
	}
	for m.used()+foot > m.memory {
		for _, p := range m.pieces {
			if p.pins == 0 {
				m.remove(p)
				break
			}
		}
	}
	return true
}

func (m *model) release(p *modelPiece) {
	if p.pins--; p.pins > 0 {
		return
	}
	m.remove(p)
	if !p.gone {
		m.pieces = append(m.pieces, p)
	}
}

type held struct {
	pin   *Pinned
	piece *modelPiece
}

// machine is a cache, its model, and what the test holds of both.
type machine struct {
	t    *testing.T
	c    *Cache
	m    *model
	pins []held
}

func runModel(t *testing.T, rt *rapid.T) {
	c, err := New(Options{MemoryBytes: 6 * testChunk, ChunkBytes: testChunk})
	if err != nil {
		rt.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			rt.Error(err)
		}
	}()
	s := &machine{t: t, c: c, m: &model{memory: 6 * testChunk}}
	rt.Repeat(map[string]func(*rapid.T){
		"get": s.get, "release": s.release, "lookup": s.lookup, "invalidate": s.invalidate, "": s.compare,
	})
	for _, h := range s.pins {
		h.pin.Release()
	}
}

func drawKey(rt *rapid.T) Key {
	return Key{rapid.SampledFrom([]string{"a", "bb", "ccc"}).Draw(rt, "object"), rapid.Int64Range(0, 5).Draw(rt, "chunk")}
}

func modelSize(k Key) int {
	return []int{10, testChunk, testChunk/2 + 1, 3 * testChunk, testChunk, 5000}[k.Chunk]
}

var errModel = errors.New("broken")

func (s *machine) get(rt *rapid.T) {
	key := drawKey(rt)
	fails := rapid.IntRange(0, 9).Draw(rt, "fails") == 0
	pin, fetched, err := s.call(key, fails)
	piece := s.m.find(key)
	var want error
	wantFetch := false
	if piece == nil {
		wantFetch = s.m.admit(int64(footprint(modelSize(key), testChunk)))
		switch {
		case !wantFetch:
			want = context.Canceled
		case fails:
			want = errModel
		default:
			piece = &modelPiece{key: key, size: modelSize(key)}
			s.m.pieces = append(s.m.pieces, piece)
		}
	}
	if !errors.Is(err, want) || fetched != wantFetch {
		rt.Fatalf("get %v: %v (fetched %v), want %v (fetched %v)", key, err, fetched, want, wantFetch)
	}
	if err == nil {
		piece.pins++
		check(s.t, key, pin.Bytes())
		s.pins = append(s.pins, held{pin, piece})
	}
}

// call gets a piece, and gives up when the cache has it wait for memory, which only this goroutine
// could release.
func (s *machine) call(key Key, fails bool) (pin *Pinned, fetched bool, err error) {
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pin, err = s.c.Get(ctx, Reader{}, key, modelSize(key), func(_ context.Context, dst []byte) (int, error) {
			fetched = true
			if fails {
				return 0, errModel
			}
			fill(key, dst)
			return len(dst), nil
		})
	}()
	for {
		select {
		case <-done:
			return pin, fetched, err
		default:
			if s.c.Stats().Queued > 0 {
				stop()
			}
			runtime.Gosched()
		}
	}
}

func (s *machine) release(rt *rapid.T) {
	if len(s.pins) == 0 {
		rt.Skip()
	}
	i := rapid.IntRange(0, len(s.pins)-1).Draw(rt, "pin")
	h := s.pins[i]
	s.pins = append(s.pins[:i:i], s.pins[i+1:]...)
	check(s.t, h.piece.key, h.pin.Bytes())
	h.pin.Release()
	s.m.release(h.piece)
}

func (s *machine) lookup(rt *rapid.T) {
	key := drawKey(rt)
	p, ok := s.c.Lookup(Reader{}, key)
	piece := s.m.find(key)
	if ok != (piece != nil) {
		rt.Fatalf("lookup %v: %v", key, ok)
	}
	if ok {
		check(s.t, key, p.Bytes())
		piece.pins++
		p.Release()
		s.m.release(piece)
	}
}

func (s *machine) invalidate(rt *rapid.T) {
	object := drawKey(rt).Object
	s.c.Invalidate(object)
	for _, p := range append([]*modelPiece(nil), s.m.pieces...) {
		if p.key.Object == object {
			if p.gone = true; p.pins == 0 {
				s.m.remove(p)
			}
		}
	}
}

// compare is what must hold between any two operations.
func (s *machine) compare(rt *rapid.T) {
	var pinned, entries int64
	for _, p := range s.m.pieces {
		if p.pins > 0 {
			pinned += p.foot()
		}
		if !p.gone {
			entries++
		}
	}
	st := s.c.Stats()
	if st.PinnedBytes != pinned || st.Entries != entries || st.UsedBytes-st.SpareBytes != s.m.used() || st.UsedBytes > s.m.memory || st.Queued != 0 || st.Running != 0 {
		rt.Fatalf("got %+v, want %d pinned, %d entries, %d used", st, pinned, entries, s.m.used())
	}
}

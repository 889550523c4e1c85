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

func runModel(t *testing.T, rt *rapid.T) {
	c, err := New(Options{MemoryBytes: 6 * testChunk, ChunkBytes: testChunk})
	if err != nil {
		rt.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	m := &model{memory: 6 * testChunk}
	var pins []held
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			rt.Error(err)
		}
	}()

	keys := rapid.Custom(func(rt *rapid.T) Key {
		return Key{rapid.SampledFrom([]string{"a", "bb", "ccc"}).Draw(rt, "object"), rapid.Int64Range(0, 5).Draw(rt, "chunk")}
	})
	size := func(k Key) int { return []int{10, testChunk, testChunk/2 + 1, 3 * testChunk, testChunk, 5000}[k.Chunk] }
	broken := errors.New("broken")
	rt.Repeat(map[string]func(*rapid.T){
		"get": func(rt *rapid.T) {
			key := keys.Draw(rt, "key")
			fails := rapid.IntRange(0, 9).Draw(rt, "fails") == 0
			fetched := false
			short, stop := context.WithCancel(t.Context())
			type result struct {
				p   *Pinned
				err error
			}
			results := make(chan result, 1)
			go func() {
				p, err := c.Get(short, key, size(key), func(_ context.Context, dst []byte) (int, error) {
					fetched = true
					if fails {
						return 0, broken
					}
					fill(key, dst)
					return len(dst), nil
				})
				results <- result{p, err}
			}()
			var r result
			for waiting := true; waiting; {
				select {
				case r = <-results:
					waiting = false
				default:
					if c.Stats().Queued > 0 { // for memory, which only this goroutine could release
						stop()
					}
					runtime.Gosched()
				}
			}
			stop()
			piece := m.find(key)
			want := error(nil)
			wantFetch := false
			if piece == nil {
				wantFetch = m.admit(int64(footprint(size(key), testChunk)))
				switch {
				case !wantFetch:
					want = context.Canceled
				case fails:
					want = broken
				default:
					piece = &modelPiece{key: key, size: size(key)}
					m.pieces = append(m.pieces, piece)
				}
			}
			if !errors.Is(r.err, want) || fetched != wantFetch {
				rt.Fatalf("get %v: %v (fetched %v), want %v (fetched %v)", key, r.err, fetched, want, wantFetch)
			}
			if r.err == nil {
				piece.pins++
				check(t, key, r.p.Bytes())
				pins = append(pins, held{r.p, piece})
			}
		},
		"release": func(rt *rapid.T) {
			if len(pins) == 0 {
				rt.Skip()
			}
			i := rapid.IntRange(0, len(pins)-1).Draw(rt, "pin")
			h := pins[i]
			pins = append(pins[:i:i], pins[i+1:]...)
			check(t, h.piece.key, h.pin.Bytes())
			h.pin.Release()
			m.release(h.piece)
		},
		"lookup": func(rt *rapid.T) {
			key := keys.Draw(rt, "key")
			p, ok := c.Lookup(key)
			piece := m.find(key)
			if ok != (piece != nil) {
				rt.Fatalf("lookup %v: %v", key, ok)
			}
			if ok {
				check(t, key, p.Bytes())
				piece.pins++
				p.Release()
				m.release(piece)
			}
		},
		"invalidate": func(rt *rapid.T) {
			object := keys.Draw(rt, "key").Object
			c.Invalidate(object)
			for _, p := range append([]*modelPiece(nil), m.pieces...) {
				if p.key.Object == object {
					if p.gone = true; p.pins == 0 {
						m.remove(p)
					}
				}
			}
		},
		"": func(rt *rapid.T) {
			var pinned, entries int64
			for _, p := range m.pieces {
				if p.pins > 0 {
					pinned += p.foot()
				}
				if !p.gone {
					entries++
				}
			}
			s := c.Stats()
			if s.PinnedBytes != pinned || s.Entries != entries || s.UsedBytes-s.SpareBytes != m.used() || s.UsedBytes > m.memory || s.Queued != 0 || s.Running != 0 {
				rt.Fatalf("got %+v, want %d pinned, %d entries, %d used", s, pinned, entries, m.used())
			}
		},
	})
	for _, h := range pins {
		h.pin.Release()
	}
}

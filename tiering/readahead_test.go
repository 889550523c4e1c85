package tiering

import (
	"bytes"
	"context"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// farStore answers every GET after its distance, those of a .log over one link that all of them share.
type farStore struct {
	object.Store
	distance  time.Duration
	bandwidth float64 // bytes a second

	mu   sync.Mutex
	free time.Time // when the link has sent what was asked for before
}

func (s *farStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if !bucket.Sleep(ctx, s.distance) {
		return nil, ctx.Err()
	}
	if !strings.HasSuffix(key, manifest.LogSuffix) {
		return s.Store.Get(ctx, key, off, n)
	}
	s.mu.Lock()
	now := time.Now()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(float64(n) / s.bandwidth * float64(time.Second)))
	wait := s.free.Sub(now)
	s.mu.Unlock()
	if !bucket.Sleep(ctx, wait) {
		return nil, ctx.Err()
	}
	return s.Store.Get(ctx, key, off, n)
}

// replayed is how a replay went.
type replayed struct {
	warm time.Duration // until the first 100 MB were read
	rate float64       // bytes a second after them
}

// replay reads 1.3 GB of a cold log with one consumer that takes 850 MB/s over a link of 1 GB/s, after another one has
// read some of it and left. All sizes are a 64th of what they are for.
func replay(t *testing.T, distance time.Duration, readAhead, memory int64, answer int, left int64) (r replayed) {
	const scale = 64
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := &farStore{Store: w.store, bandwidth: 1e9 / scale}
		cfg := smallLog()
		cfg.SegmentBytes = 128 << 20 / scale
		b := w.mustStart(settings{
			config: cfg, store: store, memory: memory / scale, bufferBytes: 4 << 20 / scale,
			ahead: readAhead / scale, o: Options{ReadAhead: readAhead / scale},
		})
		for batch := testBatch(0, 100); b.log.LogEnd() < 100_000; {
			b.append(bytes.Clone(batch), segment.Client)
		}
		b.uploaded()
		store.distance = distance
		end := b.m.View(w.tip()).HighestOffset + 1
		var begun time.Time
		var total, warm int64
		for _, most := range []int64{left / scale, math.MaxInt64} {
			begun, total, warm, r.warm = time.Now(), 0, 0, 0
			for at := int64(0); at < end && total < most; {
				d, err := b.m.Read(t.Context(), w.tip(), at, segment.ReadOptions{UpTo: end, MaxBytes: answer / scale, MinOne: true})
				if err != nil {
					t.Fatal(err)
				}
				at = d.NextOffset()
				total += d.Len()
				time.Sleep(time.Duration(float64(d.Len()) / (850e6 / scale) * float64(time.Second)))
				d.Release()
				if r.warm == 0 && total*scale > 100e6 {
					r.warm, warm = time.Since(begun), total
				}
			}
		}
		r.rate = float64(total-warm) / (time.Since(begun) - r.warm).Seconds() * scale
	})
	return r
}

// TestFarStoreIsReadAtTheSpeedOfANearOne: 50 ms more for each GET cost a sequential reader the start and next to
// nothing after it.
func TestFarStoreIsReadAtTheSpeedOfANearOne(t *testing.T) {
	for _, c := range []struct {
		name          string
		ahead, memory int64
		answer        int
		warm          time.Duration
	}{
		{"answers of 1 MiB", 64 << 20, 128 << 20, 1 << 20, 400 * time.Millisecond},
		{"more memory", 128 << 20, 256 << 20, 50 << 20, 550 * time.Millisecond},
	} {
		near, far := replay(t, 0, c.ahead, c.memory, c.answer, 0), replay(t, 50*time.Millisecond, c.ahead, c.memory, c.answer, 0)
		t.Logf("%s: near %.0f MB/s, 50 ms away %.0f MB/s, 100 MB after %v", c.name, near.rate/1e6, far.rate/1e6, far.warm)
		if far.rate < 0.95*near.rate {
			t.Errorf("%s: %.0f MB/s from a store 50 ms away, %.0f from a near one", c.name, far.rate/1e6, near.rate/1e6)
		}
		// Three round trips to begin with: manifest or index, first chunk, second chunk. Then the window doubles.
		if far.warm > c.warm {
			t.Errorf("%s: the first 100 MB took %v, want %v at most", c.name, far.warm, c.warm)
		}
	}
}

// TestReplayAfterAnAbandonedOne: what was fetched ahead of a reader that left is not in the way of the next one.
func TestReplayAfterAnAbandonedOne(t *testing.T) {
	r := replay(t, 50*time.Millisecond, 128<<20, 256<<20, 8<<20, 700e6)
	t.Logf("100 MB after %v, then %.0f MB/s", r.warm, r.rate/1e6)
	if most := 600 * time.Millisecond; r.warm > most {
		t.Errorf("the first 100 MB took %v, want %v at most", r.warm, most)
	}
	if r.rate < 0.9*850e6 {
		t.Errorf("then %.0f MB/s of the 850 that the reader takes", r.rate/1e6)
	}
}

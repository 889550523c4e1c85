package tiering

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestAnswersThatNobodyTakesLeaveTheCacheToOthers: what one connection does not read pins its share, and readers of
// other connections get theirs at once.
func TestAnswersThatNobodyTakesLeaveTheCacheToOthers(t *testing.T) {
	for name, holder := range map[string]string{"by connection": "conn-1", "by client": ""} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := smallLog()
			cfg.SegmentBytes = 16 << 10
			b := w.mustStart(settings{config: cfg, memory: 64 << 10, chunk: 4 << 10, bufferBytes: 4 << 10, ahead: 4 << 10})
			if err := b.produce(1500); err != nil {
				t.Fatal(err)
			}
			b.uploaded()
			if err := b.evict(); err != nil {
				t.Fatal(err)
			}
			for n := range int64(32) {
				d, err := b.m.Read(t.Context(), w.tip(), n*25, segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 400, MinOne: true, Reader: "slow", Holder: holder})
				if err != nil {
					t.Fatalf("answer %d: %v", n, err)
				}
				defer d.Release()
				if n == 0 && d.Len() == 0 {
					t.Error("the first answer is empty")
				}
			}
			d, err := b.m.Read(t.Context(), w.tip(), 1200, segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 4000, MinOne: true, Reader: "other"})
			if err != nil {
				t.Fatal(err)
			}
			if d.Len() == 0 {
				t.Error("another reader got nothing")
			}
			d.Release()
		})
	}
}

// TestMissingObjectCostsNoRequestForEachPoll: clients repeat at once what fails.
func TestMissingObjectCostsNoRequestForEachPoll(t *testing.T) {
	for _, suffix := range []string{manifest.LogSuffix, manifest.IndexSuffix} {
		t.Run(suffix, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var gets atomic.Int64
				b := w.mustStart(settings{config: smallLog(), store: object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
					if op.Kind == object.OpGet {
						gets.Add(1)
					}
					return nil
				})})
				if err := b.produce(60); err != nil {
					t.Fatal(err)
				}
				b.uploaded()
				lost := map[string][]byte{}
				for key := range w.objects() {
					if strings.HasSuffix(key, suffix) {
						lost[key] = body(t, w.store, key)
						if err := w.store.Delete(t.Context(), key); err != nil {
							t.Fatal(err)
						}
					}
				}
				read := func() error {
					d, err := b.m.Read(t.Context(), w.tip(), 0, readAnything)
					if err == nil {
						d.Release()
					}
					return err
				}
				gets.Store(0)
				for range 100 {
					if err := read(); !errors.Is(err, manifest.ErrMissing) {
						t.Fatal(err)
					}
				}
				if n := gets.Load(); n > 2 {
					t.Errorf("100 polls for a missing object: %d GETs", n)
				}
				for key, b := range lost {
					if _, err := w.store.Put(t.Context(), key, object.Bytes(b), object.PutOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				if err := read(); err != nil {
					t.Errorf("it is there again: %v", err)
				}
				b.close()
			})
		})
	}
}

// TestMoreReadersThanTheCacheHasChunksFetchWhatTheyTake: with a chunk for each of them the cache would lose every one
// before its reader comes back.
func TestMoreReadersThanTheCacheHasChunksFetchWhatTheyTake(t *testing.T) {
	for _, positions := range []int{8, 16, 24} {
		w := newWorld(t)
		var fetched atomic.Int64
		store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			if op.Kind == object.OpGet && strings.HasSuffix(op.Key, manifest.LogSuffix) {
				fetched.Add(op.Len)
			}
			return nil
		})
		cfg := smallLog()
		cfg.SegmentBytes = 16 << 10
		b := w.mustStart(settings{config: cfg, store: store, memory: 64 << 10, chunk: 4 << 10, bufferBytes: 4 << 10, ahead: 4 << 10})
		if err := b.produce(3000); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		at := make([]int64, positions)
		for i := range at {
			at[i] = int64(i) * 120
		}
		fetched.Store(0)
		taken := int64(0)
		for range 30 {
			for i := range at {
				d, err := b.m.Read(t.Context(), w.tip(), at[i], segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 800, MinOne: true, Reader: "one"})
				if err != nil {
					t.Fatal(err)
				}
				if d.Len() == 0 || d.NextOffset() <= at[i] {
					t.Fatalf("nothing at %d", at[i])
				}
				mustFollow(t, d, at[i])
				taken += d.Len()
				at[i] = d.NextOffset()
				d.Release()
			}
		}
		if most := 3 * taken; fetched.Load() > most {
			t.Errorf("%d readers of a cache of 16 chunks: %d bytes fetched, %d taken", positions, fetched.Load(), taken)
		}
		// Parts of every length, where others have fetched parts of other lengths, or the chunk behind.
		rng := rand.New(rand.NewPCG(uint64(positions), 1))
		read := func(offset int64, maxBytes int) int64 {
			d, err := b.m.Read(t.Context(), w.tip(), offset, segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: maxBytes, MinOne: true, Reader: "one"})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Release()
			mustFollow(t, d, offset)
			return d.NextOffset()
		}
		for range 500 {
			i := rng.IntN(positions)
			if at[i] >= 2900 {
				at[i] = rng.Int64N(1000)
			}
			read(at[i]+8+rng.Int64N(16), 4000)
			at[i] = read(at[i], 500+rng.IntN(1500))
		}
		b.close()
		b.dir = nil
	}
}

// mustFollow checks that an answer has every record from offset on.
func mustFollow(t *testing.T, d segment.RemoteData, offset int64) {
	t.Helper()
	b, err := d.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	next := offset
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if batch.BaseOffset() > next {
			t.Fatalf("read at %d: %d follows %d", offset, batch.BaseOffset(), next)
		}
		next, b = batch.NextOffset(), rest
	}
	if next != d.NextOffset() {
		t.Fatalf("read at %d: ends at %d and says %d", offset, next, d.NextOffset())
	}
}

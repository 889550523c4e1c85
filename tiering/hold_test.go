package tiering

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
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

package tiering

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestStaleLeaderCannotMoveThePointer is invariant 6.
func TestStaleLeaderCannotMoveThePointer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		before, _, _ := b.md.RemotePointer(t.Context(), w.tip())
		w.elect() // somebody else leads now; b has not heard of it
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		settle(t, "the stale leader was refused", func() bool { return !b.m.View(w.tip()).Loaded })
		after, _, _ := b.md.RemotePointer(t.Context(), w.tip())
		if before != after {
			t.Fatalf("pointer moved from %+v to %+v", before, after)
		}
		if v := b.m.View(w.tip()); v.HighestOffset != before.EndOffset-1 {
			t.Fatalf("the stale leader published offset %d, committed is %d", v.HighestOffset, before.EndOffset-1)
		}
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		if b.log.LocalLogStart() > before.EndOffset {
			t.Fatalf("evicted to %d, committed end is %d", b.log.LocalLogStart(), before.EndOffset)
		}
		w.nothingMissing()
	})
}

// TestCommitWithALostAnswerCountsOnce: etcd applied the swap, its answer never came.
func TestCommitWithALostAnswerCountsOnce(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("after ", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				failures := 3
				client := w.kv.Client(func(_ context.Context, c kv.Call) error {
					if c.Kind == kv.CallTxn && c.After == after && failures > 0 && strings.Contains(c.Key, "remote") {
						failures--
						return kv.ErrUnavailable
					}
					return nil
				})
				b := w.mustStart(settings{config: smallLog(), kv: client})
				if err := b.produce(120); err != nil {
					t.Fatal(err)
				}
				b.uploaded()
				if failures == 3 {
					t.Fatal("no fault was injected")
				}
				names := w.nothingMissing()
				logs := 0
				for key := range w.objects() {
					if strings.HasSuffix(key, ".log") {
						if logs++; !names[key] {
							t.Errorf("orphan %s: what was copied was copied again", key)
						}
					}
				}
				if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestNewLeaderCopiesFromTheTiersEndInTheMiddleOfASegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		if err := b.produce(100); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		end := b.m.View(w.tip()).HighestOffset + 1
		before := b.log.LogEnd()
		b.close()
		b.dir = nil
		// The new leader has the same records in other segments.
		w2 := &world{t: t, fs: newWorld(t).fs, kv: w.kv, store: w.store, topic: w.topic}
		large := smallLog()
		large.SegmentBytes = 7 << 10
		b2 := w2.mustStart(settings{config: large, noLead: true})
		if err := b2.produce(int(before)); err != nil {
			t.Fatal(err)
		}
		w2.elect()
		b2.epoch = 1
		if err := b2.log.AssignEpoch(1, b2.log.LogEnd()); err != nil {
			t.Fatal(err)
		}
		if err := b2.produce(100); err != nil {
			t.Fatal(err)
		}
		for _, s := range b2.log.Sealed(0) {
			if s.BaseOffset == end {
				t.Fatal("the segments have the same borders")
			}
		}
		b2.m.Lead(w.tip(), 1, b2.log)
		b2.uploaded()
		sliced := false
		next := int64(0)
		for e, err := range b2.m.Entries(t.Context(), w.tip(), 0) {
			if err != nil || e.BaseOffset != next {
				t.Fatalf("entry %+v, %v, want base %d", e, err, next)
			}
			sliced = sliced || e.BaseOffset == end
			next = e.LastOffset + 1
			x, err := index.Decode(body(t, w.store, "c1/"+manifest.SegmentKey(manifest.PartitionDir("orders", w.tip()), e.Object, manifest.IndexSuffix)))
			if err != nil {
				t.Fatal(err)
			}
			if len(x.Offset) >= 8 && string(x.Offset[:4]) == "\xff\xff\xff\xff" {
				t.Error("offset index starts below its base")
			}
		}
		if !sliced {
			t.Fatalf("no entry starts at %d", end)
		}
		if err := b2.evict(); err != nil {
			t.Fatal(err)
		}
		if _, err := b2.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Fatal(err)
		}
		if e, end, err := b2.m.EndOffsetForEpoch(t.Context(), w.tip(), 0); err != nil || e != 0 || end != before {
			t.Errorf("epoch 0 ends at %d of epoch %d, %v; want %d", end, e, err, before)
		}
	})
}

func TestLogOfAnotherLineIsNotCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		if err := b.produce(100); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		before, _, _ := b.md.RemotePointer(t.Context(), w.tip())
		b.close()
		b.dir = nil
		// Unclean: a leader with an empty disk writes other records at the same offsets.
		w2 := &world{t: t, fs: newWorld(t).fs, kv: w.kv, store: w.store, topic: w.topic}
		w2.elect()
		b2 := w2.mustStart(settings{config: smallLog()})
		if err := b2.produce(200); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual
		if after, _, _ := b2.md.RemotePointer(t.Context(), w.tip()); after != before {
			t.Fatalf("pointer moved from %+v to %+v", before, after)
		}
		if v := b2.m.View(w.tip()); v.Loaded {
			t.Fatalf("view of a diverged log is loaded: %+v", v)
		}
		if err := b2.evict(); err != nil {
			t.Fatal(err)
		}
		if b2.log.LocalLogStart() != 0 {
			t.Fatalf("evicted to %d", b2.log.LocalLogStart())
		}
	})
}

func TestResignBreaksACopyOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		reached := make(chan string, 1)
		store := object.WithFaults(w.store, func(ctx context.Context, op object.Op) error {
			if op.Kind == object.OpPut && !op.After && strings.HasSuffix(op.Key, ".idx") {
				select {
				case reached <- op.Key:
				default:
				}
				<-ctx.Done() // a store that hangs
				return ctx.Err()
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		<-reached
		b.m.Resign(w.tip())
		settle(t, "the half copy is deleted", func() bool {
			for key := range w.objects() {
				if strings.HasSuffix(key, ".log") {
					return false
				}
			}
			return true
		})
		if _, ok, _ := b.md.RemotePointer(t.Context(), w.tip()); ok {
			t.Error("a pointer was committed")
		}
	})
}

func TestFollowerReadsThroughTheImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		if err := b.produce(100); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		w2 := &world{t: t, fs: newWorld(t).fs, kv: w.kv, store: w.store, topic: w.topic}
		f := w2.mustStart(settings{config: smallLog(), noLead: true})
		v, err := f.m.Refresh(t.Context(), w.tip())
		if err != nil || !v.Loaded || v.HighestOffset != b.m.View(w.tip()).HighestOffset {
			t.Fatalf("view %+v, %v", v, err)
		}
		d, err := f.m.Read(t.Context(), w.tip(), 7, readAnything)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Release()
		if d.Len() == 0 || d.NextOffset() <= 7 {
			t.Errorf("%d bytes up to %d", d.Len(), d.NextOffset())
		}
		_, err = f.m.Read(t.Context(), metadata.TopicIDPartition{Topic: w.tip().Topic, Partition: 5}, 7, readAnything)
		if !errors.Is(err, manifest.ErrOffsetOutOfRange) {
			t.Errorf("partition that was never copied: %v", err)
		}
	})
}

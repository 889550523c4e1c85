package tiering

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// TestCommitThatCountsLateIsPublished: the swap is on its way to etcd, its caller gives up and reads the old pointer
// twice, and only then does it take effect.
func TestCommitThatCountsLateIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		md, err := metadata.Open(t.Context(), metadata.Options{KV: w.kv})
		if err != nil {
			t.Fatal(err)
		}
		var late metadata.RemotePointer
		arrive := func() {
			for key := range w.objects() {
				if !strings.Contains(key, "/manifest/") {
					continue
				}
				root, err := manifest.DecodeRoot(body(t, w.store, key))
				if err != nil {
					t.Error(err)
					return
				}
				late = metadata.RemotePointer{
					Manifest: strings.TrimPrefix(key, "c1/"), Sequence: root.Sequence, LeaderEpoch: root.LeaderEpoch,
					StartOffset: root.StartOffset, EndOffset: root.EndOffset,
				}
				_, err = md.SwapRemotePointer(t.Context(), w.tip(), metadata.RemotePointer{}, 0, late)
				if err != nil {
					t.Error(err)
				}
			}
		}
		var held, reads atomic.Int64
		var arrived atomic.Bool
		client := w.kv.Client(func(_ context.Context, c kv.Call) error {
			switch {
			case !strings.Contains(c.Key, "remote/"):
			case c.Kind == kv.CallTxn && !c.After && !arrived.Load():
				held.Add(1)
				return kv.ErrUnavailable
			case c.Kind == kv.CallRange && c.After && held.Load() > 0 && reads.Add(1) == 2:
				arrive()
				arrived.Store(true)
				time.Sleep(time.Millisecond) // virtual: the image shows it before this answer is here
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), kv: client, noLead: true})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // all is sealed: one commit has it all
		b.m.Lead(w.tip(), b.epoch, b.log)
		time.Sleep(time.Minute) // virtual
		if late.Manifest == "" {
			t.Fatalf("%d swaps, %d reads: the late one never came", held.Load(), reads.Load())
		}
		if v := b.m.View(w.tip()); !v.Loaded || v.HighestOffset < late.EndOffset-1 {
			t.Fatalf("view %+v, committed up to %d", v, late.EndOffset)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		if b.log.LocalLogStart() == 0 {
			t.Error("nothing was evicted")
		}
		w.nothingMissing()
	})
}

// TestActiveSegmentCountsAsBehindWhatIsSealed, in remote.copy.lag.bytes.
func TestActiveSegmentCountsAsBehindWhatIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), o: Options{Topic: func(string) upload.TopicSettings {
			return upload.TopicSettings{CopyLag: -1, CopyLagBytes: 3 << 10}
		}}})
		for b.log.Segments() < 2 {
			if err := b.produce(1); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute) // virtual
		if v := b.m.View(w.tip()); v.Segments != 0 {
			t.Fatalf("copied with %d bytes in the log: %+v", b.log.LocalBytes(), v)
		}
		for b.log.LocalBytes() < 7<<10+512 && b.log.Segments() == 2 {
			if err := b.produce(1); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, "copied", func() bool { return b.m.View(w.tip()).Segments == 1 })
	})
}

// TestNewLeadersAgeIsNotThatOfWhatTheTierHas: a leader that cannot read the tier yet must not raise an alarm over
// segments that are in it.
func TestNewLeadersAgeIsNotThatOfWhatTheTierHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := smallLog()
		cfg.LocalRetentionBytes = -1
		b := w.mustStart(settings{config: cfg})
		if err := b.produce(100); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		b.close()
		b.dir = nil
		w.elect()
		time.Sleep(time.Hour) // virtual
		down := object.WithFaults(w.store, func(context.Context, object.Op) error { return object.ErrUnavailable })
		b = w.mustStart(settings{config: cfg, store: down})
		b.log.SetHighWatermark(b.log.LogEnd())
		settle(t, "the image is there", func() bool { _, ok := b.md.Image().RemotePointer(w.tip()); return ok })
		st := b.m.Status(time.Now())
		if len(st) != 1 || st[0].View.Loaded || st[0].OldestAge != 0 || st[0].View.PendingSegments != 0 {
			t.Fatalf("status %+v", st)
		}
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // virtual
		if age := b.m.Status(time.Now())[0].OldestAge; age < time.Minute || age > 2*time.Minute {
			t.Errorf("oldest un-uploaded age %v of a partition whose view is not loaded, want about a minute", age)
		}
	})
}

// TestLeadersThatRaceLeaveOneValueForEachOffsetAndNoOrphan: the old leader does not know that it is deposed and goes
// on copying while the new one begins, from other segments of the same records; then it learns of it in the middle.
func TestLeadersThatRaceLeaveOneValueForEachOffsetAndNoOrphan(t *testing.T) {
	for _, wait := range []time.Duration{0, 30 * time.Millisecond, 95 * time.Millisecond, 400 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			slow := func(s object.Store) object.Store { return slowStore{s, 5 * time.Millisecond} }
			o := Options{Grace: time.Second, Sweep: 500 * time.Millisecond}
			b := w.mustStart(settings{config: smallLog(), store: slow(w.store), o: o})
			if err := b.produce(60); err != nil {
				t.Fatal(err)
			}
			settle(t, "something is committed", func() bool { return b.m.View(w.tip()).HighestOffset > 0 })
			large := smallLog()
			large.SegmentBytes = 7 << 10
			w2 := &world{t: t, fs: vfs.NewMem(), kv: w.kv, store: w.store, topic: w.topic}
			n := w2.mustStart(settings{config: large, store: slow(w.store), o: o, noLead: true})
			if err := b.produce(200); err != nil {
				t.Fatal(err)
			}
			if err := n.produce(int(b.log.LogEnd())); err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait) // virtual: somewhere in the old leader's copies
			w2.elect()
			n.epoch = 1
			if err := n.log.AssignEpoch(1, n.log.LogEnd()); err != nil {
				t.Fatal(err)
			}
			n.m.Lead(w.tip(), 1, n.log)
			if err := n.produce(100); err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait) // virtual
			b.m.Resign(w.tip())
			n.uploaded()
			if err := n.evict(); err != nil {
				t.Fatal(err)
			}
			next := int64(0)
			for e, err := range n.m.Entries(t.Context(), w.tip(), 0) {
				if err != nil || e.BaseOffset != next {
					t.Fatalf("entry %+v, %v, want base %d", e, err, next)
				}
				next = e.LastOffset + 1
			}
			time.Sleep(20 * time.Second) // virtual: the collector was here
			names := w.nothingMissing()
			for key := range w.objects() {
				if strings.Contains(key, "/segments/") && !names[key] {
					t.Errorf("orphan %s", key)
				}
			}
			if _, err := n.readAll(t.Context(), 0, 1<<20); err != nil {
				t.Fatal(err)
			}
		})
	}
}

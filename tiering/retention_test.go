package tiering

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

func (w *world) segmentsInBucket() int {
	n := 0
	for key := range w.objects() {
		if strings.HasSuffix(key, ".log") || strings.HasSuffix(key, ".idx") {
			n++
		}
	}
	return n
}

// TestExpiredObjectsOutliveTheirManifestByTheGracePeriod is invariant 5.
func TestExpiredObjectsOutliveTheirManifestByTheGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const grace = time.Minute
		b := w.mustStart(settings{config: smallLog(), o: Options{Grace: grace, Poll: 50 * time.Millisecond, Interval: 100 * time.Millisecond}})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		all := w.segmentsInBucket()
		old := b.m.View(w.tip())
		start := time.Now()
		cfg := b.log.Config()
		cfg.RetentionBytes = 8 << 10
		b.log.SetConfig(cfg)
		settle(t, "the manifest forgets expired segments", func() bool { return b.m.View(w.tip()).Bytes < old.Bytes })
		v := b.m.View(w.tip())
		if v.StartOffset > b.log.LogStart() || b.log.LogStart() == 0 {
			t.Errorf("tier starts at %d, log at %d", v.StartOffset, b.log.LogStart())
		}
		if v.Bytes+b.log.LocalBytes() < 8<<10 {
			t.Errorf("retention left less than it must: %d in the tier", v.Bytes)
		}
		for time.Since(start) < grace {
			if n := w.segmentsInBucket(); n != all {
				t.Fatalf("%d of %d objects left after %v", n, all, time.Since(start))
			}
			time.Sleep(time.Second)
		}
		settle(t, "expired objects are deleted", func() bool { return int64(w.segmentsInBucket()) == 2*b.m.View(w.tip()).Segments })
		if took := time.Since(start); took > grace+grace/8+2*time.Second {
			t.Errorf("deleted after %v", took)
		}
		w.nothingMissing()
		// Former roots go too; an idle partition then commits no more.
		time.Sleep(2 * grace)
		before, _, _ := b.md.RemotePointer(t.Context(), w.tip())
		roots := 0
		for key := range w.objects() {
			if strings.Contains(key, "/manifest/") {
				roots++
			}
		}
		time.Sleep(10 * grace)
		after, _, _ := b.md.RemotePointer(t.Context(), w.tip())
		if roots != 1 || before != after {
			t.Errorf("%d roots left, pointer went from %d to %d", roots, before.Sequence, after.Sequence)
		}
	})
}

func TestPendingDeletionsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := settings{config: smallLog(), o: Options{Grace: time.Minute}}
		b := w.mustStart(s)
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		cfg := b.log.Config()
		cfg.RetentionBytes = 8 << 10
		b.log.SetConfig(cfg)
		settle(t, "segments expire", func() bool { return b.log.LogStart() > 0 && b.m.View(w.tip()).StartOffset >= b.log.LogStart() })
		b.close()
		b.dir = nil
		w.elect()
		b = w.mustStart(s)
		b.log.SetHighWatermark(b.log.LogEnd())
		time.Sleep(90 * time.Second)
		settle(t, "what the former leader expired is deleted", func() bool {
			v := b.m.View(w.tip())
			return v.Loaded && int64(w.segmentsInBucket()) == 2*v.Segments
		})
	})
}

// TestNothingExpiresBeforeTheViewIsLoaded: KAFKA-20732.
func TestNothingExpiresBeforeTheViewIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		b.close()
		b.dir = nil
		w.elect()
		var blind atomic.Bool
		blind.Store(true)
		store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			if blind.Load() && op.Kind == object.OpGet {
				return object.ErrUnavailable
			}
			return nil
		})
		cfg := smallLog()
		cfg.RetentionBytes, cfg.RetentionAge = 1, time.Millisecond
		b = w.mustStart(settings{config: cfg, store: store})
		b.log.SetHighWatermark(b.log.LogEnd())
		for range 20 {
			time.Sleep(time.Second)
			if err := b.evict(); err != nil {
				t.Fatal(err)
			}
		}
		if b.log.LogStart() != 0 || b.log.LocalLogStart() != 0 {
			t.Fatalf("log starts at %d, local at %d, view %+v", b.log.LogStart(), b.log.LocalLogStart(), b.m.View(w.tip()))
		}
		blind.Store(false)
		settle(t, "retention goes on", func() bool { return b.log.LogStart() > 0 })
	})
}

func TestRetentionByTimeGoesByTheRecordsTimestamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Records lie 10 ms apart from testTime(0), which is far behind the bubble's clock.
		time.Sleep(time.Until(time.UnixMilli(testTime(0)).Add(time.Hour)))
		w := newWorld(t)
		cfg := smallLog()
		b := w.mustStart(settings{config: cfg})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		cfg.RetentionAge = time.Since(time.UnixMilli(testTime(75)))
		b.log.SetConfig(cfg)
		settle(t, "old segments expire", func() bool { return b.log.LogStart() > 0 })
		if s := b.log.LogStart(); s > 75+20 || s < 40 {
			t.Errorf("log starts at %d, record 75 is at the limit", s)
		}
	})
}

func TestDeleteRecordsIsRememberedByTheTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.log.SetLogStart(73); err != nil {
			t.Fatal(err)
		}
		settle(t, "the manifest knows the log start", func() bool {
			root, err := b.m.Root(t.Context(), w.tip())
			return err == nil && root.LogStartOffset == 73
		})
		found, ok, err := b.m.OffsetForTimestamp(t.Context(), w.tip(), testTime(10), 0)
		if err != nil || !ok || found.Offset != 73 {
			t.Errorf("first record of that time: %+v, %v, %v; want 73", found, ok, err)
		}
		if v := b.m.View(w.tip()); v.StartOffset != 73 {
			t.Errorf("view starts at %d", v.StartOffset)
		}
	})
}

func TestCopyDisabledStopsCopiesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var disabled atomic.Bool
		b := w.mustStart(settings{config: smallLog(), o: Options{Topic: func(string) upload.TopicSettings {
			return upload.TopicSettings{CopyDisabled: disabled.Load(), CopyLagBytes: -1}
		}}})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		disabled.Store(true)
		before := b.m.View(w.tip()).HighestOffset
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := b.m.View(w.tip()).HighestOffset; got != before {
			t.Errorf("copied from %d to %d", before, got)
		}
		if d, err := b.m.Read(t.Context(), w.tip(), 0, readAnything); err != nil {
			t.Error(err)
		} else {
			d.Release()
		}
		disabled.Store(false)
		b.uploaded()
	})
}

func TestPurgeDeletesATopicAfterGraceAndItsPointersLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), o: Options{Grace: time.Minute}})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.md.DeleteTopic(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		b.m.Resign(w.tip())
		stones := b.md.Image().Tombstones()
		if len(stones) != 1 {
			t.Fatalf("tombstones %+v", stones)
		}
		if done, err := b.m.Purge(t.Context(), stones[0]); done || err != nil || w.segmentsInBucket() == 0 {
			t.Fatalf("before the grace period: %v, %v", done, err)
		}
		time.Sleep(time.Minute)
		done, err := b.m.Purge(t.Context(), stones[0])
		if err == nil && !done { // the second look found something, and the tombstone says now what is going on
			stones = b.md.Image().Tombstones()
			done, err = b.m.Purge(t.Context(), stones[0])
		}
		if !done || err != nil {
			t.Fatalf("after the grace period: %v, %v", done, err)
		}
		if left := w.objects(); len(left) != 0 {
			t.Errorf("left in the bucket: %v", left)
		}
		if _, ok, err := b.md.RemotePointer(t.Context(), w.tip()); ok || err != nil {
			t.Errorf("pointer is left: %v, %v", ok, err)
		}
		if done, err := b.m.Purge(t.Context(), stones[0]); !done || err != nil {
			t.Errorf("again: %v, %v", done, err)
		}
	})
}

func TestTopicFileFollowsTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		resource := metadata.Resource{Kind: metadata.TopicResource, Name: "orders"}
		if err := b.md.AlterConfigs(t.Context(), resource, map[string]string{"retention.ms": "12345"}, nil, false); err != nil {
			t.Fatal(err)
		}
		settle(t, "topic.json has the new setting", func() bool {
			f, err := bucket.DecodeTopicFile(body(t, w.store, "c1/"+manifest.TopicDir("orders", w.topic.ID)+"topic.json"))
			return err == nil && f.Configs["retention.ms"] == "12345"
		})
	})
}

// TestRefusedDeletionsAreTriedAgainAfterPausesThatGrow: a bucket whose policy forbids them is not asked at every turn.
func TestRefusedDeletionsAreTriedAgainAfterPausesThatGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var refuse atomic.Bool
		var asked atomic.Int64
		refuse.Store(true)
		store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			if op.Kind == object.OpDelete && refuse.Load() {
				asked.Add(1)
				return object.ErrAccess
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store, o: Options{Grace: time.Minute, Poll: time.Second, Interval: 10 * time.Second}})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		cfg := b.log.Config()
		cfg.RetentionBytes = 8 << 10
		b.log.SetConfig(cfg)
		time.Sleep(2 * time.Hour)
		// 10, 20, 40 … seconds up to half an hour, for two items of the list.
		if n := asked.Load(); n == 0 || n > 40 {
			t.Errorf("%d deletions were asked for in two hours, in 720 rounds of housekeeping", n)
		}
		refuse.Store(false)
		time.Sleep(time.Hour)
		if v := b.m.View(w.tip()); int64(w.segmentsInBucket()) != 2*v.Segments {
			t.Errorf("%d objects for %d segments once deletions work", w.segmentsInBucket(), v.Segments)
		}
	})
}

// TestRetentionBySizeCountsOnceWhatLogAndTierBothHave: a leader's segments end elsewhere than those that an earlier one
// copied.
func TestRetentionBySizeCountsOnceWhatLogAndTierBothHave(t *testing.T) {
	w := newWorld(t)
	former := w.mustStart(settings{config: smallLog()})
	if err := former.produce(100); err != nil {
		t.Fatal(err)
	}
	former.uploaded()
	former.close()

	cfg, disk := smallLog(), vfs.NewMem()
	cfg.SegmentBytes = 1 << 20
	b := w.mustStart(settings{fs: disk, config: cfg, noLead: true, noRun: true})
	if err := b.produce(100); err != nil {
		t.Fatal(err)
	}
	all := b.log.LocalBytes()
	b.close()
	for _, over := range []int64{0, 1, 16 << 10} {
		cfg.RetentionBytes = all - over
		b = w.mustStart(settings{fs: disk, config: cfg, noLead: true, noRun: true})
		man, err := b.m.current(t.Context(), b.m.partition(w.tip()), true)
		if err != nil || man.Root == nil || man.End() >= b.log.LogEnd() {
			t.Fatalf("manifest %+v, %v", man.Root, err)
		}
		due, err := b.m.gc.Expired(t.Context(), b.log, man, time.Now())
		if err != nil || (due.Start > 0) != (over > 1) {
			t.Errorf("%d bytes too many: the log starts at %d, %v", over, due.Start, err)
		}
		b.close()
	}
}

// TestHousekeepingOfAnIdlePartitionReadsNothing, however small the memory for manifests is, and goes on when the next
// segment expires or a limit changes.
func TestHousekeepingOfAnIdlePartitionReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var gets atomic.Int64
		store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			if op.Kind == object.OpGet && !op.After {
				gets.Add(1)
			}
			return nil
		})
		cfg := smallLog()
		cfg.SegmentBytes = 400
		cfg.RetentionAge = 5 * time.Hour
		time.Sleep(time.Until(time.UnixMilli(testTime(0)).Add(time.Hour)))
		b := w.mustStart(settings{config: cfg, store: store, o: Options{Interval: 30 * time.Second, Poll: time.Second, MetaBytes: 1, Grace: time.Minute}})
		if err := b.produce(300); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		time.Sleep(2 * time.Hour) // former roots are deleted
		gets.Store(0)
		time.Sleep(time.Hour)
		if n := gets.Load(); n > 0 {
			t.Errorf("%d GETs in an idle hour", n)
		}
		last := b.log.Sealed(0)[0].LastOffset
		if b.log.LogStart() != 0 {
			t.Fatalf("log start %d", b.log.LogStart())
		}
		cfg.RetentionBytes = 1 << 10
		b.log.SetConfig(cfg)
		time.Sleep(time.Minute)
		if b.log.LogStart() <= last {
			t.Errorf("another limit does not count: log start %d", b.log.LogStart())
		}
		cfg.RetentionBytes = -1
		b.log.SetConfig(cfg)
		time.Sleep(5 * time.Hour)
		if v := b.m.View(w.tip()); v.Segments > 0 || b.log.LogStart() == 0 {
			t.Errorf("after its time the tier has %d segments, the log start is %d", v.Segments, b.log.LogStart())
		}
	})
}

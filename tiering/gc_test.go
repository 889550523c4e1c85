package tiering

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// skewed is a store whose clock is off, and that may have multipart uploads.
type skewed struct {
	object.Store
	by time.Duration

	mu      sync.Mutex
	open    []object.Upload
	aborted []object.Upload
}

func (s *skewed) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		for info, err := range s.Store.List(ctx, prefix, after) {
			info.Modified = info.Modified.Add(s.by)
			if !yield(info, err) {
				return
			}
		}
	}
}

func (s *skewed) Uploads(_ context.Context, prefix string) iter.Seq2[object.Upload, error] {
	return func(yield func(object.Upload, error) bool) {
		s.mu.Lock()
		all := slices.Clone(s.open)
		s.mu.Unlock()
		for _, u := range all {
			u.Initiated = u.Initiated.Add(s.by)
			if strings.HasPrefix(u.Key, prefix) && !yield(u, nil) {
				return
			}
		}
	}
}

func (s *skewed) Abort(_ context.Context, u object.Upload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = append(s.aborted, u)
	s.open = slices.DeleteFunc(s.open, func(o object.Upload) bool { return o.ID == u.ID })
	return nil
}

func (s *skewed) abortedIDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, u := range s.aborted {
		ids = append(ids, u.ID)
	}
	slices.Sort(ids)
	return ids
}

func (w *world) dir() string { return manifest.PartitionDir("orders", w.tip()) }

func (w *world) put(key string) {
	w.t.Helper()
	if _, err := w.store.Put(context.WithoutCancel(w.t.Context()), "c1/"+key, object.Bytes([]byte("x")), object.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) has(key string) bool { _, ok := w.objects()["c1/"+key]; return ok }

func sweepOptions(grace time.Duration) Options {
	return Options{
		Grace: grace, Sweep: time.Minute, Collector: func() bool { return true },
		Poll: 15 * time.Second, Interval: 2 * time.Minute, // hours pass
	}
}

// TestOrphansGoAfterTheGraceAndNothingElse is invariant 5: by two looks, the second a grace period after the first,
// and never what a manifest or its list of deletions names, a copy that is not committed, or a foreign object.
func TestOrphansGoAfterTheGraceAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), o: sweepOptions(time.Hour)})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		orphans := []string{
			w.dir() + manifest.SegmentsDir + manifest.NewStem(0, 0) + manifest.LogSuffix, w.dir() + manifest.SegmentsDir + manifest.NewStem(3, 0) + manifest.IndexSuffix,
			w.dir() + manifest.SegmentsDir + manifest.NewStem(1<<40, 0) + manifest.LogSuffix,
			manifest.NodeKey(w.dir(), manifest.NewNodeName(7)), manifest.NodeKey(w.dir(), manifest.RootName(0, 0)),
		}
		foreign := []string{w.dir() + "notes.txt", w.dir() + manifest.SegmentsDir + "x.log", "topics/x/y", "topics/zzz", "other/" + manifest.NewStem(0, 0) + manifest.LogSuffix}
		for _, key := range append(slices.Clone(orphans), foreign...) {
			w.put(key)
		}
		named := w.nothingMissing()
		time.Sleep(2*time.Hour - 10*time.Minute) // old enough, and known for less than the grace period
		for _, key := range orphans {
			if !w.has(key) {
				t.Errorf("%s was deleted early", key)
			}
		}
		time.Sleep(30 * time.Minute)
		for _, key := range orphans {
			if w.has(key) {
				t.Errorf("orphan %s is left", key)
			}
		}
		for _, key := range foreign {
			if !w.has(key) {
				t.Errorf("foreign %s was deleted", key)
			}
		}
		for key := range named {
			if _, ok := w.objects()[key]; !ok {
				t.Errorf("%s was deleted", key)
			}
		}
		w.nothingMissing()
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Fatal(err)
		}
		if err := b.produce(60); err != nil { // the pointer was swapped for itself: commits go on
			t.Fatal(err)
		}
		b.uploaded()
		w.nothingMissing()
	})
}

// TestWhatWaitsForDeletionIsNoOrphan: the manifest's own list has its own time.
func TestWhatWaitsForDeletionIsNoOrphan(t *testing.T) {
	for _, c := range []settings{{config: smallLog()}, tiny()} { // entries of the tail, entries of leaves
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			c.o = sweepOptions(10 * time.Hour)
			b := w.mustStart(c)
			if err := b.produce(400); err != nil {
				t.Fatal(err)
			}
			b.uploaded()
			time.Sleep(11 * time.Hour) // all are old
			cfg := b.log.Config()
			cfg.RetentionBytes = 4 << 10
			b.log.SetConfig(cfg)
			time.Sleep(5 * time.Hour)
			if _, root := w.named(); len(root.Garbage) < 2 {
				t.Fatalf("garbage is %+v", root.Garbage)
			}
			if n, _ := b.m.gc.Found(); n != 0 {
				t.Errorf("%d orphans are marked", n)
			}
		})
	}
}

// TestClockThatIsOffDeletesNothing: the store's clock is a month behind or ahead of ours, then a day is too little.
func TestClockThatIsOffDeletesNothing(t *testing.T) {
	for _, by := range []time.Duration{-30 * 24 * time.Hour, 30 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			store := &skewed{Store: w.store, by: by}
			b := w.mustStart(settings{config: smallLog(), store: store, o: sweepOptions(24 * time.Hour)})
			if err := b.produce(60); err != nil {
				t.Fatal(err)
			}
			b.uploaded()
			orphan := w.dir() + manifest.SegmentsDir + manifest.NewStem(0, 0) + manifest.LogSuffix
			w.put(orphan)
			time.Sleep(23 * time.Hour)
			if !w.has(orphan) {
				t.Error("deleted within the grace period")
			}
			b.close() // a restart begins the time again
			b.dir = nil
			w.elect()
			b = w.mustStart(settings{config: smallLog(), store: store, o: sweepOptions(24 * time.Hour)})
			time.Sleep(23 * time.Hour)
			if !w.has(orphan) {
				t.Error("deleted by a process that has not known it for the grace period")
			}
			if by < 0 {
				time.Sleep(3 * time.Hour)
				if w.has(orphan) {
					t.Error("never deleted")
				}
			}
			w.nothingMissing()
		})
	}
}

// TestCopyThatWaitsForItsCommitIsNoOrphan is invariant 5: etcd is away for longer than the grace period between the
// copy and the commit, while the bucket and the collector work.
func TestCopyThatWaitsForItsCommitIsNoOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		down := false
		store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if down && op.Kind == object.OpPut && strings.Contains(op.Key, "/"+manifest.ManifestDir) {
				return object.ErrUnavailable
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store, o: sweepOptions(time.Hour)})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		mu.Lock()
		down = true
		mu.Unlock()
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Hour)
		mu.Lock()
		down = false
		mu.Unlock()
		before := map[string]bool{}
		for key := range w.objects() {
			before[key] = true
		}
		b.uploaded()
		names := w.nothingMissing()
		reused := 0
		for key := range names {
			if before[key] && strings.HasSuffix(key, manifest.LogSuffix) {
				reused++
			}
		}
		_, root := w.named()
		if int64(reused) != root.Segments {
			t.Errorf("%d of %d segments were copied again", root.Segments-int64(reused), root.Segments)
		}
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Fatal(err)
		}
	})
}

// TestStaleLeaderCollectsNothing is invariants 5 and 6: a leader that was deposed and does not know it sees what its
// successor copies as orphans.
func TestStaleLeaderCollectsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), o: sweepOptions(time.Hour)})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		w.elect()
		theirs := []string{manifest.NodeKey(w.dir(), manifest.NewNodeName(500))} // its name does not say whose it is
		for _, key := range theirs {
			w.put(key)
		}
		time.Sleep(10 * time.Hour)
		for _, key := range theirs {
			if !w.has(key) {
				t.Errorf("%s was deleted by a deposed leader", key)
			}
		}
	})
}

// TestNothingIsCollectedWhereTheBucketKnowsMoreThanEtcd: etcd was set back to an earlier backup.
func TestNothingIsCollectedWhereTheBucketKnowsMoreThanEtcd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), o: sweepOptions(time.Hour)})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		keys := []string{w.dir() + manifest.SegmentsDir + manifest.NewStem(500, 7) + manifest.LogSuffix, w.dir() + manifest.SegmentsDir + manifest.NewStem(0, 0) + manifest.LogSuffix}
		for _, key := range keys {
			w.put(key)
		}
		time.Sleep(10 * time.Hour)
		for _, key := range keys {
			if !w.has(key) {
				t.Errorf("%s was deleted", key)
			}
		}
	})
}

// TestLeaderlessPartitionsAndGoneTopicsAreCollected, but not by a broker that is not the collector, and not a topic
// that etcd has lost.
func TestLeaderlessPartitionsAndGoneTopicsAreCollected(t *testing.T) {
	for _, collector := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			o := sweepOptions(time.Hour)
			o.Collector = func() bool { return collector }
			b := w.mustStart(settings{config: smallLog(), o: o})
			if err := b.produce(60); err != nil {
				t.Fatal(err)
			}
			b.uploaded()
			b.m.Resign(w.tip())
			from, _ := b.md.Image().PartitionByID(w.tip())
			to := from
			to.Leader, to.LeaderEpoch = metadata.NoBroker, from.LeaderEpoch+1
			if errs := b.md.AlterPartitions(t.Context(), []metadata.PartitionChange{{TopicIDPartition: w.tip(), From: from, To: to}}); errs[0] != nil {
				t.Fatal(errs[0])
			}
			gone := metadata.TopicIDPartition{Topic: metadata.NewTopicID(), Partition: 3}
			lost := metadata.TopicIDPartition{Topic: metadata.NewTopicID()}
			orphans := []string{
				w.dir() + manifest.SegmentsDir + manifest.NewStem(0, 0) + manifest.LogSuffix, manifest.NodeKey(w.dir(), manifest.NewNodeName(7)),
				manifest.PartitionDir("gone", gone) + manifest.SegmentsDir + manifest.NewStem(0, 4) + manifest.LogSuffix, manifest.NodeKey(manifest.PartitionDir("gone", gone), manifest.RootName(4, 1)),
			}
			// Nobody was leader in epoch 1; if somebody was, it could still commit this.
			stay := []string{w.dir() + manifest.SegmentsDir + manifest.NewStem(0, 1) + manifest.LogSuffix, manifest.TopicDir("lost", lost.Topic) + "topic.json", manifest.PartitionDir("lost", lost) + manifest.SegmentsDir + manifest.NewStem(0, 4) + manifest.LogSuffix}
			for _, key := range append(slices.Clone(orphans), stay...) {
				w.put(key)
			}
			time.Sleep(10 * time.Hour)
			for _, key := range orphans {
				if w.has(key) == collector {
					t.Errorf("collector %v: %s is there: %v", collector, key, w.has(key))
				}
			}
			for _, key := range stay {
				if !w.has(key) {
					t.Errorf("%s of a topic that can be recovered was deleted", key)
				}
			}
			w.nothingMissing()
			// Who comes to lead goes on.
			w.elect()
			settle(t, "the election is seen", func() bool { p, _ := b.md.Image().PartitionByID(w.tip()); return p.LeaderEpoch == 2 })
			if err := b.log.AssignEpoch(2, b.log.LogEnd()); err != nil {
				t.Fatal(err)
			}
			b.epoch = 2
			b.m.Lead(w.tip(), 2, b.log)
			if err := b.produce(60); err != nil {
				t.Fatal(err)
			}
			b.uploaded()
			w.nothingMissing()
		})
	}
}

func TestAbandonedUploadsAreAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := &skewed{Store: w.store}
		gone := metadata.TopicIDPartition{Topic: metadata.NewTopicID()}
		key := func(dir string, epoch int32) string {
			return "c1/" + dir + manifest.SegmentsDir + manifest.NewStem(9, epoch) + manifest.LogSuffix
		}
		old := time.Now()
		store.open = []object.Upload{
			{Key: key(w.dir(), 0), ID: "led", Initiated: old}, {Key: key(manifest.PartitionDir("gone", gone), 5), ID: "gone", Initiated: old},
			{Key: key(w.dir(), 1), ID: "a later leader's", Initiated: old}, {Key: key(w.dir(), 0), ID: "young", Initiated: old.Add(9 * time.Hour)},
			{Key: "c1/cluster/1.json", ID: "not ours", Initiated: old},
		}
		b := w.mustStart(settings{config: smallLog(), store: store, o: sweepOptions(4 * time.Hour)})
		time.Sleep(7 * time.Hour)
		if early := store.abortedIDs(); len(early) != 0 {
			t.Errorf("aborted early: %q", early)
		}
		time.Sleep(4 * time.Hour)
		if ids := store.abortedIDs(); !slices.Equal(ids, []string{"gone", "led"}) {
			t.Errorf("aborted %q", ids)
		}
		_ = b
	})
}

// TestLostObjectsAreReported by the collector's rounds, once a HEAD says so too.
func TestLostObjectsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), o: sweepOptions(time.Hour)})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		time.Sleep(10 * time.Minute)
		if _, n := b.m.gc.Found(); n != 0 {
			t.Fatalf("%d objects missing", n)
		}
		for key := range w.objects() {
			if strings.HasSuffix(key, manifest.LogSuffix) {
				if err := w.store.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		time.Sleep(10 * time.Minute)
		if _, n := b.m.gc.Found(); n != 1 {
			t.Errorf("%d objects missing, want 1", n)
		}
	})
}

// TestPurgeAndUndeleteNeverBothHappen at the level of the bucket: once its first object is gone a topic cannot come
// back, and while it can come back nothing is gone.
func TestPurgeAndUndeleteNeverBothHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog(), o: Options{Grace: time.Minute}})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		for _, undeleteFirst := range []bool{true, false} {
			if err := b.md.DeleteTopic(t.Context(), "orders"); err != nil {
				t.Fatal(err)
			}
			b.m.Resign(w.tip())
			grave := b.md.Image().Tombstones()[0]
			time.Sleep(2 * time.Minute)
			if undeleteFirst {
				if _, err := b.md.UndeleteTopic(t.Context(), w.topic.ID); err != nil {
					t.Fatal(err)
				}
				before := len(w.objects())
				if done, err := b.m.Purge(t.Context(), grave); done || !errors.Is(err, metadata.ErrConflict) || len(w.objects()) != before {
					t.Fatalf("purge of a topic that came back: %v, %v", done, err)
				}
				w.nothingMissing()
				continue
			}
			store := b.m.bucket.Store
			b.m.bucket.Store = object.WithFaults(store, func(_ context.Context, op object.Op) error {
				if op.Kind == object.OpDelete && !strings.HasSuffix(op.Key, "topic.json") {
					return object.ErrAccess
				}
				return nil
			})
			if done, err := b.m.Purge(t.Context(), grave); done || err == nil {
				t.Fatalf("purge: %v, %v", done, err)
			}
			b.m.bucket.Store = store
			if w.has(manifest.TopicDir("orders", w.topic.ID) + "topic.json") {
				t.Error("topic.json did not go first")
			}
			if _, err := b.md.UndeleteTopic(t.Context(), w.topic.ID); !errors.Is(err, metadata.ErrPurging) {
				t.Errorf("undelete of a topic whose data goes: %v", err)
			}
		}
	})
}

// TestHandedOverObjectsAreLookedAtAgain: between the look and the deletion the manifest may have come to name them,
// and the next commit may use a root's name.
func TestHandedOverObjectsAreLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := filled(t, tiny(), 600)
		pointer, _, _ := b.md.RemotePointer(t.Context(), w.tip())
		next := manifest.NodeKey(w.dir(), manifest.RootName(pointer.LeaderEpoch, pointer.Sequence+1))
		orphan := w.dir() + manifest.SegmentsDir + manifest.NewStem(0, 0) + manifest.LogSuffix
		w.put(next)
		w.put(orphan)
		keys := []string{next, orphan, w.dir() + "notes.txt"}
		for key := range w.nothingMissing() {
			keys = append(keys, strings.TrimPrefix(key, "c1/"))
		}
		p := parts{b.m}.Find(w.tip())
		err := p.Do(t.Context(), b.m.gc.Deletion(p, keys))
		if err != nil || w.has(orphan) || !w.has(next) {
			t.Errorf("%v; the orphan is there: %v, the root: %v", err, w.has(orphan), w.has(next))
		}
		w.nothingMissing()
	})
}

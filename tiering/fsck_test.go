package tiering

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

func (b *broker) fsck(o gc.FsckOptions) ([]gc.Problem, gc.FsckSummary) {
	b.t.Helper()
	var found []gc.Problem
	sum, err := b.m.Fsck(b.t.Context(), o, func(p gc.Problem) { found = append(found, p) }, func(gc.FsckSummary) {})
	if err != nil {
		b.t.Fatal(err)
	}
	if sum.Problems != int64(len(found)) {
		b.t.Errorf("%d problems in the summary, %d reported", sum.Problems, len(found))
	}
	return found, sum
}

func (b *broker) verify(o gc.VerifyOptions) ([]gc.Problem, gc.VerifySummary) {
	b.t.Helper()
	var found []gc.Problem
	sum, err := b.m.Verify(b.t.Context(), o, func(p gc.Problem) { found = append(found, p) }, func(gc.VerifySummary) {})
	if err != nil {
		b.t.Fatal(err)
	}
	return found, sum
}

func kinds(all []gc.Problem) []string {
	var out []string
	for _, p := range all {
		out = append(out, p.Kind)
	}
	slices.Sort(out)
	return out
}

// keysOf are the committed segments' objects, oldest first.
func (w *world) keysOf(suffix string) []string {
	names, _ := w.named()
	var out []string
	for key := range names {
		if strings.HasSuffix(key, suffix) && strings.Contains(key, "/"+manifest.SegmentsDir) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) overwrite(key string, change func([]byte) []byte) {
	w.t.Helper()
	b := change(body(w.t, w.store, key))
	if _, err := w.store.Put(w.t.Context(), key, object.Bytes(b), object.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		out := slices.Clone(b)
		out[at] ^= 1
		return out
	}
}

func filled(t *testing.T, c settings, records int) (*world, *broker) {
	w := newWorld(t)
	if c.o.Sweep == 0 {
		c.o.Sweep = -1
	}
	b := w.mustStart(c)
	if err := b.produce(records); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	return w, b
}

// TestFsckFindsEachKindOfDamageAndChangesNothing without being told to repair.
func TestFsckFindsEachKindOfDamageAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := filled(t, tiny(), 600)
		if found, sum := b.fsck(gc.FsckOptions{}); len(found) != 0 || sum.Partitions != 1 || sum.Segments < 200 || sum.Young != 0 {
			t.Fatalf("a sound tier: %+v, %+v", found, sum)
		}
		logs, idx := w.keysOf(manifest.LogSuffix), w.keysOf(manifest.IndexSuffix)
		if err := w.store.Delete(t.Context(), logs[0], idx[250]); err != nil { // of a leaf, of the tail
			t.Fatal(err)
		}
		w.overwrite(logs[5], func(b []byte) []byte { return b[:10] })
		w.overwrite(idx[6], flip(3))
		lost := metadata.NewTopicID()
		w.put(manifest.TopicDir("lost", lost) + "topic.json")
		w.put(manifest.TopicDir("gone", metadata.NewTopicID()) + "0/" + manifest.SegmentsDir + manifest.NewStem(0, 0) + manifest.LogSuffix)
		w.put(w.dir() + manifest.SegmentsDir + manifest.NewStem(9, 0) + manifest.LogSuffix)
		w.put(w.dir() + "notes.txt")
		if found, sum := b.fsck(gc.FsckOptions{Topic: "orders"}); sum.Young != 1 || slices.Contains(kinds(found), gc.ProblemOrphan) {
			t.Errorf("within the grace period: %v, %+v", kinds(found), sum)
		}
		time.Sleep(2 * time.Second) // former roots go, too
		before := w.objects()
		found, _ := b.fsck(gc.FsckOptions{})
		want := []string{gc.ProblemForeign, gc.ProblemMissing, gc.ProblemMissing, gc.ProblemOrphan, gc.ProblemOrphan, gc.ProblemUnknown, gc.ProblemChecksum, gc.ProblemSize}
		slices.Sort(want)
		if diff := cmp.Diff(want, kinds(found)); diff != "" {
			t.Errorf("kinds (-want +got):\n%s\n%+v", diff, found)
		}
		if found, _ := b.fsck(gc.FsckOptions{Quick: true, Topic: "orders"}); slices.Contains(kinds(found), gc.ProblemChecksum) || len(found) != 5 {
			t.Errorf("quick: %v", kinds(found))
		}
		if diff := cmp.Diff(before, w.objects()); diff != "" {
			t.Errorf("objects changed:\n%s", diff)
		}
	})
}

func TestFsckFindsBrokenManifests(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(w *world, root string, leaf string)
		want  string
	}{
		"root gone":    {func(w *world, root, _ string) { _ = w.store.Delete(w.t.Context(), root) }, gc.ProblemPointer},
		"root damaged": {func(w *world, root, _ string) { w.overwrite(root, flip(200)) }, gc.ProblemManifest},
		"leaf gone":    {func(w *world, _, leaf string) { _ = w.store.Delete(w.t.Context(), leaf) }, gc.ProblemManifest},
		"leaf damaged": {func(w *world, _, leaf string) { w.overwrite(leaf, flip(300)) }, gc.ProblemManifest},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, b := filled(t, tiny(), 600)
				names, _ := w.named()
				var leaf string
				for key := range names {
					if strings.Contains(key, "/leaf-") {
						leaf = key
					}
				}
				pointer, _, _ := b.md.RemotePointer(t.Context(), w.tip())
				c.spoil(w, "c1/"+pointer.Manifest, leaf)
				if found, _ := b.fsck(gc.FsckOptions{}); !slices.Contains(kinds(found), c.want) || found[0].Object == "" {
					t.Errorf("got %+v", found)
				}
			})
		})
	}
}

// TestRepairPutsBackWhatTheLocalLogHas: under new names, by an ordinary commit, the same bytes; of entries in the
// tail, in a leaf and below a node.
func TestRepairPutsBackWhatTheLocalLogHas(t *testing.T) {
	for name, c := range map[string]settings{"few segments": {config: smallLog()}, "sealed leaves": tiny()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, b := filled(t, c, 600)
				logs, idx := w.keysOf(manifest.LogSuffix), w.keysOf(manifest.IndexSuffix)
				last := len(logs) - 1
				_, root := w.named()
				if err := w.store.Delete(t.Context(), logs[1], idx[last], logs[last/2], idx[last/2]); err != nil {
					t.Fatal(err)
				}
				w.overwrite(logs[last-1], flip(60))
				w.overwrite(idx[3], func(b []byte) []byte { return b[:20] })
				if found, sum := b.fsck(gc.FsckOptions{Repair: true}); len(found) != 6 || sum.Repaired != 6 {
					t.Fatalf("repaired %d of %+v", sum.Repaired, found)
				}
				now := w.nothingMissing()
				for _, bad := range []string{logs[1], idx[last], logs[last-1], idx[3]} {
					if now[bad] {
						t.Errorf("the manifest still names %s", bad)
					}
				}
				if found, _ := b.fsck(gc.FsckOptions{}); len(found) != 0 {
					t.Errorf("after the repair: %+v", found)
				}
				if found, sum := b.verify(gc.VerifyOptions{}); len(found) != 0 || sum.Segments != root.Segments {
					t.Errorf("after the repair: %+v, %+v", found, sum)
				}
				if err := b.evict(); err != nil {
					t.Fatal(err)
				}
				if b.log.LocalLogStart() == 0 {
					t.Fatal("nothing was evicted")
				}
				if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
					t.Fatal(err)
				}
				if err := b.produce(60); err != nil {
					t.Fatal(err)
				}
				b.uploaded()
			})
		})
	}
}

// TestRepairNeverReplacesByOtherBytes, and says why it did nothing.
func TestRepairNeverReplacesByOtherBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := filled(t, settings{config: smallLog()}, 300)
		logs := w.keysOf(manifest.LogSuffix)
		if err := b.evict(); err != nil { // the local copies go
			t.Fatal(err)
		}
		w.overwrite(logs[0], flip(60))
		before := w.objects()
		found, sum := b.verify(gc.VerifyOptions{Repair: true})
		if len(found) != 1 || sum.Repaired != 0 || !strings.Contains(found[0].Action, upload.ErrNoSource.Error()) {
			t.Errorf("got %+v, %+v", found, sum)
		}
		b.m.Resign(w.tip())
		if found, _ := b.verify(gc.VerifyOptions{Repair: true}); len(found) != 1 || !strings.Contains(found[0].Action, "only the partition's leader") {
			t.Errorf("got %+v", found)
		}
		if diff := cmp.Diff(before, w.objects()); diff != "" {
			t.Errorf("objects changed:\n%s", diff)
		}
	})
}

// TestVerifyReadsEveryByte: a bit flipped anywhere in any object is found, with the store knowing no checksums.
func TestVerifyReadsEveryByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := filled(t, settings{config: smallLog()}, 60)
		_, root := w.named()
		found, sum := b.verify(gc.VerifyOptions{})
		if len(found) != 0 || sum.Segments != root.Segments {
			t.Fatalf("a sound tier: %+v, %+v", found, sum)
		}
		for _, suffix := range []string{manifest.LogSuffix, manifest.IndexSuffix} {
			key := w.keysOf(suffix)[0]
			good := body(t, w.store, key)
			for at := 0; at < len(good); at += 1 + len(good)/200 {
				w.overwrite(key, flip(at))
				found, _ := b.verify(gc.VerifyOptions{Topic: "orders"})
				if len(found) != 1 || found[0].Kind != gc.ProblemCorrupt || "c1/"+found[0].Object != key {
					t.Fatalf("byte %d of %s: %+v", at, key, found)
				}
				w.overwrite(key, func([]byte) []byte { return good })
			}
		}
	})
}

func TestVerifyKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b := filled(t, settings{config: smallLog()}, 3000)
		start := time.Now()
		_, sum := b.verify(gc.VerifyOptions{Rate: 100_000})
		took := time.Since(start).Seconds()
		if want := float64(sum.Bytes)/100_000 - 1; took < want || took > want+3 { // a second's burst
			t.Errorf("%d bytes took %.1f s, want %.1f", sum.Bytes, took, want)
		}
	})
}

// TestScrubRepairsInTheBackground: damage that nobody reads is found and made good.
func TestScrubRepairsInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := settings{config: smallLog(), o: Options{ScrubRate: 1 << 20, Poll: time.Second, Interval: time.Minute}}
		w, b := filled(t, c, 300)
		w.overwrite(w.keysOf(manifest.LogSuffix)[1], flip(60))
		time.Sleep(5 * 24 * time.Hour)
		if found, _ := b.verify(gc.VerifyOptions{}); len(found) != 0 {
			t.Errorf("not repaired: %+v", found)
		}
		w.nothingMissing()
	})
}

// TestRepairDeletesOrphansByTheCollectorsRules: what it first sees stays until it was known for the grace period.
func TestRepairDeletesOrphansByTheCollectorsRules(t *testing.T) {
	for _, led := range []bool{true, false} {
		t.Run(fmt.Sprint("led ", led), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, b := filled(t, settings{config: smallLog(), o: Options{Grace: time.Hour, Poll: time.Second, Interval: time.Minute}}, 60)
				gone := manifest.PartitionDir("gone", metadata.TopicIDPartition{Topic: metadata.NewTopicID()})
				orphans := []string{w.dir() + manifest.SegmentsDir + manifest.NewStem(9, 0) + manifest.LogSuffix, gone + manifest.SegmentsDir + manifest.NewStem(9, 0) + manifest.LogSuffix}
				for _, key := range orphans {
					w.put(key)
				}
				if !led {
					b.m.Resign(w.tip())
				}
				time.Sleep(2 * time.Hour)
				if found, sum := b.fsck(gc.FsckOptions{Repair: true}); len(found) != 2 || sum.Repaired != 0 || !w.has(orphans[0]) {
					t.Errorf("at first sight: %+v", found)
				}
				time.Sleep(2 * time.Hour)
				found, sum := b.fsck(gc.FsckOptions{Repair: true})
				if len(found) != 2 || w.has(orphans[1]) || w.has(orphans[0]) == led || sum.Repaired != map[bool]int64{true: 2, false: 1}[led] {
					t.Errorf("later: %+v, %+v", found, sum)
				}
				w.nothingMissing()
			})
		})
	}
}

// TestFsckSeesTopicsThatMayComeBack: what an undelete needs must be there.
func TestFsckSeesTopicsThatMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := filled(t, settings{config: smallLog()}, 300)
		logs := w.keysOf(manifest.LogSuffix)
		if err := b.md.DeleteTopic(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		b.m.Resign(w.tip())
		if found, sum := b.fsck(gc.FsckOptions{}); len(found) != 0 || sum.Partitions != 1 {
			t.Errorf("got %+v, %+v", found, sum)
		}
		if err := w.store.Delete(context.WithoutCancel(t.Context()), logs[0]); err != nil {
			t.Fatal(err)
		}
		if found, _ := b.fsck(gc.FsckOptions{Topic: "orders"}); len(found) != 1 || found[0].Kind != gc.ProblemMissing {
			t.Errorf("got %+v", found)
		}
	})
}

// TestEmptiedTierSaysWhereItEnded: a replica with an empty disk gives no offset out twice.
func TestEmptiedTierSaysWhereItEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := filled(t, settings{config: smallLog()}, 300)
		_, before := w.named()
		if err := b.log.SetLogStart(b.log.HighWatermark()); err != nil {
			t.Fatal(err)
		}
		settle(t, "all is dropped", func() bool { r, err := b.m.Root(t.Context(), w.tip()); return err == nil && r.Segments == 0 })
		aux, ok, err := b.m.AuxState(t.Context(), w.tip())
		if err != nil || !ok || aux.EndOffset != before.EndOffset || aux.LogStart != b.log.HighWatermark() {
			t.Errorf("got %+v, %v, %v; the tier ended at %d, the log starts at %d", aux, ok, err, before.EndOffset, b.log.LogStart())
		}
	})
}

package tiering

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// setBack has the tier's pointer be what a backup of etcd has, and the brokers come back. It returns the segments that
// only the newer manifest names and the local log no longer has.
func (w *world) setBack(b *broker, backup metadata.RemotePointer) (only []string) {
	w.t.Helper()
	now, _, err := b.md.RemotePointer(w.t.Context(), w.tip())
	if err != nil {
		w.t.Fatal(err)
	}
	local := b.log.LocalLogStart()
	b.close()
	b.dir = nil
	md, err := metadata.Open(w.t.Context(), metadata.Options{KV: w.kv})
	if err != nil {
		w.t.Fatal(err)
	}
	if backup.Manifest == "" {
		err = md.DeleteRemotePointer(w.t.Context(), w.tip(), now)
	} else {
		_, err = md.SwapRemotePointer(w.t.Context(), w.tip(), now, b.epoch, backup)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.elect()
	for key := range w.objects() {
		_, _, n, ok := manifest.ParsePartitionKey(strings.TrimPrefix(key, "c1/"))
		if ok && n.Kind == manifest.KindSegment && n.Base >= backup.EndOffset && n.Base < local {
			only = append(only, strings.TrimPrefix(key, "c1/"))
		}
	}
	if len(only) == 0 {
		w.t.Fatal("the local log has all that the backup lacks")
	}
	return only
}

// aheadOfBackup is a broker whose tier has gone on since a backup of etcd, without or after a first upload.
func aheadOfBackup(t *testing.T, w *world, o Options, first bool) (*broker, metadata.RemotePointer) {
	t.Helper()
	b := w.mustStart(settings{config: smallLog(), o: o})
	var backup metadata.RemotePointer
	if first {
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		var err error
		if backup, _, err = b.md.RemotePointer(t.Context(), w.tip()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.produce(300); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	if err := b.evict(); err != nil {
		t.Fatal(err)
	}
	return b, backup
}

// TestEtcdSetBackLosesNothingOfTheTier: the pointer follows the newest manifest in the bucket, whether the backup's own
// is still there or not, and whether it had one.
func TestEtcdSetBackLosesNothingOfTheTier(t *testing.T) {
	for _, c := range []struct {
		name    string
		first   bool
		forgets bool // the backup's root is deleted by then
	}{{name: "after an upload", first: true}, {name: "before the first upload"}, {name: "a root that is gone", first: true, forgets: true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				o := sweepOptions(time.Hour)
				b, backup := aheadOfBackup(t, w, o, c.first)
				end := b.log.LogEnd()
				only := w.setBack(b, backup)
				if c.forgets {
					if err := w.store.Delete(t.Context(), "c1/"+backup.Manifest); err != nil {
						t.Fatal(err)
					}
				}
				b = w.mustStart(settings{config: smallLog(), o: o})
				b.log.SetHighWatermark(b.log.LogEnd())
				time.Sleep(4 * time.Hour)
				for _, key := range only {
					if !w.has(key) {
						t.Errorf("%s held the only copy and was deleted", key)
					}
				}
				if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
					t.Errorf("records up to %d: %v", end, err)
				}
				if err := b.produce(60); err != nil {
					t.Fatal(err)
				}
				b.uploaded()
				w.nothingMissing()
			})
		})
	}
}

// TestManifestThatDisagreesWithTheLogHoldsAllDeletion: the disk was set back as far as etcd. The newer manifest in the
// bucket is neither taken, since offsets may have been given away again, nor collected, and nothing is copied beside it.
func TestManifestThatDisagreesWithTheLogHoldsAllDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := sweepOptions(time.Hour)
		b, backup := aheadOfBackup(t, w, o, true)
		w.setBack(b, backup)
		before := w.objects()
		b = w.mustStart(settings{config: smallLog(), o: o, noLead: true})
		if err := b.log.TruncateFullyAndStartAt(backup.EndOffset, 0); err != nil {
			t.Fatal(err)
		}
		b.m.Lead(w.tip(), b.epoch, b.log)
		if err := b.produce(200); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Hour)
		after := w.objects()
		for key := range before {
			if _, ok := after[key]; !ok {
				t.Errorf("%s was deleted", key)
			}
		}
		if len(after) != len(before) {
			t.Errorf("%d objects before, %d after: something was copied", len(before), len(after))
		}
		pointer, _, err := b.md.RemotePointer(t.Context(), w.tip())
		if err != nil || pointer.Manifest != backup.Manifest {
			t.Errorf("pointer %q, want the backup's %q: %v", pointer.Manifest, backup.Manifest, err)
		}
		if all := b.m.Status(time.Now()); len(all) != 1 || all[0].Held == "" {
			t.Errorf("status %+v does not say that the partition waits", all)
		}
		if !b.m.KeepLog(w.tip()) {
			t.Error("the log cannot be chosen")
		}
		b.uploaded()
		if all := b.m.Status(time.Now()); len(all) != 1 || all[0].Held != "" {
			t.Errorf("status %+v says that the partition waits", all)
		}
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Error(err)
		}
		w.nothingMissing()
	})
}

// TestNothingIsCollectedBehindANewerManifest of a partition that nobody leads: who leads next finds out what it is.
func TestNothingIsCollectedBehindANewerManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := sweepOptions(time.Hour)
		b, backup := aheadOfBackup(t, w, o, true)
		only := w.setBack(b, backup)
		b = w.mustStart(settings{config: smallLog(), o: o, noLead: true})
		from, _ := b.md.Image().PartitionByID(w.tip())
		to := from
		to.Leader, to.LeaderEpoch = metadata.NoBroker, from.LeaderEpoch+1
		if errs := b.md.AlterPartitions(t.Context(), []metadata.PartitionChange{{TopicIDPartition: w.tip(), From: from, To: to}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		time.Sleep(4 * time.Hour)
		for _, key := range only {
			if !w.has(key) {
				t.Errorf("%s was deleted", key)
			}
		}
	})
}

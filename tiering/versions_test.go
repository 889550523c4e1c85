package tiering

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/restore"
)

// rewrite replaces a JSON object by what a later release might write: of a version, with replacements in its text.
func (w *world) rewrite(key string, version int, replace ...string) {
	w.t.Helper()
	_, rest, _ := strings.Cut(string(body(w.t, w.store, key)), `"version":1,"crc32c":"`)
	was := string(body(w.t, w.store, key))
	head := was[:len(was)-len(rest)]
	head = strings.Replace(head, `"version":1`, fmt.Sprintf(`"version":%d`, version), 1)
	out := []byte(head + "00000000" + strings.NewReplacer(replace...).Replace(rest[8:]))
	copy(out[len(head):], fmt.Sprintf("%08x", crc32.Checksum(out, crc32.MakeTable(crc32.Castagnoli))))
	if _, err := w.store.Put(w.t.Context(), key, object.Bytes(out), object.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) plan() (*restore.Plan, error) {
	return restore.NewPlan(w.t.Context(), bucket.New(w.store, nil), restore.Options{
		ClusterID: "c1", Brokers: []metadata.BrokerID{1},
		Place: func(_ []metadata.Broker, _, _, _ int) ([][]metadata.BrokerID, error) {
			return [][]metadata.BrokerID{{1}}, nil
		},
	})
}

// twoRoots is a resigned partition with two committed roots.
func (w *world) twoRoots() (b *broker, pointer metadata.RemotePointer) {
	w.t.Helper()
	b = w.mustStart(settings{config: smallLog()})
	for range 2 {
		if err := b.produce(60); err != nil {
			w.t.Fatal(err)
		}
		b.uploaded()
	}
	b.m.Resign(w.tip())
	pointer, _, err := b.md.RemotePointer(w.t.Context(), w.tip())
	if err != nil {
		w.t.Fatal(err)
	}
	return b, pointer
}

// TestRestoreTakesTheNewestRootOfALaterReleaseOrNone: a member that it does not know is no reason to take an older root,
// and neither is a format that it does not know, which ends the restore by name.
func TestRestoreTakesTheNewestRootOfALaterReleaseOrNone(t *testing.T) {
	w := newWorld(t)
	b, pointer := w.twoRoots()
	key := "c1/" + pointer.Manifest
	w.rewrite(key, 1, `"topic":`, `"new_member":1,"topic":`)
	plan, err := w.plan()
	if err != nil || len(plan.Partition) != 1 || plan.Partition[0].EndOffset != pointer.EndOffset {
		t.Fatalf("an unknown member: %+v, %v; want the end %d", plan, err, pointer.EndOffset)
	}
	w.rewrite(key, 2)
	var v *manifest.VersionError
	var o *bucket.ObjectError
	if _, err := w.plan(); !errors.As(err, &v) || v.Version != 2 || v.Newest != 1 || !errors.As(err, &o) || o.Object != key {
		t.Errorf("a newer root: %v", err)
	}
	// fsck and verify say so too, and repair nothing.
	before := w.objects()
	kinds := map[string]int{}
	report := func(p gc.Problem) { kinds[p.Kind]++ }
	if _, err := b.m.Fsck(t.Context(), gc.FsckOptions{Repair: true}, report, func(gc.FsckSummary) {}); err != nil {
		t.Error(err)
	}
	if _, err := b.m.Verify(t.Context(), gc.VerifyOptions{Repair: true}, report, func(gc.VerifySummary) {}); err != nil {
		t.Error(err)
	}
	if len(kinds) != 1 || kinds[gc.ProblemVersion] != 2 || len(w.objects()) != len(before) {
		t.Errorf("found %v, %d objects of %d are left", kinds, len(w.objects()), len(before))
	}
}

// TestRestoreRefusesANewerTopicFileAndSnapshot, rather than do without.
func TestRestoreRefusesANewerTopicFileAndSnapshot(t *testing.T) {
	w := newWorld(t)
	w.twoRoots()
	if err := bucket.New(w.store, nil).PutSnapshot(t.Context(), &bucket.Snapshot{ClusterID: "c1", Brokers: []bucket.SnapshotBroker{{ID: 1}}}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"c1/" + manifest.TopicDir("orders", w.topic.ID) + manifest.TopicFile, "c1/" + bucket.SnapshotKey(1)} {
		was := body(t, w.store, key)
		w.rewrite(key, 2)
		var o *bucket.ObjectError
		if _, err := w.plan(); !errors.Is(err, manifest.ErrVersion) || !errors.As(err, &o) || o.Object != key {
			t.Errorf("%s of a newer format: %v", key, err)
		}
		if _, err := w.store.Put(t.Context(), key, object.Bytes(was), object.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *broker) setRetention(value string) {
	b.t.Helper()
	resource := metadata.Resource{Kind: metadata.TopicResource, Name: "orders"}
	if err := b.md.AlterConfigs(b.t.Context(), resource, map[string]string{"retention.ms": value}, nil, false); err != nil {
		b.t.Fatal(err)
	}
}

// TestTopicFileIsRightAfterAnotherLeaderWroteIt, although this one remembers that it wrote the same before; what a newer
// release put into it stays.
func TestTopicFileIsRightAfterAnotherLeaderWroteIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		key := "c1/" + manifest.TopicDir("orders", w.topic.ID) + manifest.TopicFile
		b := w.mustStart(settings{config: smallLog()})
		b.setRetention("111")
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		time.Sleep(10 * time.Second)
		b.m.Resign(w.tip())
		time.Sleep(time.Second)
		// Another leader, of a newer release, follows a change, and a change back comes when this one leads again.
		w.rewrite(key, 1, `"111"`, `"222"`, `"topic":`, `"new_member":[1],"topic":`)
		b.setRetention("222")
		b.setRetention("111")
		w.elect()
		b.m.Lead(w.tip(), b.epoch+1, b.log)
		time.Sleep(10 * time.Second)
		text := string(body(t, w.store, key))
		file, err := bucket.DecodeTopicFile([]byte(text))
		if err != nil || file.Configs["retention.ms"] != "111" || !strings.Contains(text, `"new_member":[1]`) {
			t.Errorf("%s, %v", text, err)
		}
	})
}

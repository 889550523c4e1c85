package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/restore"
)

// roundRobin is a Place for tests.
func roundRobin(brokers []metadata.Broker, partitions, replicas, start int) ([][]metadata.BrokerID, error) {
	out := make([][]metadata.BrokerID, partitions)
	for p := range out {
		for r := range replicas {
			out[p] = append(out[p], brokers[(start+p+r)%len(brokers)].ID)
		}
	}
	return out, nil
}

// TestBucketSaysWhatEtcdSaid: the newest root below a topic's folder is the one the pointer named.
func TestBucketSaysWhatEtcdSaid(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	for range 5 {
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
	}
	pointer, _, err := b.md.RemotePointer(t.Context(), w.tip())
	if err != nil {
		t.Fatal(err)
	}
	objects := bucket.New(w.store, nil)
	ids, err := objects.Clusters(t.Context())
	if err != nil || !slices.Equal(ids, []string{"c1"}) {
		t.Errorf("clusters %v, %v", ids, err)
	}
	topics, err := objects.Topics(t.Context(), "c1")
	if err != nil || len(topics) != 1 {
		t.Fatalf("%d topics, %v", len(topics), err)
	}
	got := topics[0]
	want := bucket.TopicFile{Topic: "orders", TopicID: w.topic.ID, Partitions: 1, Replicas: 1, Created: w.topic.Created}
	if diff := cmp.Diff(want, got.TopicFile); diff != "" {
		t.Errorf("topic (-want +got):\n%s", diff)
	}
	pointer.ModRevision = 0
	if got.Roots[0].Pointer() != pointer || len(got.Problems) != 0 {
		t.Errorf("pointer %+v, want %+v; problems %v", got.Roots[0].Pointer(), pointer, got.Problems)
	}
	root, err := b.m.Root(t.Context(), w.tip())
	if err != nil || got.Roots[0].NewestTimestamp() != testTime(root.HighestOffset()) {
		t.Errorf("newest record of %d, want %d", got.Roots[0].NewestTimestamp(), testTime(root.HighestOffset()))
	}
}

// TestUnreadableManifestFallsBackToTheOneBefore, and says so.
func TestUnreadableManifestFallsBackToTheOneBefore(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	for range 5 {
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
	}
	b.close()
	var roots []string
	for key := range w.objects() {
		if _, _, ok := manifest.ParseRootName(key[strings.LastIndexByte(key, '/')+1:]); ok {
			roots = append(roots, key)
		}
	}
	slices.Sort(roots)
	objects := bucket.New(w.store, nil)
	for n, key := range slices.Backward(roots) {
		text := bytes.Replace(body(t, w.store, key), []byte(`"segments":`), []byte(`"segmentz":`), 1)
		if _, err := w.store.Put(t.Context(), key, object.Bytes(text), object.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		topics, err := objects.Topics(t.Context(), "c1")
		if err != nil {
			t.Fatal(err)
		}
		root, ok := topics[0].Roots[0]
		bad := len(roots) - n
		if len(topics[0].Problems) != bad || !errors.Is(topics[0].Problems[0], manifest.ErrCorrupt) {
			t.Errorf("%d of %d roots corrupt: problems %v", bad, len(roots), topics[0].Problems)
		}
		if ok != (n > 0) || ok && "c1/"+root.Key != roots[n-1] {
			t.Errorf("%d of %d roots corrupt: takes %v", bad, len(roots), root.Key)
		}
	}
}

// TestStoreThatDoesNotAnswerIsNotTakenForAnEmptyOne: nothing is left out because of a fault that passes.
func TestStoreThatDoesNotAnswerIsNotTakenForAnEmptyOne(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	if err := b.produce(60); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	b.close()
	snap := &bucket.Snapshot{ClusterID: "c1", Brokers: []bucket.SnapshotBroker{{ID: 1}, {ID: 2}}}
	if err := bucket.New(w.store, nil).PutSnapshot(t.Context(), snap); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); ; n++ {
		failed := false
		faulty := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			if op.N == n && !op.After && op.Kind != object.OpRead {
				failed = true
				return fmt.Errorf("%w: by the test", object.ErrUnavailable)
			}
			return nil
		})
		_, err := restore.NewPlan(t.Context(), bucket.New(faulty, nil), restore.Options{ClusterID: "c1", Place: roundRobin})
		if !failed {
			if n < 6 {
				t.Errorf("a plan of %d operations", n)
			}
			return
		}
		if !errors.Is(err, object.ErrUnavailable) {
			t.Errorf("operation %d failed: %v", n, err)
		}
	}
}

// TestTopicFileFollowsTheTopic: what a restore needs is rewritten when the topic changes.
func TestTopicFileFollowsTheTopic(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	if err := b.produce(60); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	if err := b.md.AlterConfigs(t.Context(), metadata.Resource{Kind: metadata.TopicResource, Name: "orders"}, map[string]string{"retention.ms": "5"}, nil, false); err != nil {
		t.Fatal(err)
	}
	if err := b.md.AddPartitions(t.Context(), "orders", [][]metadata.BrokerID{{1}, {1}}); err != nil {
		t.Fatal(err)
	}
	key := "c1/" + manifest.TopicDir("orders", w.topic.ID) + "topic.json"
	settle(t, "topic.json has the new partitions and configuration", func() bool {
		f, err := bucket.DecodeTopicFile(body(t, w.store, key))
		return err == nil && f.Partitions == 3 && f.Configs["retention.ms"] == "5"
	})
}

// TestCopiedTopicIsWholeAndItsOwn: a topic taken over from another cluster has all entries and bytes, under its new
// id, and names no object of the other cluster.
func TestCopiedTopicIsWholeAndItsOwn(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	for range 5 {
		if err := b.produce(200); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
	}
	b.close()
	objects := bucket.New(w.store, nil)
	topics, err := objects.TopicsNamed(t.Context(), "c1", "orders")
	if err != nil || len(topics) != 1 {
		t.Fatal(err)
	}
	var copied int64
	var mu sync.Mutex
	r := restore.TopicCopy{From: "c1", To: "c2", Topic: topics[0], ID: metadata.TopicID{42}, Progress: func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		copied += n
	}}
	for range 2 { // the second time as after a copy that was broken off
		roots, err := restore.CopyTopic(t.Context(), objects, r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := objects.Topics(t.Context(), "c2")
		if err != nil || len(got) != 1 || got[0].TopicID != r.ID || len(got[0].Problems) > 0 {
			t.Fatalf("%+v, %v", got, err)
		}
		if got[0].Roots[0].Pointer() != roots[0].Pointer() {
			t.Errorf("pointer %+v, returned %+v", got[0].Roots[0].Pointer(), roots[0].Pointer())
		}
		have, want := got[0].Roots[0], topics[0].Roots[0]
		if have.StartOffset != want.StartOffset || have.EndOffset != want.EndOffset || have.Bytes != want.Bytes || have.Segments != want.Segments {
			t.Errorf("copy of %d to %d, %d bytes in %d segments, want %d to %d, %d in %d", have.StartOffset, have.EndOffset, have.Bytes, have.Segments,
				want.StartOffset, want.EndOffset, want.Bytes, want.Segments)
		}
		if diff := cmp.Diff(want.Tail, have.Tail); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		dir := func(cluster string, root bucket.Root) string {
			d, err := manifest.DirOf(root.Key)
			if err != nil {
				t.Fatal(err)
			}
			return cluster + "/" + d
		}
		for _, e := range have.Tail {
			for _, suffix := range []string{manifest.LogSuffix, manifest.IndexSuffix} {
				x, y := manifest.SegmentKey(dir("c2", have), e.Object, suffix), manifest.SegmentKey(dir("c1", want), e.Object, suffix)
				if !bytes.Equal(body(t, w.store, x), body(t, w.store, y)) {
					t.Errorf("%s differs", x)
				}
			}
		}
	}
	if copied == 0 {
		t.Error("no progress")
	}
}

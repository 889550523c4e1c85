package tiering

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
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
	snap := testSnapshot()
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
		_, err := Plan(t.Context(), bucket.New(faulty, nil), PlanOptions{ClusterID: "c1", Place: roundRobin})
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

func testSnapshot() *bucket.Snapshot {
	day := time.UnixMilli(1_700_000_000_000).UTC()
	return &bucket.Snapshot{
		ClusterID: "c1", Created: day.UnixMilli(), Brokers: []bucket.SnapshotBroker{{ID: 1, Rack: "a"}, {ID: 2}},
		Topics: []bucket.SnapshotTopic{{
			Topic: "orders", TopicID: metadata.TopicID{1, 2, 3}, Created: day, Configs: map[string]string{"retention.ms": "1"},
			Partitions: []bucket.SnapshotPartition{{Replicas: []metadata.BrokerID{2, 1}, LeaderEpoch: 7, End: 100}, {Replicas: []metadata.BrokerID{1, 2}, LeaderEpoch: 8, End: -1}},
		}},
		Deleted:       []bucket.SnapshotTopic{{Topic: "old", TopicID: metadata.TopicID{4}, Created: day, Deleted: &day, Partitions: []bucket.SnapshotPartition{{Replicas: []metadata.BrokerID{1}, End: -1}}}},
		BrokerConfigs: map[string]map[string]string{"": {"a": "b"}}, NextProducerID: 2000,
		Groups: []bucket.SnapshotGroup{{Group: "g", Topics: []bucket.SnapshotGroupTopic{{Topic: "orders", Partitions: []bucket.SnapshotOffset{
			{Partition: 0, Offset: 50, LeaderEpoch: 8, Metadata: "m"}, {Partition: 1, Offset: 0},
		}}}}},
		Keys: map[string]json.RawMessage{"acls/x": json.RawMessage(`{"any":1}`)},
	}
}

// planned puts a snapshot and one topic with a manifest that ends at 40 into a bucket.
func planned(t *testing.T, change func(*bucket.Snapshot), o PlanOptions) (*RestorePlan, error) {
	t.Helper()
	store := object.NewMem()
	b := bucket.New(store, nil)
	_, ref, err := goldenNode().Encode("leaf-golden")
	if err != nil {
		t.Fatal(err)
	}
	root := goldenRoot(ref)
	text, err := root.Encode()
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, text []byte) {
		if _, err := store.Put(t.Context(), "c1/"+key, object.Bytes(text), object.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put(manifest.NodeKey(manifest.PartitionDir("orders", testTip), manifest.RootName(root.LeaderEpoch, root.Sequence)), text)
	text, err = (&bucket.TopicFile{Topic: "orders", TopicID: testTip.Topic, Partitions: 5, Replicas: 2, Created: time.UnixMilli(5).UTC(), Configs: map[string]string{"own": "1"}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(manifest.TopicDir("orders", testTip.Topic)+"topic.json", text)
	if change != nil {
		s := testSnapshot()
		change(s)
		if err := b.PutSnapshot(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	o.ClusterID, o.GroupsTopic, o.Place = "c1", "__consumer_offsets", roundRobin
	plan, err := Plan(t.Context(), b, o)
	if err != nil {
		return nil, err
	}
	return plan, Prepare(t.Context(), b, plan)
}

// TestPlanJoinsSnapshotAndManifests: ends, lost tails, moved offsets, epochs and replicas.
func TestPlanJoinsSnapshotAndManifests(t *testing.T) {
	n := testTip.Partition
	plan, err := planned(t, func(s *bucket.Snapshot) {
		s.Topics[0].Partitions = slices.Repeat(s.Topics[0].Partitions[:1], 5)
		s.Topics = append(s.Topics, bucket.SnapshotTopic{Topic: "__consumer_offsets", TopicID: metadata.TopicID{9}, Partitions: []bucket.SnapshotPartition{
			{Replicas: []metadata.BrokerID{1, 2}, LeaderEpoch: 3}, {Replicas: []metadata.BrokerID{2, 1}, LeaderEpoch: 5},
		}})
		s.Groups[0].Topics[0].Partitions = []bucket.SnapshotOffset{{Partition: n, Offset: 39, LeaderEpoch: 1}}
		s.Groups = append(s.Groups, bucket.SnapshotGroup{Group: "h", Topics: []bucket.SnapshotGroupTopic{{Topic: "orders", Partitions: []bucket.SnapshotOffset{{Partition: n, Offset: 99, LeaderEpoch: 1}}}}})
	}, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	row := plan.Partition[n]
	want := PlannedPartition{Topic: "orders", Partition: n, StartOffset: 15, EndOffset: 40, Bytes: 300, Segments: 3, Newest: row.Newest, LogEnd: 100, Lost: 60, Manifest: row.Manifest}
	if row != want || len(plan.Partition) != 5 {
		t.Errorf("%d partitions, %+v, want %+v", len(plan.Partition), row, want)
	}
	for p, r := range plan.Partition {
		if int32(p) != n && (r.EndOffset != 0 || r.Lost != 100 || r.Newest != -1) {
			t.Errorf("partition %d without a manifest: %+v", p, r)
		}
	}
	if plan.Moved != 1 || plan.Groups != 2 || plan.Offsets != 2 {
		t.Errorf("%d offsets of %d groups, %d moved", plan.Offsets, plan.Groups, plan.Moved)
	}
	r := plan.Metadata("__consumer_offsets")
	if r.Groups.Snapshot != bucket.SnapshotKey(2) || r.Groups.Epoch != 5+epochMargin {
		t.Errorf("groups %+v", r.Groups)
	}
	if r.NextProducerID < 2000+1<<20 || string(r.Verbatim["acls/x"]) != `{"any":1}` || r.BrokerConfigs[""]["a"] != "b" {
		t.Errorf("settings %+v", r)
	}
	for _, topic := range r.Topics {
		switch topic.Name {
		case "orders":
			p := topic.Partitions[n]
			if p.Remote.EndOffset != 40 || p.LeaderEpoch != 7+epochMargin || !slices.Equal(p.Replicas, []metadata.BrokerID{2, 1}) {
				t.Errorf("partition %+v", p)
			}
		case "__consumer_offsets":
			for _, p := range topic.Partitions {
				if p.LeaderEpoch != r.Groups.Epoch {
					t.Errorf("partition of the groups %+v", p)
				}
			}
		case "old":
			if topic.Deleted.IsZero() {
				t.Error("a deleted topic lives")
			}
		}
	}
}

// TestPlanWithoutASnapshotNeedsBrokersAndSaysWhatIsMissing.
func TestPlanWithoutASnapshotNeedsBrokersAndSaysWhatIsMissing(t *testing.T) {
	if _, err := planned(t, nil, PlanOptions{}); !errors.Is(err, ErrNoBrokers) {
		t.Errorf("without brokers: %v", err)
	}
	plan, err := planned(t, nil, PlanOptions{Brokers: []metadata.BrokerID{5}})
	if err != nil {
		t.Fatal(err)
	}
	topic := plan.Topics[0]
	if topic.Replicas != 1 || topic.Configs["own"] != "1" || len(plan.Partition) != 5 || plan.Partition[testTip.Partition].Lost != -1 {
		t.Errorf("%+v, %+v", topic, plan.Partition)
	}
	if text := strings.Join(plan.Problems, "\n"); !strings.Contains(text, "no snapshot") || !strings.Contains(text, "had 2 replicas and gets 1") {
		t.Errorf("problems: %s", text)
	}
	if r := plan.Metadata("__consumer_offsets"); r.NextProducerID != unknownProducerIDs || !slices.Equal(r.Topics[0].Partitions[0].Replicas, []metadata.BrokerID{5}) {
		t.Errorf("restores %+v", r)
	}
}

// TestDeletedTopicsDoNotComeBack, and of two topics under one name the younger one does.
func TestDeletedTopicsDoNotComeBack(t *testing.T) {
	plan, err := planned(t, func(s *bucket.Snapshot) {
		s.Topics[0].Deleted = &s.Topics[0].Created
		s.Topics, s.Deleted = nil, append(s.Deleted, s.Topics[0])
	}, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range plan.Metadata("").Topics {
		if r.Deleted.IsZero() {
			t.Errorf("topic %s with id %s lives", r.Name, r.ID)
		}
	}
	if len(plan.Partition) != 0 {
		t.Errorf("partitions %+v", plan.Partition)
	}
	plan, err = planned(t, func(s *bucket.Snapshot) { s.Topics[0].TopicID = metadata.TopicID{77} }, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range plan.Topics {
		if topic.Topic == "orders" && topic.TopicID != (metadata.TopicID{77}) {
			t.Errorf("the older topic %s comes back", topic.TopicID)
		}
	}
	if !strings.Contains(strings.Join(plan.Problems, "\n"), "younger") {
		t.Errorf("problems %v", plan.Problems)
	}
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
	r := Recovery{From: "c1", To: "c2", Topic: topics[0], ID: metadata.TopicID{42}, Progress: func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		copied += n
	}}
	for range 2 { // the second time as after a copy that was broken off
		roots, err := CopyTopic(t.Context(), objects, r)
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

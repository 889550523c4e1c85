package restore

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func goldenNode() *manifest.Node {
	n := &manifest.Node{TopicID: testTip.Topic, Partition: testTip.Partition, Level: 1}
	for i := range int64(3) {
		e := testEntry(i * 10)
		e.Object = "0000000000000000000" + string(rune('0'+i)) + "-0-01234567-89ab-cdef-0123-456789abcdef"
		e.Aborted = i == 1
		n.Entries = append(n.Entries, e)
	}
	return n
}

func goldenRoot(ref manifest.Ref) *manifest.Root {
	r := manifest.NewRoot("orders", testTip, 10)
	r.LeaderEpoch, r.Sequence, r.Previous, r.Created = 7, 12, manifest.RootName(6, 11), 1_700_000_000_000
	r.Refs, r.Trimmed = []manifest.Ref{ref}, manifest.Trimmed{Segments: 1, Bytes: 100}
	tail := testEntry(30)
	tail.Object = "topics/other.AQIDAAAAAAAAAAAAAAAAAA/0/segments/00000000000000000030-2-76543210-89ab-cdef-0123-456789abcdef"
	r.Tail = []manifest.Entry{tail}
	r.Epochs = manifest.Lineage{{Epoch: 0, StartOffset: 0}}
	r.StartOffset, r.EndOffset, r.LogStartOffset, r.Bytes, r.Segments = 10, 40, 15, 300, 3
	r.Garbage = []manifest.Garbage{
		{NotBefore: 1, Segments: []string{"a"}}, {NotBefore: 2, Nodes: []string{"leaf-b"}},
		{NotBefore: 3, Leaf: &manifest.DeadRange{Ref: ref, From: 0, To: 10}}, {NotBefore: 4, Roots: &manifest.DeadRoots{LeaderEpoch: 6, From: 10, To: 12}},
	}
	return r
}

var testTip = metadata.TopicIDPartition{Topic: metadata.TopicID{1, 2, 3}, Partition: 4}

// testEntry has 10 offsets, 100 bytes and a timestamp equal to its last offset.
func testEntry(base int64) manifest.Entry {
	return manifest.Entry{
		BaseOffset: base, LastOffset: base + 9, MaxTimestamp: base + 9, MaxTimestampOffset: base + 9, Bytes: 100, CRC32C: manifest.CRC(base),
		IndexBytes: 50, IndexHead: 40, Epochs: manifest.Lineage{{Epoch: int32(base / 100000), StartOffset: base}},
		Created: 1, Object: manifest.NewStem(base, 0),
	}
}

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
func planned(t *testing.T, change func(*bucket.Snapshot), o Options) (*Plan, error) {
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
	plan, err := NewPlan(t.Context(), b, o)
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
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	row := plan.Partition[n]
	want := Partition{Topic: "orders", Partition: n, StartOffset: 15, EndOffset: 40, Bytes: 300, Segments: 3, Newest: row.Newest, LogEnd: 100, Lost: 60, Manifest: row.Manifest}
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
	if _, err := planned(t, nil, Options{}); !errors.Is(err, ErrNoBrokers) {
		t.Errorf("without brokers: %v", err)
	}
	plan, err := planned(t, nil, Options{Brokers: []metadata.BrokerID{5}})
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
	}, Options{})
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
	plan, err = planned(t, func(s *bucket.Snapshot) { s.Topics[0].TopicID = metadata.TopicID{77} }, Options{})
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

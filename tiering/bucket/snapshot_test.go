package bucket

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// reader reads a whole body, for tests.
func body(t testing.TB, s object.Store, key string) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testSnapshot() *Snapshot {
	day := time.UnixMilli(1_700_000_000_000).UTC()
	return &Snapshot{
		ClusterID: "c1", Created: day.UnixMilli(), Brokers: []SnapshotBroker{{ID: 1, Rack: "a"}, {ID: 2}},
		Topics: []SnapshotTopic{{
			Topic: "orders", TopicID: metadata.TopicID{1, 2, 3}, Created: day, Configs: map[string]string{"retention.ms": "1"},
			Partitions: []SnapshotPartition{{Replicas: []metadata.BrokerID{2, 1}, LeaderEpoch: 7, End: 100}, {Replicas: []metadata.BrokerID{1, 2}, LeaderEpoch: 8, End: -1}},
		}},
		Deleted:       []SnapshotTopic{{Topic: "old", TopicID: metadata.TopicID{4}, Created: day, Deleted: &day, Partitions: []SnapshotPartition{{Replicas: []metadata.BrokerID{1}, End: -1}}}},
		BrokerConfigs: map[string]map[string]string{"": {"a": "b"}}, NextProducerID: 2000,
		Groups: []SnapshotGroup{{Group: "g", Topics: []SnapshotGroupTopic{{Topic: "orders", Partitions: []SnapshotOffset{
			{Partition: 0, Offset: 50, LeaderEpoch: 8, Metadata: "m"}, {Partition: 1, Offset: 0},
		}}}}},
		Keys: map[string]json.RawMessage{"acls/x": json.RawMessage(`{"any":1}`)},
	}
}

// TestSnapshotsAreImmutableNumberedAndPruned.
func TestSnapshotsAreImmutableNumberedAndPruned(t *testing.T) {
	store := object.NewMem()
	b := New(store, nil)
	if s, bad, err := b.NewestSnapshot(t.Context(), "c1"); s != nil || bad != nil || err != nil {
		t.Errorf("of nothing: %v, %v, %v", s, bad, err)
	}
	for n := int64(1); n <= 5; n++ {
		s := testSnapshot() // each thinks to be the first
		s.NextProducerID = n
		if err := b.PutSnapshot(t.Context(), s); err != nil || s.Sequence != n {
			t.Fatalf("snapshot %d got sequence %d, %v", n, s.Sequence, err)
		}
	}
	for n := int64(1); n <= 5; n++ {
		if s, err := b.Snapshot(t.Context(), "c1", SnapshotKey(n)); err != nil || s.NextProducerID != n {
			t.Errorf("snapshot %d was replaced: %+v, %v", n, s, err)
		}
	}
	text := bytes.Replace(body(t, store, "c1/"+SnapshotKey(5)), []byte("orders"), []byte("borders"), 1)
	if _, err := store.Put(t.Context(), "c1/"+SnapshotKey(5), object.Bytes(text), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if s, bad, err := b.NewestSnapshot(t.Context(), "c1"); err != nil || s == nil || s.Sequence != 4 || len(bad) != 1 || !errors.Is(bad[0], manifest.ErrCorrupt) {
		t.Errorf("the newest one is corrupt: %+v, %v, %v", s, bad, err)
	}
	sequences := func() (out []int64) {
		list, err := b.Snapshots(t.Context(), "c1")
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range list {
			out = append(out, info.Sequence)
		}
		return out
	}
	now := time.Now()
	for _, step := range []struct {
		now  time.Time
		want []int64
	}{{now, []int64{1, 2, 3, 4, 5}}, {now.Add(2 * time.Hour), []int64{1, 4, 5}}} {
		if err := b.PruneSnapshots(t.Context(), "c1", 2, time.Hour, step.now, SnapshotKey(1)); err != nil {
			t.Fatal(err)
		}
		if got := sequences(); !slices.Equal(got, step.want) {
			t.Errorf("left are %v, want %v", got, step.want)
		}
	}
}

// TestClusterSnapshotOfVersion1IsReadForEver: the file is never rewritten.
func TestClusterSnapshotOfVersion1IsReadForEver(t *testing.T) {
	file := filepath.Join("testdata", "v1", "cluster.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSnapshot(b)
	if err != nil {
		t.Fatal(err)
	}
	want := testSnapshot()
	want.Sequence = 3
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
}

func FuzzDecodeClusterSnapshot(f *testing.F) {
	s := testSnapshot()
	s.Sequence = 1
	b, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = resealed(snapshotFormat, b)
		bounded(t, len(b), func() {
			if s, err := DecodeSnapshot(b); err == nil {
				again, err := s.encode()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := DecodeSnapshot(again); err != nil {
					t.Fatalf("what was written is not read: %v", err)
				}
			}
		})
	})
}

// TestSnapshotKeepsWhatANewerReleasePutIntoTheOneBefore.
func TestSnapshotKeepsWhatANewerReleasePutIntoTheOneBefore(t *testing.T) {
	id := metadata.TopicID{1}
	before := &Snapshot{
		Unknown: `"a":1`, Brokers: []SnapshotBroker{{ID: 1, Unknown: `"b":1`}, {ID: 2, Unknown: `"b":2`}},
		Topics: []SnapshotTopic{{Topic: "t", TopicID: id, Unknown: `"c":1`, Partitions: []SnapshotPartition{{Unknown: `"d":1`}}}},
		Groups: []SnapshotGroup{{Group: "g", Unknown: `"e":1`}},
	}
	next := &Snapshot{
		ClusterID: "c", Sequence: 2, Brokers: []SnapshotBroker{{ID: 2}, {ID: 3}}, Groups: []SnapshotGroup{{Group: "f"}, {Group: "g"}},
		Deleted: []SnapshotTopic{{Topic: "t", TopicID: id, Partitions: []SnapshotPartition{{}, {}}}},
	}
	next.KeepUnknown(before)
	b, err := next.encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"a":1`, `"b":2`, `"c":1`, `"d":1`, `"e":1`} {
		if strings.Count(string(b), member) != 1 {
			t.Errorf("%s is not once in %s", member, b)
		}
	}
	again, err := DecodeSnapshot(b)
	if err != nil || !again.SameState(next) || again.Brokers[0].Unknown != `"b":2` || again.Unknown != before.Unknown {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestSnapshotsDifferByOneCommittedOffset, and comparing many costs no encoding of them.
func TestSnapshotsDifferByOneCommittedOffset(t *testing.T) {
	snapshot := func(offset int64) *Snapshot {
		return &Snapshot{ClusterID: "c", Sequence: offset, Groups: []SnapshotGroup{{Group: "g", Topics: []SnapshotGroupTopic{{Topic: "t", Partitions: []SnapshotOffset{{Offset: offset}}}}}}}
	}
	a, b := snapshot(1), snapshot(1)
	if b.Sequence = 7; !a.SameState(b) || !a.SameState(a) {
		t.Error("the same offsets are not the same state")
	}
	if a.SameState(snapshot(2)) {
		t.Error("another offset is the same state")
	}
	many := snapshot(1)
	many.Groups[0].Topics[0].Partitions = slices.Repeat(many.Groups[0].Topics[0].Partitions, 10_000)
	other := *many
	other.Groups = slices.Clone(many.Groups)
	if n := testing.AllocsPerRun(5, func() { many.SameState(&other) }); n > 100 {
		t.Errorf("comparing 10,000 committed offsets allocates %v times", n)
	}
}

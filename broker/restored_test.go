package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/bucket"
)

func manyGroups(n int) *bucket.Snapshot {
	s := &bucket.Snapshot{}
	for i := range n {
		g := bucket.SnapshotGroup{Group: fmt.Sprintf("group-%02d", i)}
		for p := range int32(300) {
			g.Topics = append(g.Topics, bucket.SnapshotGroupTopic{Topic: fmt.Sprint("topic-", p), Partitions: []bucket.SnapshotOffset{{Partition: p, Offset: int64(i), LeaderEpoch: 4, Metadata: "m"}}})
		}
		s.Groups = append(s.Groups, g)
	}
	return s
}

// TestImportGoesOnWhereItWasBrokenOff: whoever imports a partition's offsets, and from wherever on, writes the same.
func TestImportGoesOnWhereItWasBrokenOff(t *testing.T) {
	const partitions = 4
	snap := manyGroups(20)
	total := 0
	for part := range int32(partitions) {
		all := importedOffsets(snap, part, partitions)
		total += len(all)
		for _, from := range []int{0, 1, len(all) / 2, len(all) - 1} {
			var got []group.Imported
			for at := from; at < len(all); {
				batch, n := importBatch(all[at:], time.UnixMilli(1))
				if n == 0 || len(batch) > 2*importBatchBytes {
					t.Fatalf("batch of %d records, %d bytes", n, len(batch))
				}
				got = append(got, decodeImported(t, batch)...)
				at += n
			}
			if diff := cmp.Diff(all[from:], got); diff != "" {
				t.Fatalf("partition %d from %d (-want +got):\n%s", part, from, diff)
			}
		}
		for _, o := range all {
			if group.PartitionIn(o.Group, partitions) != part {
				t.Errorf("group %s is in partition %d", o.Group, part)
			}
		}
	}
	if total != snap.Offsets() {
		t.Errorf("%d offsets imported, want %d", total, snap.Offsets())
	}
}

func decodeImported(t *testing.T, batch []byte) (out []group.Imported) {
	t.Helper()
	b, rest, err := record.Next(batch)
	if err == nil {
		err = b.Verify()
	}
	if err != nil || len(rest) > 0 {
		t.Fatalf("%d bytes left, %v", len(rest), err)
	}
	err = b.Each(nil, func(r record.Record) error {
		k, v := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
		if err := k.ReadFrom(r.Key); err != nil {
			return err
		}
		if err := v.ReadFrom(r.Value); err != nil {
			return err
		}
		out = append(out, group.Imported{Group: k.Group, Topic: k.Topic, Partition: k.Partition, Offset: v.Offset, LeaderEpoch: v.LeaderEpoch, Metadata: v.Metadata})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSnapshotKeepsGroupsWhoseCoordinatorDidNotAnswer: an unreachable broker, or one that has just taken over, takes no
// group out of the snapshot, and the snapshot is not whole.
func TestSnapshotKeepsGroupsWhoseCoordinatorDidNotAnswer(t *testing.T) {
	store, err := metadata.Open(t.Context(), metadata.Options{KV: kv.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := store.CreateTopic(t.Context(), metadata.TopicSpec{Name: group.Topic, Assignments: [][]metadata.BrokerID{{1}, {2}, {1}, {2}}})
	if err != nil {
		t.Fatal(err)
	}
	last, answered := manyGroups(12), map[string]bucket.SnapshotGroup{}
	for _, g := range last.Groups {
		answered[g.Group] = bucket.SnapshotGroup{Group: g.Group} // all have given their offsets up since
	}
	s := &snapshots{b: &Broker{metadata: store}, last: last}
	kept := func(c *collection, im *metadata.Image) (old []int32, whole bool) {
		groups, whole := s.groups(im, c)
		if len(groups) != len(last.Groups) || !slices.IsSortedFunc(groups, func(a, b bucket.SnapshotGroup) int {
			if a.Group < b.Group {
				return -1
			}
			return 1
		}) {
			t.Errorf("%d groups, want %d", len(groups), len(last.Groups))
		}
		for _, g := range groups {
			if part := group.PartitionIn(g.Group, 4); len(g.Topics) > 0 && !slices.Contains(old, part) {
				old = append(old, part)
			}
		}
		slices.Sort(old)
		return old, whole
	}
	all := &collection{groups: answered, asked: map[metadata.BrokerID]bool{1: true, 2: true}}
	one := &collection{groups: answered, asked: map[metadata.BrokerID]bool{1: true}}
	im := store.Image()
	if old, whole := kept(all, im); len(old) != 0 || !whole {
		t.Errorf("all answered: partitions %v are kept, whole: %v", old, whole)
	}
	if old, whole := kept(one, im); !slices.Equal(old, []int32{1, 3}) || whole {
		t.Errorf("broker 2 did not answer: partitions %v are kept, whole: %v", old, whole)
	}
	to := topic.Partitions[2]
	to.LeaderEpoch++
	errs := store.AlterPartitions(t.Context(), []metadata.PartitionChange{{TopicIDPartition: metadata.TopicIDPartition{Topic: topic.ID, Partition: 2}, From: topic.Partitions[2], To: to}})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	if old, whole := kept(all, im); !slices.Equal(old, []int32{2}) || whole {
		t.Errorf("partition 2 changed hands: partitions %v are kept, whole: %v", old, whole)
	}
}

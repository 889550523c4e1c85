package group

import (
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// Imported is a committed offset that comes from elsewhere than a client: a
// snapshot of the cluster.
type Imported struct {
	Group, Topic string
	Partition    int32
	Offset       int64
	LeaderEpoch  int32 // -1 unknown
	Metadata     string
}

// AppendTo adds the record that a commit at that time writes.
func (i Imported) AppendTo(b *record.Builder, at time.Time) {
	o := offset{offset: i.Offset, committed: at.UnixMilli(), expires: -1, leaderEpoch: i.LeaderEpoch, metadata: i.Metadata}
	b.Append(at.UnixMilli(), offsetKey(i.Group, i.Topic, i.Partition), o.encode())
}

// PartitionIn returns the partition that holds a group where there are so many.
func PartitionIn(group string, partitions int32) int32 { return partitionOf(group, partitions) }

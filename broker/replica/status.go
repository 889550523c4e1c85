package replica

import (
	"cmp"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// Status is one partition's offsets and sizes, for operators.
type Status struct {
	TopicPartition metadata.TopicPartition
	ID             metadata.TopicIDPartition
	Leading        bool
	LeaderEpoch    int32
	LogStart       int64
	LocalLogStart  int64
	LastStable     int64
	HighWatermark  int64
	LogEnd         int64
	LocalBytes     int64
	Segments       int
	Tiered         bool
	Remote         segment.RemoteView
}

// Status lists this broker's partitions by topic and number.
func (m *Manager) Status() []Status {
	ps := m.Partitions()
	list := make([]Status, 0, len(ps))
	for _, p := range ps {
		s := p.state.Load()
		list = append(list, Status{
			TopicPartition: p.tp, ID: p.tip, Leading: s.leading, LeaderEpoch: s.LeaderEpoch,
			LogStart: p.log.LogStart(), LocalLogStart: p.log.LocalLogStart(), LastStable: p.log.LastStableOffset(),
			HighWatermark: p.log.HighWatermark(), LogEnd: p.log.LogEnd(), LocalBytes: p.log.LocalBytes(), Segments: p.log.Segments(),
			Tiered: s.remote, Remote: m.o.Remote.View(p.tip),
		})
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.TopicPartition.Topic, b.TopicPartition.Topic), cmp.Compare(a.TopicPartition.Partition, b.TopicPartition.Partition))
	})
	return list
}

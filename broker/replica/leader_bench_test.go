package replica

import (
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// BenchmarkFollowerFetch answers a follower of a thousand partitions of which one
// has a record: what each fetch between brokers costs beyond its bytes.
func BenchmarkFollowerFetch(b *testing.B) {
	const partitions = 1000
	l := newLab(b)
	l.start()
	spec := metadata.TopicSpec{Name: "t"}
	for range partitions {
		spec.Assignments = append(spec.Assignments, []metadata.BrokerID{2, 3})
	}
	topic, err := l.md.CreateTopic(l.ctx, spec)
	l.must(err)
	for len(l.md.Image().Topics()) == 0 {
		time.Sleep(time.Millisecond)
	}
	req := &FetchRequest{Replica: 3, ReplicaEpoch: 1, MinBytes: 1, MaxBytes: 10 << 20, MaxWait: time.Second}
	all := &view{byID: map[metadata.TopicIDPartition]*Partition{}}
	for n := range int32(partitions) {
		id := metadata.TopicIDPartition{Topic: topic.ID, Partition: n}
		p, err := l.m.open(l.dir, metadata.TopicPartition{Topic: "t", Partition: n}, id, TopicConfig{Log: logConfig()})
		l.must(err)
		s := *p.state.Load()
		s.Partition = topic.Partitions[n]
		s.Leader, s.LeaderEpoch, s.elected, s.leading = 2, 1, true, true
		p.update(&s)
		all.byID[id] = p
		req.Partitions = append(req.Partitions, FetchPartition{ID: id, MaxBytes: 1 << 20, CurrentEpoch: 1, FetchedEpoch: -1})
	}
	l.m.view.Store(all)
	p := all.byID[req.Partitions[partitions/2].ID]
	q := &req.Partitions[partitions/2]
	for b.Loop() {
		info, err := p.log.AppendAsLeader(batches(0, 1, "value"), segment.AppendOptions{LeaderEpoch: 1})
		l.must(err)
		q.Offset = info.FirstOffset
		for _, r := range l.m.Fetch(l.ctx, req) {
			l.must(r.Err)
			if r.Data != nil {
				r.Data.Release()
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/partitions, "ns/partition")
}

package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
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

// BenchmarkWakes appends to one partition while consumers' fetches wait on others, or
// on it for more than there is.
func BenchmarkWakes(b *testing.B) {
	for name, c := range map[string]struct {
		fetches, minBytes int
		same              bool
	}{
		"nobody": {}, "1000 on others": {fetches: 1000, minBytes: 1}, "1000 for more": {fetches: 1000, minBytes: 1 << 30, same: true},
	} {
		b.Run(name, func(b *testing.B) {
			l := newLab(b)
			l.start()
			spec := metadata.TopicSpec{Name: "t", Assignments: slices.Repeat([][]metadata.BrokerID{{2}}, 1001)}
			topic, err := l.md.CreateTopic(l.ctx, spec)
			l.must(err)
			for len(l.md.Image().Topics()) == 0 {
				time.Sleep(time.Millisecond)
			}
			all := &view{byID: map[metadata.TopicIDPartition]*Partition{}}
			var ps []*Partition
			for n := range int32(len(spec.Assignments)) {
				id := metadata.TopicIDPartition{Topic: topic.ID, Partition: n}
				p, err := l.m.open(l.dir, metadata.TopicPartition{Topic: "t", Partition: n}, id, TopicConfig{Log: logConfig()})
				l.must(err)
				s := *p.state.Load()
				s.Partition = topic.Partitions[n]
				s.Leader, s.LeaderEpoch, s.elected, s.leading = 2, 1, true, true
				p.update(&s)
				all.byID[id], ps = p, append(ps, p)
			}
			l.m.view.Store(all)
			ctx, cancel := context.WithCancel(l.ctx)
			var g sync.WaitGroup
			for i := range c.fetches {
				p := ps[i+1]
				if c.same {
					p = ps[0]
				}
				g.Go(func() {
					l.m.Fetch(ctx, &FetchRequest{Replica: -1, MinBytes: c.minBytes, MaxBytes: 1 << 30, MaxWait: time.Hour,
						Partitions: []FetchPartition{{ID: p.tip, MaxBytes: 1 << 30, CurrentEpoch: 1, FetchedEpoch: -1}}})
				})
			}
			time.Sleep(200 * time.Millisecond)
			for b.Loop() {
				_, err := ps[0].log.AppendAsLeader(batches(0, 1, "value"), segment.AppendOptions{LeaderEpoch: 1})
				l.must(err)
				ps[0].log.SetHighWatermark(ps[0].log.LogEnd())
				ps[0].fetches.wake()
			}
			cancel()
			g.Wait()
		})
	}
}

// BenchmarkApply applies an image in which one of a thousand led partitions has
// other in-sync replicas.
func BenchmarkApply(b *testing.B) {
	const topics = 1000
	l := newLab(b)
	l.start()
	session, err := l.md.RegisterBroker(l.ctx, metadata.Registration{ID: 2, DirectoryID: "d2", Incarnation: "i"})
	l.must(err)
	b.Cleanup(session.Abandon)
	l.m.o.Session = func() *metadata.Session { return session }
	for n := range topics {
		_, err := l.md.CreateTopic(l.ctx, metadata.TopicSpec{Name: fmt.Sprint("t", n), Assignments: [][]metadata.BrokerID{{2, 3}}})
		l.must(err)
	}
	a := newApplier(l.m)
	img := l.md.Image()
	a.apply(l.ctx, img, a.everything(img))
	for len(a.busy) > 0 {
		<-a.jobs.wake
		a.apply(l.ctx, img, a.finish())
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		topic, _ := l.md.Image().Topic(fmt.Sprint("t", n%topics))
		to := topic.Partitions[0]
		if to.ISR = []metadata.BrokerID{2}; len(topic.Partitions[0].ISR) == 1 {
			to.ISR = []metadata.BrokerID{2, 3}
		}
		for _, err := range l.md.AlterPartitions(l.ctx, []metadata.PartitionChange{{TopicIDPartition: metadata.TopicIDPartition{Topic: topic.ID}, From: topic.Partitions[0], To: to, Joins: map[metadata.BrokerID]int64{3: l.leaders[3].session.Epoch}}}) {
			l.must(err)
		}
		img := l.md.Image()
		b.StartTimer()
		a.apply(l.ctx, img, a.changes(img))
	}
}

package metadata

import (
	"fmt"
	"testing"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// snapshot is a cluster of so many topics with six partitions each.
func snapshot(b *testing.B, topics int) (*Store, []kv.KeyValue) {
	mem := kv.NewMem()
	s, err := Open(b.Context(), Options{KV: mem})
	if err != nil {
		b.Fatal(err)
	}
	for i := range topics {
		if _, err := s.CreateTopic(b.Context(), TopicSpec{Name: fmt.Sprintf("topic-%d", i), Assignments: assign(6, 1, 2, 3), Configs: map[string]string{"a": "b"}}); err != nil {
			b.Fatal(err)
		}
	}
	resp, err := mem.Range(b.Context(), kv.RangeRequest{Key: string(s.keys), End: kv.PrefixEnd(string(s.keys))})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.load(b.Context()); err != nil {
		b.Fatal(err)
	}
	return s, resp.KVs
}

// One ISR change in a cluster of 1,000 topics: must not grow with the topics.
func BenchmarkImageOneChange(b *testing.B) {
	for _, topics := range []int{10, 1000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			s, kvs := snapshot(b, topics)
			base := s.Image()
			event := kv.Event{KV: kvs[len(kvs)/3]} // of partitions/
			event.KV.ModRevision++
			b.ReportAllocs()
			for b.Loop() {
				builder := newBuilder(s.keys, base)
				if err := builder.apply(event); err != nil {
					b.Fatal(err)
				}
				im := builder.build(base.revision + 1)
				for range im.ChangedTopics(base) {
				}
			}
		})
	}
}

// The image of 6,000 partitions from a snapshot.
func BenchmarkImageLoad(b *testing.B) {
	s, kvs := snapshot(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		builder := newBuilder(s.keys, newImage())
		if errs := builder.sync(kvs); len(errs) > 0 {
			b.Fatal(errs)
		}
		builder.build(1)
	}
}

// The same snapshot again, as after a compaction: nothing is decoded.
func BenchmarkImageReload(b *testing.B) {
	s, kvs := snapshot(b, 1000)
	base := s.Image()
	b.ReportAllocs()
	for b.Loop() {
		builder := newBuilder(s.keys, base)
		if errs := builder.sync(kvs); len(errs) > 0 {
			b.Fatal(errs)
		}
		builder.build(1)
	}
}

package metadata

import (
	"testing"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// FuzzEvent applies any key and value, as somebody with etcdctl may write them,
// to an image with one topic. The image must stay readable, and a snapshot of
// the same key must not change it.
func FuzzEvent(f *testing.F) {
	mem := kv.NewMem()
	s, err := Open(f.Context(), Options{KV: mem})
	if err != nil {
		f.Fatal(err)
	}
	id := NewTopicID()
	tip := TopicIDPartition{id, 0}
	if _, err := s.CreateTopic(f.Context(), TopicSpec{Name: "t", ID: id, Assignments: assign(2, 1, 2)}); err != nil {
		f.Fatal(err)
	}
	if _, err := s.load(f.Context()); err != nil {
		f.Fatal(err)
	}
	strip := func(key string) string { return key[len(s.keys):] }
	for _, key := range []string{
		s.keys.cluster(), s.keys.controller(), s.keys.broker(1), s.keys.topic("t"), s.keys.topic("u"), s.keys.partition(tip),
		s.keys.remote(tip), s.keys.topicConfig("t"), s.keys.brokerConfig(defaultBroker), s.keys.tombstone(id), s.keys.producerIDs(),
	} {
		f.Add(strip(key), []byte(`{"id":"`+id.String()+`","partitions":2,"leader":1,"broker":1}`), false)
		f.Add(strip(key), []byte(`null`), false)
		f.Add(strip(key), []byte(nil), true)
	}
	f.Add("partitions/"+id.String()+"/-1", []byte("{}"), false)
	f.Add("partitions/"+id.String()+"/131071", []byte(`{"replicas":[-2]}`), false)
	f.Add("topics/", []byte(`{"partitions":2000000000}`), false)
	base := s.Image()
	f.Fuzz(func(t *testing.T, key string, value []byte, deleted bool) {
		have := kv.KeyValue{Key: string(s.keys) + key, Value: value, CreateRevision: 1 << 40, ModRevision: 1 << 40}
		b := newBuilder(s.keys, base)
		if err := b.apply(kv.Event{Deleted: deleted, KV: have}); err != nil {
			sameImage(t, base, b.build(base.Revision()))
			return
		}
		im := b.build(1 << 40)
		for _, topic := range im.Topics() {
			if got, ok := im.TopicByID(topic.ID); !ok || got != topic {
				t.Errorf("topic %q is not found by its id", topic.Name)
			}
			for n := range topic.Partitions {
				im.Partition(TopicPartition{topic.Name, int32(n)})
			}
		}
		im.Tombstones()
		if deleted {
			return
		}
		again := newBuilder(s.keys, im)
		if err := again.apply(kv.Event{KV: have}); err != nil {
			t.Errorf("applied once but not twice: %v", err)
		}
		sameImage(t, im, again.build(1<<40))
	})
}

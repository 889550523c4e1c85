package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// modelTopic is what the model knows of a topic, alive or under a tombstone.
type modelTopic struct {
	Name    string
	Parts   []Partition
	Configs map[string]string
	Remote  map[int32]RemotePointer
}

// model is the cluster as plain maps.
type model struct {
	Topics map[string]TopicID
	All    map[TopicID]*modelTopic
}

// machine drives a writer that keeps its image by watch, beside a reader that
// loads it anew now and then, and compares both with the model.
type machine struct {
	mem            *kv.Mem
	writer, reader *Store
	model          model
	ids            []TopicID
}

var modelNames = []string{"a", "b", "c"}

func (m *machine) name(t *rapid.T) string { return rapid.SampledFrom(modelNames).Draw(t, "name") }

func (m *machine) want(t *rapid.T, op string, got, want error) bool {
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Fatalf("%s: got %v, want %v", op, got, want)
	}
	return want == nil
}

func (m *machine) create(t *rapid.T) {
	name, n := m.name(t), rapid.IntRange(1, 9).Draw(t, "partitions")
	configs := map[string]string{}
	if rapid.Bool().Draw(t, "with configs") {
		configs["k"] = "v"
	}
	var want error
	if _, exists := m.model.Topics[name]; exists {
		want = ErrTopicExists
	}
	topic, err := m.writer.CreateTopic(t.Context(), TopicSpec{Name: name, Assignments: assign(n, 1, 2), Configs: configs})
	if m.want(t, "create", err, want) {
		m.model.Topics[name] = topic.ID
		m.model.All[topic.ID] = &modelTopic{Name: name, Parts: topic.Partitions, Configs: configs, Remote: map[int32]RemotePointer{}}
		m.ids = append(m.ids, topic.ID)
	}
}

func (m *machine) grow(t *rapid.T) {
	name, n := m.name(t), rapid.IntRange(1, 9).Draw(t, "more")
	id, exists := m.model.Topics[name]
	err := m.writer.AddPartitions(t.Context(), name, assign(n, 3))
	if !exists {
		m.want(t, "grow", err, ErrUnknownTopic)
		return
	}
	m.want(t, "grow", err, nil)
	topic := m.model.All[id]
	for range n {
		topic.Parts = append(topic.Parts, Partition{Replicas: []BrokerID{3}, ISR: []BrokerID{3}, Leader: 3})
	}
}

func (m *machine) delete(t *rapid.T) {
	name := m.name(t)
	_, exists := m.model.Topics[name]
	err := m.writer.DeleteTopic(t.Context(), name)
	if !exists {
		m.want(t, "delete", err, ErrUnknownTopic)
		return
	}
	m.want(t, "delete", err, nil)
	delete(m.model.Topics, name)
}

func (m *machine) finish(t *rapid.T) {
	for _, grave := range m.writer.Image().Tombstones() {
		if rapid.Bool().Draw(t, "finish") {
			m.want(t, "finish", m.writer.FinishTombstone(t.Context(), grave.Topic.ID), nil)
			delete(m.model.All, grave.Topic.ID)
		}
	}
}

func (m *machine) configure(t *rapid.T) {
	name := m.name(t)
	set := rapid.MapOfN(rapid.SampledFrom(modelNames), rapid.StringMatching("[0-9]"), 0, 2).Draw(t, "set")
	del := rapid.SliceOfN(rapid.SampledFrom(modelNames), 0, 2).Draw(t, "del")
	all := rapid.Bool().Draw(t, "replace all")
	err := m.writer.AlterConfigs(t.Context(), Resource{TopicResource, name}, set, del, all)
	id, exists := m.model.Topics[name]
	if !exists {
		m.want(t, "configure", err, ErrUnknownTopic)
		return
	}
	m.want(t, "configure", err, nil)
	topic := m.model.All[id]
	next := map[string]string{}
	if !all {
		maps.Copy(next, topic.Configs)
	}
	maps.Copy(next, set)
	for _, k := range del {
		delete(next, k)
	}
	topic.Configs = next
}

// alter changes some partitions, a few of them from a state that never was.
func (m *machine) alter(t *rapid.T) {
	var changes []PartitionChange
	var wants []error
	for _, name := range modelNames {
		topic, ok := m.writer.Image().Topic(name)
		if !ok {
			continue
		}
		for n, p := range topic.Partitions {
			if !rapid.Bool().Draw(t, "alter") {
				continue
			}
			c := PartitionChange{TopicIDPartition: TopicIDPartition{topic.ID, int32(n)}, From: p, To: p}
			c.To.LeaderEpoch++
			c.To.Leader = BrokerID(rapid.IntRange(-1, 3).Draw(t, "leader"))
			var want error
			if rapid.IntRange(0, 4).Draw(t, "stale") == 0 {
				c.From.ModRevision--
				want = ErrConflict
			} else {
				q := &m.model.All[topic.ID].Parts[n]
				q.Leader, q.LeaderEpoch, q.Epoch = c.To.Leader, c.To.LeaderEpoch, q.Epoch+1
			}
			changes, wants = append(changes, c), append(wants, want)
		}
	}
	for i, err := range m.writer.AlterPartitions(t.Context(), changes) {
		m.want(t, "alter", err, wants[i])
	}
}

func (m *machine) swap(t *rapid.T) {
	if len(m.ids) == 0 {
		return
	}
	id := rapid.SampledFrom(m.ids).Draw(t, "topic")
	n := int32(rapid.IntRange(0, 9).Draw(t, "partition"))
	tip := TopicIDPartition{id, n}
	old, next := RemotePointer{}, RemotePointer{Manifest: "m", Sequence: rapid.Int64Range(1, 1<<40).Draw(t, "sequence")}
	topic := m.model.All[id]
	alive := topic != nil && m.model.Topics[topic.Name] == id && int(n) < len(topic.Parts)
	epoch, want := int32(rapid.IntRange(0, 3).Draw(t, "epoch")), error(nil)
	if topic != nil {
		old = topic.Remote[n]
	}
	stale := rapid.Bool().Draw(t, "stale")
	if stale {
		old.ModRevision++
	}
	switch {
	case !alive, topic.Parts[n].LeaderEpoch != epoch:
		want = ErrFenced
	case stale:
		want = ErrConflict
	}
	got, err := m.writer.SwapRemotePointer(t.Context(), tip, old, epoch, next)
	if m.want(t, "swap", err, want) {
		topic.Remote[n] = got
	}
}

// reload makes the reader take a snapshot, as after a compaction.
func (m *machine) reload(t *rapid.T) {
	m.mem.Compact(m.writer.Image().Revision())
	if invalid, err := m.reader.load(t.Context()); err != nil || len(invalid) > 0 {
		t.Fatal(err, invalid)
	}
	m.compare(t, m.reader.Image())
}

func (m *machine) check(t *rapid.T) {
	now, err := m.mem.Range(t.Context(), kv.RangeRequest{Key: "any"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.writer.WaitRevision(t.Context(), now.Revision); err != nil { // swaps do not wait for the image
		t.Fatal(err)
	}
	m.compare(t, m.writer.Image())
}

// compare checks an image against the model.
func (m *machine) compare(t *rapid.T, im *Image) {
	got := model{map[string]TopicID{}, map[TopicID]*modelTopic{}}
	remote := func(id TopicID) map[int32]RemotePointer {
		out := map[int32]RemotePointer{}
		for n := range int32(10) { // swap draws no higher one
			if p, ok := im.RemotePointer(TopicIDPartition{id, n}); ok {
				out[n] = p
			}
		}
		return out
	}
	for _, topic := range im.Topics() {
		got.Topics[topic.Name] = topic.ID
		got.All[topic.ID] = &modelTopic{topic.Name, topic.Partitions, im.TopicConfig(topic.Name), remote(topic.ID)}
	}
	for _, grave := range im.Tombstones() {
		got.All[grave.Topic.ID] = &modelTopic{grave.Topic.Name, grave.Topic.Partitions, grave.Configs, remote(grave.Topic.ID)}
	}
	if diff := cmp.Diff(m.model, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Partition{}, "ModRevision")); diff != "" {
		t.Fatalf("image differs (-model +image):\n%s", diff)
	}
	if want := slices.Sorted(maps.Keys(m.model.Topics)); !slices.Equal(want, im.names) {
		t.Fatalf("names %v, want %v", im.names, want)
	}
}

func TestStoreBehavesAsAMapOfTopics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few operations a transaction: nearly everything is cut in pieces.
		mem := kv.NewMemWith(kv.MemOptions{MaxTxnOps: rapid.IntRange(4, 12).Draw(t, "transaction size")})
		m := &machine{mem: mem, model: model{map[string]TopicID{}, map[TopicID]*modelTopic{}}}
		var err, err2 error
		m.writer, err = Open(t.Context(), Options{KV: mem})
		m.reader, err2 = Open(t.Context(), Options{KV: mem})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.writer.Run(ctx) }()
		defer func() { cancel(); <-done }()
		t.Repeat(map[string]func(*rapid.T){
			"": m.check, "create": m.create, "grow": m.grow, "delete": m.delete, "finish": m.finish,
			"configure": m.configure, "alter": m.alter, "swap": m.swap, "reload": m.reload,
		})
	})
}

// Any history of events, replayed in any batches, makes the same image as a
// snapshot of its end.
func TestBatchesOfEventsDoNotMatter(t *testing.T) {
	mem := kv.NewMem()
	s := openStore(t, mem, false)
	first := s.Image().Revision()
	for i := range 20 {
		topic := createTopic(t, s, fmt.Sprintf("t%d", i%7), 1+i%3)
		if i%2 == 0 {
			if _, err := s.SwapRemotePointer(t.Context(), TopicIDPartition{topic.ID, 0}, RemotePointer{}, 0, RemotePointer{Manifest: "m"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.DeleteTopic(t.Context(), topic.Name); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := s.FinishTombstone(t.Context(), topic.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	createTopic(t, s, "last", 3)
	var events []kv.Event
	for resp, err := range mem.Watch(t.Context(), kv.WatchRequest{Key: string(s.keys), End: kv.PrefixEnd(string(s.keys)), Revision: first + 1}) {
		if err != nil {
			t.Fatal(err)
		}
		events = resp.Events
		break
	}
	want := openStore(t, mem, false).Image()
	for _, size := range []int{1, 2, 7, len(events)} {
		im := newImage()
		for batch := range slices.Chunk(events, size) {
			b := newBuilder(s.keys, im)
			for _, e := range batch {
				if err := b.apply(e); err != nil {
					t.Fatal(err)
				}
			}
			im = b.build(batch[len(batch)-1].KV.ModRevision)
		}
		sameImage(t, want, im)
	}
}

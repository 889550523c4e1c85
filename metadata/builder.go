package metadata

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// builder makes the next image from one and the events after it. It copies what
// the events touch and nothing else.
type builder struct {
	keys          keyspace
	im            *Image // the image being made; what it shares with the old one is replaced before it changes
	topicIDs      *tableEdit[string, TopicID]
	topics        *tableEdit[TopicID, *topicState]
	topicConfigs  *tableEdit[string, *configState]
	remote        *tableEdit[TopicIDPartition, RemotePointer]
	owned         map[TopicID]*topicState // states copied by this builder; their topic is made by build
	ownBrokers    bool
	ownNodes      bool
	ownConfigs    bool
	ownTombstones bool
	ownNames      bool
	ownQuotas     bool
}

func newBuilder(keys keyspace, from *Image) *builder {
	im := &Image{
		revision: from.revision, last: from.last, clusterID: from.clusterID, controller: from.controller, controllerEpoch: from.controllerEpoch,
		brokers: from.brokers, nodes: from.nodes, names: from.names, brokerConfigs: from.brokerConfigs, tombstones: from.tombstones,
		restore: from.restore, quotas: from.quotas, quotaChanges: from.quotaChanges,
	}
	return &builder{
		keys: keys, im: im, owned: map[TopicID]*topicState{},
		topicIDs: from.topicIDs.edit(), topics: from.topics.edit(), topicConfigs: from.topicConfigs.edit(), remote: from.remote.edit(),
	}
}

// apply takes one event. After an error the image keeps what it had for the key.
func (b *builder) apply(e kv.Event) error {
	rest, ok := strings.CutPrefix(e.KV.Key, string(b.keys))
	if !ok {
		return fmt.Errorf("key %q is not of this cluster", e.KV.Key)
	}
	if !e.Deleted && e.KV.ModRevision >= b.im.last.revision {
		b.im.last = change{key: e.KV.Key, revision: e.KV.ModRevision}
	}
	kind, name, _ := strings.Cut(rest, "/")
	err := b.applyTo(kind, name, e)
	if err != nil && (kind == "cluster" || kind == "restore") {
		err = fmt.Errorf("%w: %w", errNeeded, err)
	}
	if err != nil {
		return fmt.Errorf("key %q: %w", e.KV.Key, err)
	}
	return nil
}

func (b *builder) applyTo(kind, name string, e kv.Event) error {
	switch kind {
	case "cluster":
		return b.applyCluster(e)
	case "controller":
		return b.applyController(e)
	case "brokers":
		return b.applyBroker(name, e)
	case "nodes":
		return b.applyNode(name, e)
	case "topics":
		return b.applyTopic(name, e)
	case "partitions":
		return b.applyPartition(name, e)
	case "remote":
		return b.applyRemote(name, e)
	case "configs":
		return b.applyConfig(name, e)
	case "tombstones":
		return b.applyTombstone(name, e)
	case "restore":
		return b.applyRestore(e)
	case "quotas":
		return b.applyQuota(name, e)
	}
	return nil // of no interest to readers, or of a later version
}

func (b *builder) applyCluster(e kv.Event) error {
	if e.Deleted {
		return nil // an id once known does not change
	}
	v, err := decode[clusterValue](e)
	if err != nil {
		return err
	}
	if b.im.clusterID != "" && b.im.clusterID != v.ID {
		return fmt.Errorf("cluster id changed from %s to %s", b.im.clusterID, v.ID)
	}
	b.im.clusterID = v.ID
	return nil
}

func (b *builder) applyController(e kv.Event) error {
	if e.Deleted {
		b.im.controller, b.im.controllerEpoch = NoBroker, 0
		return nil
	}
	v, err := decode[controllerValue](e)
	if err != nil {
		return err
	}
	b.im.controller, b.im.controllerEpoch = v.Broker, e.KV.CreateRevision
	return nil
}

// own returns the state of a topic id, ready to be changed.
func (b *builder) own(id TopicID) *topicState {
	if s := b.owned[id]; s != nil {
		return s
	}
	s := &topicState{}
	if old, ok := b.topics.get(id); ok {
		*s = *old
		s.parts = slices.Clone(old.parts)
	}
	b.owned[id] = s
	return s
}

func (b *builder) applyTopic(name string, e kv.Event) error {
	var v topicValue
	if !e.Deleted {
		var err error
		if v, err = decode[topicValue](e); err != nil {
			return err
		}
	}
	// The name may have belonged to another topic in the same batch of events.
	if old, had := b.topicIDs.get(name); had && (e.Deleted || old != v.ID) {
		s := b.own(old)
		s.name, s.value, s.mod = "", topicValue{}, 0
	}
	if e.Deleted {
		b.topicIDs.delete(name)
		b.setName(name, false)
		return nil
	}
	b.topicIDs.set(name, v.ID)
	b.setName(name, true)
	s := b.own(v.ID)
	s.name, s.value, s.mod = name, v, e.KV.ModRevision
	return nil
}

func (b *builder) setName(name string, present bool) {
	i, had := slices.BinarySearch(b.im.names, name)
	if had == present {
		return
	}
	if !b.ownNames {
		b.im.names, b.ownNames = slices.Clone(b.im.names), true
	}
	if present {
		b.im.names = slices.Insert(b.im.names, i, name)
	} else {
		b.im.names = slices.Delete(b.im.names, i, i+1)
	}
}

func (b *builder) applyPartition(name string, e kv.Event) error {
	tip, err := parsePartition(name)
	if err != nil {
		return err
	}
	var p Partition
	if !e.Deleted {
		if p, err = decode[Partition](e); err != nil {
			return err
		}
		p.ModRevision = e.KV.ModRevision
	}
	s := b.own(tip.Topic)
	n := int(tip.Partition)
	if e.Deleted && n >= len(s.parts) {
		return nil
	}
	for len(s.parts) <= n {
		s.parts = append(s.parts, Partition{Leader: NoBroker})
	}
	if s.parts[n].ModRevision != 0 {
		s.present--
	}
	if e.Deleted {
		p = Partition{Leader: NoBroker}
	} else {
		s.present++
	}
	s.parts[n] = p
	return nil
}

func (b *builder) applyRemote(name string, e kv.Event) error {
	tip, err := parsePartition(name)
	if err != nil {
		return err
	}
	if e.Deleted {
		b.remote.delete(tip)
		return nil
	}
	p, err := decode[RemotePointer](e)
	if err != nil {
		return err
	}
	p.ModRevision = e.KV.ModRevision
	b.remote.set(tip, p)
	return nil
}

func (b *builder) applyConfig(name string, e kv.Event) error {
	kind, entity, _ := strings.Cut(name, "/")
	var s *configState
	if !e.Deleted {
		values, err := decode[map[string]string](e)
		if err != nil {
			return err
		}
		s = &configState{values: values, mod: e.KV.ModRevision}
	}
	switch {
	case kind == "topics" && e.Deleted:
		b.topicConfigs.delete(entity)
	case kind == "topics":
		b.topicConfigs.set(entity, s)
	case kind == "brokers":
		if !b.ownConfigs {
			b.im.brokerConfigs, b.ownConfigs = maps.Clone(b.im.brokerConfigs), true
		}
		setOrDelete(&b.im.brokerConfigs, entity, s)
	}
	return nil
}

func (b *builder) applyTombstone(name string, e kv.Event) error {
	id, err := ParseTopicID(name)
	if err != nil {
		return err
	}
	var t *tombstone
	if !e.Deleted {
		v, err := decode[tombstoneValue](e)
		if err != nil {
			return err
		}
		t = &tombstone{value: v, mod: e.KV.ModRevision}
	}
	if !b.ownTombstones {
		b.im.tombstones, b.ownTombstones = maps.Clone(b.im.tombstones), true
	}
	setOrDelete(&b.im.tombstones, id, t)
	return nil
}

// setOrDelete deletes for a nil value.
func setOrDelete[K comparable, V any](m *map[K]*V, k K, v *V) {
	if v == nil {
		delete(*m, k)
		return
	}
	if *m == nil {
		*m = map[K]*V{}
	}
	(*m)[k] = v
}

// build finishes the image as of revision. The builder must not be used again.
func (b *builder) build(revision int64) *Image {
	for id, s := range b.owned {
		if s.name == "" && s.present == 0 {
			b.topics.delete(id)
			continue
		}
		s.topic = nil
		if s.name != "" {
			s.topic = &Topic{Name: s.name, ID: id, Created: s.value.Created, ModRevision: s.mod, Partitions: s.visible(s.value.Partitions), Kept: s.value.Kept}
		}
		b.topics.set(id, s)
	}
	im := b.im
	im.revision = revision
	im.topicIDs, im.topics = b.topicIDs.table, b.topics.table
	im.topicConfigs, im.remote = b.topicConfigs.table, b.remote.table
	return im
}

// sync makes the image equal to a snapshot: it applies what changed and deletes
// what is gone, so that unchanged topics stay the same pointers.
func (b *builder) sync(snapshot []kv.KeyValue) []error {
	revisions := b.revisions()
	b.im.last = change{} // what was last may never have been
	for _, have := range snapshot {
		if have.ModRevision >= b.im.last.revision {
			b.im.last = change{key: have.Key, revision: have.ModRevision}
		}
	}
	var errs []error
	for _, have := range snapshot {
		if revisions[have.Key] != have.ModRevision {
			if err := b.apply(kv.Event{KV: have}); err != nil {
				errs = append(errs, err)
			}
		}
		delete(revisions, have.Key)
	}
	for key := range revisions {
		if err := b.apply(kv.Event{Deleted: true, KV: kv.KeyValue{Key: key}}); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// revisions returns the keys behind the image. A revision of 0 means that the
// image does not keep it.
func (b *builder) revisions() map[string]int64 {
	revs := map[string]int64{}
	if b.im.controller != NoBroker {
		revs[b.keys.controller()] = 0
	}
	if b.im.restore.mod != 0 {
		revs[b.keys.restore()] = b.im.restore.mod
	}
	for _, broker := range b.im.brokers {
		revs[b.keys.broker(broker.ID)] = 0
	}
	for _, node := range b.im.nodes {
		revs[b.keys.node(node.ID)] = node.Epoch
	}
	for id, s := range b.topics.all() {
		if s.name != "" {
			revs[b.keys.topic(s.name)] = s.mod
		}
		for n, p := range s.parts {
			if p.ModRevision != 0 {
				revs[b.keys.partition(TopicIDPartition{Topic: id, Partition: int32(n)})] = p.ModRevision
			}
		}
	}
	for name, s := range b.topicConfigs.all() {
		revs[b.keys.topicConfig(name)] = s.mod
	}
	for entity, s := range b.im.brokerConfigs {
		revs[b.keys.brokerConfig(entity)] = s.mod
	}
	for tip, p := range b.remote.all() {
		revs[b.keys.remote(tip)] = p.ModRevision
	}
	for e, s := range b.im.quotas {
		revs[b.keys.quota(e)] = s.mod
	}
	for id, t := range b.im.tombstones {
		revs[b.keys.tombstone(id)] = t.mod
	}
	return revs
}

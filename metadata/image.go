package metadata

import (
	"cmp"
	"iter"
	"slices"
	"sync/atomic"
	"time"
)

// Image is the cluster as of one revision. It never changes, and neither may
// what it returns: slices and maps are shared by all readers and by later images.
type Image struct {
	revision        int64
	last            change // the last that put a key
	clusterID       string
	controller      BrokerID
	controllerEpoch int64
	brokers         []Broker // by id
	nodes           []Node   // by id
	topicIDs        table[string, TopicID]
	topics          table[TopicID, *topicState]
	names           []string // of visible topics, in order
	topicConfigs    table[string, *configState]
	brokerConfigs   map[string]*configState // by broker id in decimal, or defaultBroker
	remote          table[TopicIDPartition, RemotePointer]
	tombstones      map[TopicID]*tombstone
	restore         restoreState
	quotas          map[QuotaEntity]*quotaState
	quotaChanges    int64                    // how often an event touched quotas
	sorted          atomic.Pointer[[]*Topic] // made by the first call of Topics
}

// topicState is all that is known of a topic id.
type topicState struct {
	name    string // of the topics/ key, empty without one
	value   topicValue
	mod     int64       // of the topics/ key
	parts   []Partition // may be longer than value.Partitions; absent ones have ModRevision 0
	present int         // of parts
	topic   *Topic      // what readers see, nil without a topics/ key
}

// change is a key and the revision that wrote it.
type change struct {
	key      string
	revision int64
}

type configState struct {
	values map[string]string
	mod    int64
}

type tombstone struct {
	value tombstoneValue
	mod   int64
}

// Tombstone is a topic that was deleted and whose data is still to go, or one
// whose creation was not finished.
type Tombstone struct {
	Topic    Topic             // as it was, with the partitions' last states
	Configs  map[string]string // its overrides
	Deleted  time.Time         // when; of an unfinished creation, when that began
	Creating bool              // never became visible
	Purging  bool              // its data is being removed: it cannot come back
	// ModRevision is compared by [Store.FinishTombstone].
	ModRevision int64
}

func newImage() *Image {
	return &Image{
		controller: NoBroker, topicIDs: newTable[string, TopicID](), topics: newTable[TopicID, *topicState](),
		topicConfigs: newTable[string, *configState](), remote: newTable[TopicIDPartition, RemotePointer](),
	}
}

// Revision is the revision of the last change that the image has.
func (im *Image) Revision() int64 { return im.revision }

// ClusterID is made once, when the cluster is.
func (im *Image) ClusterID() string { return im.clusterID }

// Controller is the elected broker, or NoBroker.
func (im *Image) Controller() BrokerID { return im.controller }

// ControllerEpoch is the revision of the controller's election, 0 without one.
func (im *Image) ControllerEpoch() int64 { return im.controllerEpoch }

// Broker returns a live broker.
func (im *Image) Broker(id BrokerID) (Broker, bool) {
	i, ok := im.brokerIndex(id)
	if !ok {
		return Broker{}, false
	}
	return im.brokers[i], true
}

func (im *Image) brokerIndex(id BrokerID) (int, bool) {
	return slices.BinarySearchFunc(im.brokers, id, func(b Broker, id BrokerID) int { return cmp.Compare(b.ID, id) })
}

// Brokers returns the live brokers by id.
func (im *Image) Brokers() []Broker { return im.brokers }

// Node returns a broker that registered once, live or not.
func (im *Image) Node(id BrokerID) (Node, bool) {
	i, ok := im.nodeIndex(id)
	if !ok {
		return Node{}, false
	}
	return im.nodes[i], true
}

func (im *Image) nodeIndex(id BrokerID) (int, bool) {
	return slices.BinarySearchFunc(im.nodes, id, func(n Node, id BrokerID) int { return cmp.Compare(n.ID, id) })
}

// Nodes returns all brokers that ever registered and were not unregistered, live
// or not, by id.
func (im *Image) Nodes() []Node { return im.nodes }

// Topic returns a topic by name.
func (im *Image) Topic(name string) (*Topic, bool) {
	id, ok := im.topicIDs.get(name)
	if !ok {
		return nil, false
	}
	return im.TopicByID(id)
}

// TopicByID returns a topic by id.
func (im *Image) TopicByID(id TopicID) (*Topic, bool) {
	s, ok := im.topics.get(id)
	if !ok || s.topic == nil {
		return nil, false
	}
	return s.topic, true
}

// Topics returns all topics by name.
func (im *Image) Topics() []*Topic {
	if list := im.sorted.Load(); list != nil {
		return *list
	}
	list := make([]*Topic, 0, len(im.names))
	for _, name := range im.names {
		if t, ok := im.Topic(name); ok {
			list = append(list, t)
		}
	}
	im.sorted.Store(&list)
	return list
}

// Partition returns the state of one partition.
func (im *Image) Partition(tp TopicPartition) (Partition, bool) {
	t, ok := im.Topic(tp.Topic)
	if !ok {
		return Partition{}, false
	}
	return t.partition(tp.Partition)
}

// PartitionByID returns the state of one partition.
func (im *Image) PartitionByID(tip TopicIDPartition) (Partition, bool) {
	t, ok := im.TopicByID(tip.Topic)
	if !ok {
		return Partition{}, false
	}
	return t.partition(tip.Partition)
}

func (t *Topic) partition(n int32) (Partition, bool) {
	if n < 0 || int(n) >= len(t.Partitions) {
		return Partition{}, false
	}
	return t.Partitions[n], true
}

// TopicConfig returns the overrides of a topic, nil if there are none.
func (im *Image) TopicConfig(name string) map[string]string {
	s, ok := im.topicConfigs.get(name)
	if !ok {
		return nil
	}
	return s.values
}

// BrokerConfig returns what was set for one broker alone, nil if nothing was.
func (im *Image) BrokerConfig(id BrokerID) map[string]string { return im.brokerConfig(brokerText(id)) }

// DefaultBrokerConfig returns what was set for all brokers, nil if nothing was.
func (im *Image) DefaultBrokerConfig() map[string]string { return im.brokerConfig(defaultBroker) }

func (im *Image) brokerConfig(entity string) map[string]string {
	if s := im.brokerConfigs[entity]; s != nil {
		return s.values
	}
	return nil
}

// RemotePointer returns the partition's pointer as the image knows it, which may
// be older than what [Store.RemotePointer] reads. It also knows the pointers of
// topics under a tombstone.
func (im *Image) RemotePointer(tip TopicIDPartition) (RemotePointer, bool) { return im.remote.get(tip) }

// Tombstones returns the topics to be worked off, oldest first.
func (im *Image) Tombstones() []Tombstone {
	list := make([]Tombstone, 0, len(im.tombstones))
	for id, t := range im.tombstones {
		list = append(list, im.tombstone(id, t))
	}
	slices.SortFunc(list, func(a, b Tombstone) int {
		return cmp.Or(a.Deleted.Compare(b.Deleted), a.Topic.ID.Compare(b.Topic.ID))
	})
	return list
}

func (im *Image) tombstone(id TopicID, t *tombstone) Tombstone {
	v := t.value
	out := Tombstone{
		Topic:   Topic{Name: v.Name, ID: id, Created: v.Created, Kept: v.Kept},
		Configs: v.Configs, Deleted: v.Deleted, Creating: v.Creating, Purging: v.Purging, ModRevision: t.mod,
	}
	if s, ok := im.topics.get(id); ok {
		out.Topic.Partitions = s.visible(v.Partitions)
	}
	return out
}

// visible returns the first n partitions. One that is missing, which nothing
// here writes, shows as one without replicas.
func (s *topicState) visible(n int32) []Partition {
	if int(n) <= len(s.parts) && s.present == len(s.parts) {
		return s.parts[:n:n]
	}
	out := make([]Partition, n)
	for i := range out {
		if i < len(s.parts) && s.parts[i].ModRevision != 0 {
			out[i] = s.parts[i]
		} else {
			out[i] = Partition{Leader: NoBroker}
		}
	}
	return out
}

// TopicChange is a topic that two images show differently. A topic that was
// deleted and created again is two changes.
type TopicChange struct {
	ID       TopicID
	Old, New *Topic // nil where it does not exist
}

// ChangedTopics yields the topics, without their configuration, that differ from
// old, an earlier image of the same Store. It costs what changed, not what there
// is, so a loop over images should remember the last one it worked through.
func (im *Image) ChangedTopics(old *Image) iter.Seq[TopicChange] {
	return func(yield func(TopicChange) bool) {
		seen := map[TopicID]bool{}
		for id := range im.topics.touched(old.topics) {
			before, _ := old.TopicByID(id)
			after, _ := im.TopicByID(id)
			if before == after || seen[id] {
				continue
			}
			seen[id] = true
			if !yield(TopicChange{ID: id, Old: before, New: after}) {
				return
			}
		}
	}
}

// ChangedTopicConfigs yields the names of topics whose overrides differ from old's.
func (im *Image) ChangedTopicConfigs(old *Image) iter.Seq[string] {
	return changedKeys(im.topicConfigs, old.topicConfigs)
}

// ChangedRemote yields the partitions whose remote pointer differs from old's.
func (im *Image) ChangedRemote(old *Image) iter.Seq[TopicIDPartition] {
	return changedKeys(im.remote, old.remote)
}

func changedKeys[K, V comparable](now, old table[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		seen := map[K]bool{}
		for k := range now.touched(old) {
			a, hadA := now.get(k)
			b, hadB := old.get(k)
			if hadA == hadB && a == b || seen[k] {
				continue
			}
			seen[k] = true
			if !yield(k) {
				return
			}
		}
	}
}

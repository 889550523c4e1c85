package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// Errors of RestoreCluster, RecoverTopic and Open.
var (
	// ErrClusterExists means that there is a cluster where one was to be restored.
	ErrClusterExists = errors.New("there is a cluster already")
	// ErrRestoring means that a restore is under way, or was broken off: what is
	// there is not whole.
	ErrRestoring = errors.New("a restore is under way or was broken off")
	// ErrTopicIDTaken means that another topic has the id, or one that was deleted
	// and whose data is still there.
	ErrTopicIDTaken = errors.New("topic id is taken")
)

// RestoredPartition is a partition that comes back from the tier. Where its
// brokers' disks still hold some of it, that is looked at before one of them leads.
type RestoredPartition struct {
	Replicas []BrokerID // where it is to be, the preferred leader first
	// LeaderEpoch is above all that the partition ever had, so that clients which
	// knew its lost end see that somebody else wrote what comes there.
	LeaderEpoch int32
	Remote      RemotePointer // without a Manifest: nothing is in the tier
}

// RestoredTopic is a topic that comes back.
type RestoredTopic struct {
	Name       string
	ID         TopicID
	Created    time.Time
	Configs    map[string]string
	Partitions []RestoredPartition
	Deleted    time.Time // not zero: it comes back as the tombstone it was
	Purging    bool      // with Deleted: some of its data is gone
}

// PendingGroups says that offsets of groups are still to be imported.
type PendingGroups struct {
	Snapshot string `json:"snapshot,omitempty"` // key of the snapshot below the cluster's prefix in the bucket
	// Epoch is the leader epoch that the restore gave the partitions of the groups'
	// topic. A log that begins in an earlier one outlived the restore.
	Epoch int32 `json:"epoch,omitempty"`
}

// Restored is all that RestoreCluster writes.
type Restored struct {
	ClusterID      string
	Topics         []RestoredTopic
	BrokerConfigs  map[string]map[string]string // by broker id in decimal; empty: of all brokers
	NextProducerID int64
	Verbatim       map[string]json.RawMessage // of Store.Verbatim
	Groups         PendingGroups              // without a Snapshot: none
}

// restoreValue is the key restore. Writing says that the restore is not complete.
type restoreValue struct {
	Writing bool `json:"writing,omitempty"`
	PendingGroups
	Kept
}

func (k keyspace) restore() string { return string(k) + "restore" }

// verbatimKinds are kept as they are by snapshots and restores, whatever they hold.
var verbatimKinds = []string{"acls/", "features", "quotas/", "scram/"}

// partition is what a restore writes: it is not known who has what, so the replicas
// look, and who leads takes what the tier has before it serves. See
// Partition.Restored.
func (p RestoredPartition) partition() Partition {
	return Partition{Replicas: p.Replicas, ISR: []BrokerID{}, Leader: NoBroker, LeaderEpoch: p.LeaderEpoch, Recovering: true}
}

func (t RestoredTopic) check() error {
	if err := ValidTopicName(t.Name); err != nil {
		return err
	}
	if n := len(t.Partitions); t.ID.IsZero() || n == 0 || n > MaxPartitionsPerTopic {
		return fmt.Errorf("topic %q: id %s with %d partitions", t.Name, t.ID, n)
	}
	replicas := make([][]BrokerID, len(t.Partitions))
	for i, p := range t.Partitions {
		replicas[i] = p.Replicas
		if p.LeaderEpoch < 0 {
			return fmt.Errorf("topic %q: partition %d: leader epoch %d", t.Name, i, p.LeaderEpoch)
		}
	}
	if err := checkAssignments(replicas); err != nil {
		return fmt.Errorf("topic %q: %w", t.Name, err)
	}
	return nil
}

// puts returns the keys of the topic's partitions and pointers.
func (t RestoredTopic) puts(k keyspace) []kv.Op {
	out := make([]kv.Op, 0, 2*len(t.Partitions))
	for n, p := range t.Partitions {
		out = append(out, kv.Put(k.partition(TopicIDPartition{Topic: t.ID, Partition: int32(n)}), encode(p.partition()), 0))
	}
	for n, p := range t.Partitions {
		if p.Remote.Manifest != "" {
			out = append(out, kv.Put(k.remote(TopicIDPartition{Topic: t.ID, Partition: int32(n)}), encode(p.Remote), 0))
		}
	}
	return out
}

// crown returns the keys that make the topic, or its tombstone, visible.
func (t RestoredTopic) crown(k keyspace) []kv.Op {
	if !t.Deleted.IsZero() {
		return []kv.Op{kv.Put(k.tombstone(t.ID), encode(tombstoneValue{
			Name: t.Name, Partitions: int32(len(t.Partitions)), Created: t.Created, Configs: t.Configs, Deleted: t.Deleted, Purging: t.Purging,
		}), 0)}
	}
	out := []kv.Op{kv.Put(k.topic(t.Name), encode(topicValue{ID: t.ID, Partitions: int32(len(t.Partitions)), Created: t.Created}), 0)}
	if len(t.Configs) > 0 {
		out = append(out, kv.Put(k.topicConfig(t.Name), encode(t.Configs), 0))
	}
	return out
}

// restoreWriter writes a cluster where there is none. Everything is conditional on
// its claim, so that it stops when somebody else takes over.
type restoreWriter struct {
	kv    kv.KV
	keys  keyspace
	claim int64 // revision of the key restore
}

// CheckEmpty says whether a cluster can be restored: ErrClusterExists,
// ErrRestoring, or nil. Again makes the remains of a broken-off restore no error.
func CheckEmpty(ctx context.Context, store kv.KV, cluster string, again bool) error {
	w := restoreWriter{kv: store, keys: keyspaceOf(cluster)}
	_, err := w.remains(ctx, again)
	return err
}

func keyspaceOf(cluster string) keyspace {
	if cluster == "" {
		cluster = "coldbrook"
	}
	return keyspace("/coldbrook/" + cluster + "/")
}

// RestoreCluster writes a cluster into a key-value store that has none of that
// name. Each transaction succeeds only where nothing is. Brokers refuse to start
// until all is written. A restore that was broken off is begun anew with again.
// Errors: ErrClusterExists, ErrRestoring.
func RestoreCluster(ctx context.Context, store kv.KV, cluster string, r Restored, again bool) error {
	w := restoreWriter{kv: store, keys: keyspaceOf(cluster)}
	if err := w.write(ctx, r, again); err != nil {
		return fmt.Errorf("restore cluster %s: %w", r.ClusterID, err)
	}
	return nil
}

func (w *restoreWriter) write(ctx context.Context, r Restored, again bool) error {
	if r.ClusterID == "" {
		return errors.New("no cluster id")
	}
	for _, t := range r.Topics {
		if err := t.check(); err != nil {
			return err
		}
	}
	puts, err := w.settings(r)
	if err != nil {
		return err
	}
	for _, t := range r.Topics {
		puts = append(puts, t.puts(w.keys)...)
	}
	for _, t := range r.Topics {
		puts = append(puts, t.crown(w.keys)...)
	}
	if err := w.begin(ctx, r, again); err != nil {
		return err
	}
	for part := range slices.Chunk(puts, max(1, w.kv.MaxTxnOps()-1)) {
		if err := w.put(ctx, part); err != nil {
			return err
		}
	}
	last := []kv.Op{kv.Delete(w.keys.restore(), "")}
	if r.Groups.Snapshot != "" {
		last = []kv.Op{kv.Put(w.keys.restore(), encode(restoreValue{PendingGroups: r.Groups}), 0)}
	}
	resp, err := w.kv.Txn(ctx, kv.Txn{If: []kv.Cmp{kv.Unchanged(w.keys.restore(), w.claim)}, Then: last})
	if err == nil && !resp.Succeeded {
		err = ErrRestoring
	}
	return err
}

// settings are the keys that belong to no topic.
func (w *restoreWriter) settings(r Restored) ([]kv.Op, error) {
	var puts []kv.Op
	for _, entity := range slices.Sorted(maps.Keys(r.BrokerConfigs)) {
		key := w.keys.brokerConfig(defaultBroker)
		if entity != "" {
			if _, err := parseBroker(entity); err != nil {
				return nil, err
			}
			key = w.keys.brokerConfig(entity)
		}
		puts = append(puts, kv.Put(key, encode(r.BrokerConfigs[entity]), 0))
	}
	if r.NextProducerID > 0 {
		puts = append(puts, kv.Put(w.keys.producerIDs(), encode(producerIDsValue{Next: r.NextProducerID}), 0))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Verbatim)) {
		if !slices.ContainsFunc(verbatimKinds, func(kind string) bool { return strings.HasPrefix(name, kind) }) {
			return nil, fmt.Errorf("key %q is not one that is restored as it was", name)
		}
		puts = append(puts, kv.Put(string(w.keys)+name, r.Verbatim[name], 0))
	}
	return puts, nil
}

// begin claims the key-value store.
func (w *restoreWriter) begin(ctx context.Context, r Restored, again bool) error {
	remains, err := w.remains(ctx, again)
	if err != nil {
		return err
	}
	if remains != 0 {
		_, err := w.kv.Txn(ctx, kv.Txn{
			If:   []kv.Cmp{kv.Unchanged(w.keys.restore(), remains)},
			Then: []kv.Op{kv.Delete(string(w.keys), kv.PrefixEnd(string(w.keys)))},
		})
		if err != nil {
			return err
		}
	}
	resp, err := w.kv.Txn(ctx, kv.Txn{
		If: []kv.Cmp{kv.Absent(w.keys.cluster()), kv.Absent(w.keys.restore())},
		Then: []kv.Op{
			kv.Put(w.keys.restore(), encode(restoreValue{Writing: true}), 0),
			kv.Put(w.keys.cluster(), encode(clusterValue{ID: r.ClusterID}), 0),
		},
	})
	switch {
	case err != nil:
		return err
	case !resp.Succeeded:
		return ErrClusterExists
	}
	w.claim = resp.Revision
	return nil
}

// remains returns the revision of a broken-off restore's claim, 0 if nothing is there.
func (w *restoreWriter) remains(ctx context.Context, again bool) (int64, error) {
	resp, err := w.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(w.keys.restore(), ""), kv.Get(w.keys.cluster(), "")}})
	if err != nil {
		return 0, err
	}
	if len(resp.Gets[0]) > 0 {
		v, err := decode[restoreValue](kv.Event{KV: resp.Gets[0][0]})
		switch {
		case err != nil:
			return 0, fmt.Errorf("key %q: %w", w.keys.restore(), err)
		case v.Writing && again:
			return resp.Gets[0][0].ModRevision, nil
		case v.Writing:
			return 0, ErrRestoring
		}
	}
	if len(resp.Gets[1]) > 0 {
		v, err := decode[clusterValue](kv.Event{KV: resp.Gets[1][0]})
		if err != nil {
			return 0, fmt.Errorf("key %q: %w", w.keys.cluster(), err)
		}
		return 0, fmt.Errorf("%w: its id is %s", ErrClusterExists, v.ID)
	}
	any, err := w.kv.Range(ctx, kv.RangeRequest{Key: string(w.keys), End: kv.PrefixEnd(string(w.keys)), Limit: 1})
	if err == nil && len(any.KVs) > 0 {
		err = fmt.Errorf("%w: key %q is there", ErrClusterExists, any.KVs[0].Key)
	}
	return 0, err
}

// put writes keys that are not there.
func (w *restoreWriter) put(ctx context.Context, puts []kv.Op) error {
	t := kv.Txn{If: []kv.Cmp{kv.Unchanged(w.keys.restore(), w.claim)}, Then: puts}
	for _, p := range puts {
		t.If = append(t.If, kv.Absent(p.Key))
	}
	resp, err := w.kv.Txn(ctx, t)
	if err == nil && !resp.Succeeded {
		err = fmt.Errorf("%w: somebody else writes here", ErrConflict)
	}
	return err
}

// RecoverTopic makes a topic that comes back from the tier, in a living cluster.
// Errors: ErrTopicExists, ErrTopicIDTaken.
func (s *Store) RecoverTopic(ctx context.Context, t RestoredTopic) error {
	if err := s.recoverTopic(ctx, t); err != nil {
		return fmt.Errorf("recover topic %q: %w", t.Name, err)
	}
	return nil
}

func (s *Store) recoverTopic(ctx context.Context, r RestoredTopic) error {
	if err := r.check(); err != nil {
		return err
	}
	im := s.Image()
	if _, exists := im.Topic(r.Name); exists {
		return ErrTopicExists
	}
	_, exists := im.TopicByID(r.ID)
	if _, buried := im.tombstones[r.ID]; exists || buried {
		return ErrTopicIDTaken
	}
	r.Deleted = time.Time{}
	t := &Topic{Name: r.Name, ID: r.ID, Created: r.Created}
	for _, p := range r.Partitions {
		t.Partitions = append(t.Partitions, p.partition())
	}
	puts := r.puts(s.keys)
	create := kv.Txn{
		If:   []kv.Cmp{kv.Absent(s.keys.topic(t.Name))},
		Then: r.crown(s.keys),
		Else: []kv.Op{kv.Get(s.keys.topic(t.Name), "")},
	}
	if len(create.Then)+len(puts) > s.kv.MaxTxnOps() {
		_, err := s.createLarge(ctx, t, create, puts)
		return err
	}
	create.If = append(create.If, kv.Absent(s.keys.tombstone(t.ID)), kv.Absent(s.keys.partition(TopicIDPartition{Topic: t.ID})))
	create.Then = append(create.Then, puts...)
	_, err := s.commitTopic(ctx, t, create)
	return err
}

// PendingGroups says whether the cluster was restored and offsets of groups are
// still to be imported.
func (im *Image) PendingGroups() (PendingGroups, bool) {
	return im.restore.value.PendingGroups, im.restore.value.Snapshot != ""
}

// restoreState is the key restore in an image.
type restoreState struct {
	value restoreValue
	mod   int64 // 0: there is none
}

func (b *builder) applyRestore(e kv.Event) error {
	if e.Deleted {
		b.im.restore = restoreState{}
		return nil
	}
	v, err := decode[restoreValue](e)
	if err != nil {
		return err
	}
	b.im.restore = restoreState{value: v, mod: e.KV.ModRevision}
	return nil
}

// FinishGroups forgets what PendingGroups says: the offsets of all groups are imported.
func (s *Store) FinishGroups(ctx context.Context) error {
	mod := s.Image().restore.mod
	if mod == 0 {
		return nil
	}
	resp, err := s.txn(ctx, "finish-restore", kv.Txn{
		If:   []kv.Cmp{kv.Unchanged(s.keys.restore(), mod)},
		Then: []kv.Op{kv.Delete(s.keys.restore(), "")},
	})
	if err != nil {
		return fmt.Errorf("finish restore: %w", err)
	}
	if resp.Succeeded {
		s.settle(ctx, resp.Revision)
	}
	return nil
}

// Verbatim returns what is in the store beside what the image shows and a
// snapshot must have, by key below the cluster's prefix, and the next producer id.
func (s *Store) Verbatim(ctx context.Context) (keys map[string]json.RawMessage, nextProducerID int64, err error) {
	look := []kv.Op{kv.Get(s.keys.producerIDs(), "")}
	for _, kind := range verbatimKinds {
		prefix := string(s.keys) + kind
		look = append(look, kv.Get(prefix, kv.PrefixEnd(prefix)))
	}
	resp, err := s.txn(ctx, "read-verbatim", kv.Txn{Then: look})
	if err != nil {
		return nil, 0, fmt.Errorf("read keys for a snapshot: %w", err)
	}
	if len(resp.Gets[0]) > 0 {
		v, err := decode[producerIDsValue](kv.Event{KV: resp.Gets[0][0]})
		if err != nil {
			return nil, 0, fmt.Errorf("key %q: %w", s.keys.producerIDs(), err)
		}
		nextProducerID = v.Next
	}
	for _, have := range resp.Gets[1:] {
		for _, one := range have {
			if !json.Valid(one.Value) {
				return nil, 0, fmt.Errorf("key %q: not JSON", one.Key)
			}
			if keys == nil {
				keys = map[string]json.RawMessage{}
			}
			keys[one.Key[len(s.keys):]] = one.Value
		}
	}
	return keys, nextProducerID, nil
}

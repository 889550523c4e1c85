package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	clusterDir     = "cluster/"
	snapshotFormat = "coldbrook.cluster.snapshot"
	// maxSnapshotBytes bounds a snapshot: some 4,000,000 committed offsets.
	maxSnapshotBytes = 256 << 20
	// minObjectBytes is the least that a JSON object in a snapshot takes: {"p":0,"o":0}.
	minObjectBytes = 13
)

// Snapshot is the contents of cluster/<sequence>.json: what a cluster is beside what topics' own objects
// say. Times are Unix milliseconds where they are numbers.
type Snapshot struct {
	ClusterID string `json:"cluster_id"`
	Sequence  int64  `json:"sequence"`
	Created   int64  `json:"created"`
	// Source is the snapshot that a restore made this one of: its groups' offsets are within what came back.
	Source int64 `json:"source,omitempty"`

	Brokers        []SnapshotBroker             `json:"brokers,omitempty"`
	Topics         []SnapshotTopic              `json:"topics,omitempty"`  // by name
	Deleted        []SnapshotTopic              `json:"deleted,omitempty"` // whose objects may still be there
	BrokerConfigs  map[string]map[string]string `json:"broker_configs,omitempty"`
	NextProducerID int64                        `json:"next_producer_id,omitempty"`
	Groups         []SnapshotGroup              `json:"groups,omitempty"` // by name
	Keys           map[string]json.RawMessage   `json:"keys,omitempty"`   // ACLs, credentials, quotas: as in etcd
	Unknown        manifest.Unknown             `json:"-"`
}

// SnapshotBroker is a broker that holds partitions.
type SnapshotBroker struct {
	ID      metadata.BrokerID `json:"id"`
	Rack    string            `json:"rack,omitempty"`
	Unknown manifest.Unknown  `json:"-"`
}

// SnapshotTopic is a topic of a snapshot.
type SnapshotTopic struct {
	Topic      string              `json:"topic"`
	TopicID    metadata.TopicID    `json:"topic_id"`
	Created    time.Time           `json:"created"`
	Configs    map[string]string   `json:"configs,omitempty"`
	Deleted    *time.Time          `json:"deleted,omitempty"`
	Purging    bool                `json:"purging,omitempty"` // some of its data is gone
	Partitions []SnapshotPartition `json:"partitions"`
	Unknown    manifest.Unknown    `json:"-"`
}

// SnapshotPartition is a partition of a snapshot.
type SnapshotPartition struct {
	Replicas    []metadata.BrokerID `json:"replicas"`
	LeaderEpoch int32               `json:"epoch"`
	End         int64               `json:"end"` // high watermark, -1 unknown
	Unknown     manifest.Unknown    `json:"-"`
}

// SnapshotGroup is a group's committed offsets.
type SnapshotGroup struct {
	Group   string               `json:"group"`
	Topics  []SnapshotGroupTopic `json:"topics,omitempty"` // by name
	Unknown manifest.Unknown     `json:"-"`
}

// SnapshotGroupTopic is a group's committed offsets of a topic.
type SnapshotGroupTopic struct {
	Topic      string           `json:"topic"`
	Partitions []SnapshotOffset `json:"partitions"` // by number
	Unknown    manifest.Unknown `json:"-"`
}

// SnapshotOffset is one committed offset.
type SnapshotOffset struct {
	Partition   int32  `json:"p"`
	Offset      int64  `json:"o"`
	LeaderEpoch int32  `json:"e,omitempty"` // one more than the leader epoch; 0: unknown
	Metadata    string `json:"m,omitempty"`
}

// Offsets counts the committed offsets.
func (s *Snapshot) Offsets() int {
	n := 0
	for i := range s.Groups {
		for _, t := range s.Groups[i].Topics {
			n += len(t.Partitions)
		}
	}
	return n
}

// KeepUnknown takes over what a newer release has put into the snapshot before this one, of the cluster, its brokers,
// topics, partitions and groups as far as they are still there: a snapshot is made anew each time from what this release knows.
func (s *Snapshot) KeepUnknown(before *Snapshot) {
	s.Unknown = before.Unknown
	brokers := map[metadata.BrokerID]manifest.Unknown{}
	for _, b := range before.Brokers {
		brokers[b.ID] = b.Unknown
	}
	for i := range s.Brokers {
		s.Brokers[i].Unknown = brokers[s.Brokers[i].ID]
	}
	topics := map[metadata.TopicID]*SnapshotTopic{}
	for _, list := range [][]SnapshotTopic{before.Topics, before.Deleted} {
		for i := range list {
			topics[list[i].TopicID] = &list[i]
		}
	}
	for _, list := range [][]SnapshotTopic{s.Topics, s.Deleted} {
		for i := range list {
			if was := topics[list[i].TopicID]; was != nil {
				list[i].keepUnknown(was)
			}
		}
	}
	groups := map[string]manifest.Unknown{}
	for i := range before.Groups {
		if u := before.Groups[i].Unknown; u != "" {
			groups[before.Groups[i].Group] = u
		}
	}
	for i := range s.Groups {
		if u := groups[s.Groups[i].Group]; u != "" {
			s.Groups[i].Unknown = u
		}
	}
}

func (t *SnapshotTopic) keepUnknown(before *SnapshotTopic) {
	t.Unknown = before.Unknown
	for n := range min(len(t.Partitions), len(before.Partitions)) {
		t.Partitions[n].Unknown = before.Partitions[n].Unknown
	}
}

// SameState says whether both describe the same, whenever and under whatever name they were written. Committed offsets,
// of which there may be millions, are compared as they are; groups that are the same slice not at all.
func (s *Snapshot) SameState(other *Snapshot) bool {
	a, b := *s, *other
	a.Sequence, a.Created, a.Source, a.Groups = 0, 0, 0, nil
	b.Sequence, b.Created, b.Source, b.Groups = 0, 0, 0, nil
	x, err1 := json.Marshal(&a)
	y, err2 := json.Marshal(&b)
	return err1 == nil && err2 == nil && string(x) == string(y) && sameGroups(s.Groups, other.Groups)
}

func sameGroups(a, b []SnapshotGroup) bool {
	if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
		return true
	}
	return slices.EqualFunc(a, b, func(x, y SnapshotGroup) bool {
		return x.Group == y.Group && slices.EqualFunc(x.Topics, y.Topics, func(x, y SnapshotGroupTopic) bool {
			return x.Topic == y.Topic && slices.Equal(x.Partitions, y.Partitions)
		})
	})
}

func (s *Snapshot) validate() error {
	if s.ClusterID == "" || s.Sequence < 1 {
		return fmt.Errorf("snapshot %d of cluster %q: %w", s.Sequence, s.ClusterID, manifest.ErrCorrupt)
	}
	for _, list := range [][]SnapshotTopic{s.Topics, s.Deleted} {
		for i := range list {
			t := &list[i]
			if err := metadata.ValidTopicName(t.Topic); err != nil || t.TopicID.IsZero() || len(t.Partitions) > metadata.MaxPartitionsPerTopic {
				return fmt.Errorf("snapshot %d: topic %q with %d partitions: %w", s.Sequence, t.Topic, len(t.Partitions), manifest.ErrCorrupt)
			}
		}
	}
	return nil
}

func (s *Snapshot) encode() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	b, _, err := manifest.SealJSON(snapshotFormat, s, maxSnapshotBytes)
	return b, err
}

// DecodeSnapshot reads a cluster/<sequence>.json object.
func DecodeSnapshot(b []byte) (*Snapshot, error) {
	s := new(Snapshot)
	if _, err := manifest.OpenObjects(snapshotFormat, b, maxSnapshotBytes, len(b)/minObjectBytes+16, s); err != nil {
		return nil, err
	}
	return s, s.validate()
}

// SnapshotKey is where a snapshot lies, below the cluster's prefix.
func SnapshotKey(sequence int64) string {
	return fmt.Sprintf("%s%020d%s", clusterDir, sequence, manifest.JSONSuffix)
}

func parseSnapshotKey(key string) (int64, bool) {
	base, ok := strings.CutSuffix(strings.TrimPrefix(key, clusterDir), manifest.JSONSuffix)
	n, err := strconv.ParseInt(base, 10, 64)
	return n, ok && err == nil && len(base) == 20 && n > 0
}

// SnapshotInfo names a snapshot of a cluster.
type SnapshotInfo struct {
	Sequence int64
	Bytes    int64
	Modified time.Time
}

// Snapshots returns a cluster's snapshots, oldest first.
func (b *Bucket) Snapshots(ctx context.Context, clusterID string) ([]SnapshotInfo, error) {
	prefix := clusterID + "/"
	var out []SnapshotInfo
	for info, err := range b.Store.List(ctx, prefix+clusterDir, "") {
		if err != nil {
			return nil, Failed("list", prefix+clusterDir, err)
		}
		if n, ok := parseSnapshotKey(info.Key[len(prefix):]); ok {
			out = append(out, SnapshotInfo{Sequence: n, Bytes: info.Size, Modified: info.Modified})
		}
	}
	return out, nil
}

// Snapshot reads one snapshot.
func (b *Bucket) Snapshot(ctx context.Context, clusterID, key string) (*Snapshot, error) {
	body, err := b.Read(ctx, clusterID+"/"+key, maxSnapshotBytes)
	if err != nil {
		return nil, err
	}
	s, err := DecodeSnapshot(body)
	if err == nil && (s.ClusterID != clusterID || SnapshotKey(s.Sequence) != key) {
		err = fmt.Errorf("it is snapshot %d of cluster %s: %w", s.Sequence, s.ClusterID, manifest.ErrCorrupt)
	}
	if err != nil {
		return nil, &ObjectError{Op: "read snapshot", Object: clusterID + "/" + key, Err: err}
	}
	return s, nil
}

// NewestSnapshot returns the newest snapshot that can be read, nil if there is none, and what is wrong with newer ones.
func (b *Bucket) NewestSnapshot(ctx context.Context, clusterID string) (*Snapshot, []error, error) {
	list, err := b.Snapshots(ctx, clusterID)
	if err != nil {
		return nil, nil, err
	}
	var bad []error
	for _, info := range slices.Backward(list) {
		s, err := b.Snapshot(ctx, clusterID, SnapshotKey(info.Sequence))
		switch {
		case err == nil:
			return s, bad, nil
		case !IsDamage(err):
			return nil, bad, err
		}
		bad = append(bad, err)
	}
	return nil, bad, nil
}

// PutSnapshot writes s under the next free sequence after its own, which it changes. An existing one is never replaced.
func (b *Bucket) PutSnapshot(ctx context.Context, s *Snapshot) error {
	for range MaxRenames {
		s.Sequence++
		body, err := s.encode()
		if err != nil {
			return err
		}
		key := s.ClusterID + "/" + SnapshotKey(s.Sequence)
		_, err = b.Store.Put(ctx, key, object.Bytes(body), object.PutOptions{IfAbsent: true, CRC32C: Checksum(body), HasCRC: true})
		if !errors.Is(err, object.ErrExists) {
			return Failed("write", key, err)
		}
		list, err := b.Snapshots(ctx, s.ClusterID)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			s.Sequence = max(s.Sequence, list[len(list)-1].Sequence)
		}
	}
	return fmt.Errorf("no free name for a snapshot of cluster %s", s.ClusterID)
}

// PruneSnapshots deletes the snapshots before the last keep ones that are older than the grace period; except is the
// key of one that stays.
func (b *Bucket) PruneSnapshots(ctx context.Context, clusterID string, keep int, grace time.Duration, now time.Time, except string) error {
	list, err := b.Snapshots(ctx, clusterID)
	if err != nil {
		return err
	}
	var keys []string
	for _, info := range list[:max(0, len(list)-keep)] {
		if key := SnapshotKey(info.Sequence); key != except && now.Sub(info.Modified) > grace {
			keys = append(keys, clusterID+"/"+key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return Failed("delete", keys[0], b.Store.Delete(ctx, keys...))
}

// SetBrokerConfig adds what was set for one broker, or with an empty id for all.
func (s *Snapshot) SetBrokerConfig(id string, values map[string]string) {
	if len(values) == 0 {
		return
	}
	if s.BrokerConfigs == nil {
		s.BrokerConfigs = map[string]map[string]string{}
	}
	s.BrokerConfigs[id] = values
}

package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
)

const (
	// epochMargin is added to the highest leader epoch that is known of a partition: the lost tail may have had
	// some more, and none of them may come again.
	epochMargin = 100
	// producerIDMargin does the same for producer ids.
	producerIDMargin = 1 << 32
	// unknownProducerIDs is where ids begin without a snapshot.
	unknownProducerIDs = 1 << 40
)

// ErrNoBrokers means that nothing says on which brokers partitions are to be.
var ErrNoBrokers = errors.New("no snapshot says which brokers there were")

// Options say what is to be restored, and where.
type Options struct {
	ClusterID string
	// GroupsTopic is the topic of the groups' offsets.
	GroupsTopic string
	// Brokers are those that hold the partitions; empty: those of the snapshot.
	Brokers []metadata.BrokerID
	// Place assigns replicas where the snapshot does not say it, or names others than Brokers.
	Place func(brokers []metadata.Broker, partitions, replicas, start int) ([][]metadata.BrokerID, error)
}

// Plan is what a restore brings back.
type Plan struct {
	ClusterID string                  `json:"cluster_id"`
	Snapshot  int64                   `json:"snapshot"`    // 0: none
	SnapshotT int64                   `json:"snapshot_ms"` // when it was made
	LastSign  int64                   `json:"last_sign_ms"`
	Brokers   []bucket.SnapshotBroker `json:"brokers"`
	Topics    []Topic                 `json:"topics"`
	Partition []Partition             `json:"partitions"`
	Groups    int                     `json:"groups"`
	Offsets   int                     `json:"offsets"`
	// Moved counts the committed offsets that lay in a lost tail: they come back as its beginning.
	Moved    int      `json:"offsets_moved_back"`
	Problems []string `json:"problems,omitempty"`

	snapshot *bucket.Snapshot
}

// Topic is a topic of a RestorePlan.
type Topic struct {
	Topic      string            `json:"topic"`
	TopicID    metadata.TopicID  `json:"topic_id"`
	Created    time.Time         `json:"created"`
	Deleted    *time.Time        `json:"deleted,omitempty"` // a tombstone, whose data goes when its time comes
	Configs    map[string]string `json:"configs,omitempty"`
	Partitions int               `json:"partitions"`
	Replicas   int               `json:"replicas"`

	parts   []metadata.RestoredPartition
	purging bool
}

// Partition says what comes back of a partition, and what does not.
type Partition struct {
	Topic       string `json:"topic"`
	Partition   int32  `json:"partition"`
	StartOffset int64  `json:"start_offset"`
	EndOffset   int64  `json:"end_offset"` // exclusive
	Bytes       int64  `json:"bytes"`
	Segments    int64  `json:"segments"`
	Newest      int64  `json:"newest_record_ms"` // -1: no record
	LogEnd      int64  `json:"log_end_offset"`   // when the snapshot was made; -1: unknown
	Lost        int64  `json:"lost_records"`     // that are known of; -1: unknown
	Manifest    string `json:"manifest,omitempty"`
}

// planner collects a RestorePlan.
type planner struct {
	o    Options
	plan *Plan
	ends map[string][]int64 // by topic and partition: where what comes back ends
}

// NewPlan reads a cluster's objects and decides what comes back. It changes nothing.
func NewPlan(ctx context.Context, b *bucket.Bucket, o Options) (*Plan, error) {
	snap, bad, err := b.NewestSnapshot(ctx, o.ClusterID)
	if err != nil {
		return nil, err
	}
	topics, err := b.Topics(ctx, o.ClusterID)
	if err != nil {
		return nil, err
	}
	p := &planner{o: o, plan: &Plan{ClusterID: o.ClusterID, snapshot: snap}, ends: map[string][]int64{}}
	for _, err := range bad {
		p.problem("%v", err)
	}
	if snap == nil {
		p.problem("there is no snapshot of the cluster: settings of brokers, offsets of groups and topics without objects do not come back")
	} else {
		p.plan.Snapshot, p.plan.SnapshotT, p.plan.LastSign = snap.Sequence, snap.Created, snap.Created
	}
	if err := p.brokers(); err != nil {
		return nil, err
	}
	if err := p.topics(topics); err != nil {
		return nil, err
	}
	p.groups()
	return p.plan, nil
}

func (p *planner) problem(format string, args ...any) {
	p.plan.Problems = append(p.plan.Problems, fmt.Sprintf(format, args...))
}

func (p *planner) brokers() error {
	var known []bucket.SnapshotBroker
	if p.plan.snapshot != nil {
		known = p.plan.snapshot.Brokers
	}
	if len(p.o.Brokers) == 0 {
		p.plan.Brokers = known
	}
	for _, id := range p.o.Brokers {
		b := bucket.SnapshotBroker{ID: id}
		if i := slices.IndexFunc(known, func(k bucket.SnapshotBroker) bool { return k.ID == id }); i >= 0 {
			b = known[i]
		}
		p.plan.Brokers = append(p.plan.Brokers, b)
	}
	if len(p.plan.Brokers) == 0 {
		return ErrNoBrokers
	}
	return nil
}

// known is what the snapshot and the topic's own objects say of one topic.
type known struct {
	snap   *bucket.SnapshotTopic
	bucket *bucket.Topic
}

// topics decides for each topic id. Of two under one name the younger one comes back.
func (p *planner) topics(found []bucket.Topic) error {
	all := map[metadata.TopicID]*known{}
	get := func(id metadata.TopicID) *known {
		if all[id] == nil {
			all[id] = &known{}
		}
		return all[id]
	}
	if s := p.plan.snapshot; s != nil {
		for _, list := range [][]bucket.SnapshotTopic{s.Topics, s.Deleted} {
			for i := range list {
				get(list[i].TopicID).snap = &list[i]
			}
		}
	}
	for i := range found {
		for _, err := range found[i].Problems {
			p.problem("%v", err)
		}
		if found[i].Partitions > 0 {
			get(found[i].TopicID).bucket = &found[i]
		}
	}
	var planned []Topic
	for _, k := range all {
		t, err := p.topic(k)
		if err != nil {
			return err
		}
		planned = append(planned, t)
	}
	slices.SortFunc(planned, func(a, b Topic) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), b.Created.Compare(a.Created), a.TopicID.Compare(b.TopicID))
	})
	lives := map[string]bool{}
	for i := range planned {
		t := &planned[i]
		if t.Deleted == nil && lives[t.Topic] {
			p.problem("topic %s with id %s is left out: a younger one has its name", t.Topic, t.TopicID)
			continue
		}
		p.plan.Topics = append(p.plan.Topics, *t)
		if t.Deleted == nil {
			lives[t.Topic] = true
			p.partitions(t, all[t.TopicID])
		}
	}
	return nil
}

// topic joins what is known of a topic: its own object counts where it is the newer one.
func (p *planner) topic(k *known) (Topic, error) {
	var t Topic
	own := k.bucket != nil && !k.bucket.Created.IsZero() // else topic.json could not be read
	switch {
	case k.snap != nil:
		t = Topic{Topic: k.snap.Topic, TopicID: k.snap.TopicID, Created: k.snap.Created, Deleted: k.snap.Deleted, Configs: k.snap.Configs, Partitions: len(k.snap.Partitions), purging: k.snap.Purging}
		if own && k.bucket.Modified.UnixMilli() > p.plan.snapshot.Created {
			t.Configs = k.bucket.Configs
		}
	case own:
		t = Topic{Topic: k.bucket.Topic, TopicID: k.bucket.TopicID, Created: k.bucket.Created, Configs: k.bucket.Configs}
	default:
		t = Topic{Topic: k.bucket.Topic, TopicID: k.bucket.TopicID, Created: k.bucket.Modified}
		p.problem("the configuration of topic %s is lost", t.Topic)
	}
	if k.bucket != nil {
		t.Partitions = max(t.Partitions, k.bucket.Partitions)
	}
	if t.Partitions == 0 {
		t.Partitions = 1
	}
	return t, p.place(&t, k)
}

// place says where the replicas of a topic go and at which leader epoch they begin.
func (p *planner) place(t *Topic, k *known) error {
	t.Replicas = 1
	switch {
	case k.snap != nil && len(k.snap.Partitions) > 0:
		t.Replicas = max(1, len(k.snap.Partitions[0].Replicas))
	case k.bucket != nil && k.bucket.Replicas > 0:
		t.Replicas = k.bucket.Replicas
	}
	if n := len(p.plan.Brokers); t.Replicas > n {
		p.problem("topic %s had %d replicas and gets %d: there are no more brokers", t.Topic, t.Replicas, n)
		t.Replicas = n
	}
	brokers := make([]metadata.Broker, len(p.plan.Brokers))
	for i, b := range p.plan.Brokers {
		brokers[i] = metadata.Broker{ID: b.ID, Rack: b.Rack}
	}
	places, err := p.o.Place(brokers, t.Partitions, t.Replicas, int(t.TopicID[0]))
	if err != nil {
		return fmt.Errorf("topic %s: %w", t.Topic, err)
	}
	t.parts = make([]metadata.RestoredPartition, t.Partitions)
	for n := range t.parts {
		part := metadata.RestoredPartition{Replicas: places[n]}
		if k.snap != nil && n < len(k.snap.Partitions) {
			was := k.snap.Partitions[n]
			if len(was.Replicas) == t.Replicas && !slices.ContainsFunc(was.Replicas, p.gone) {
				part.Replicas = was.Replicas
			}
			part.LeaderEpoch = was.LeaderEpoch
		}
		if k.bucket != nil {
			if root, ok := k.bucket.Roots[int32(n)]; ok {
				part.LeaderEpoch = max(part.LeaderEpoch, root.LeaderEpoch, root.HighestEpoch())
				part.Remote = root.Pointer()
				p.plan.LastSign = max(p.plan.LastSign, root.Created)
			}
		}
		part.LeaderEpoch += epochMargin
		t.parts[n] = part
	}
	return nil
}

func (p *planner) gone(id metadata.BrokerID) bool {
	return !slices.ContainsFunc(p.plan.Brokers, func(b bucket.SnapshotBroker) bool { return b.ID == id })
}

// partitions reports what comes back of a topic. The groups' own has nothing in the tier; its state comes from the
// snapshot.
func (p *planner) partitions(t *Topic, k *known) {
	if t.Topic == p.o.GroupsTopic {
		return
	}
	ends := make([]int64, t.Partitions)
	for n := range ends {
		row := Partition{Topic: t.Topic, Partition: int32(n), Newest: -1, LogEnd: -1, Lost: -1}
		if k.bucket != nil {
			if r, ok := k.bucket.Roots[row.Partition]; ok {
				row.StartOffset, row.EndOffset = max(r.StartOffset, min(r.LogStartOffset, r.EndOffset)), r.EndOffset
				row.Bytes, row.Segments, row.Newest, row.Manifest = r.Bytes, r.Segments, r.NewestTimestamp(), r.Key
			}
		}
		if k.snap != nil && n < len(k.snap.Partitions) && k.snap.Partitions[n].End >= 0 {
			row.LogEnd = k.snap.Partitions[n].End
			row.Lost = max(0, row.LogEnd-row.EndOffset)
		}
		ends[n] = row.EndOffset
		p.plan.Partition = append(p.plan.Partition, row)
	}
	p.ends[t.Topic] = ends
}

// groups moves offsets that lie in a lost tail to where it began: a group that asked for an offset that there is not
// would begin where its auto.offset.reset says, which may be years away.
func (p *planner) groups() {
	if p.plan.snapshot == nil {
		return
	}
	s := *p.plan.snapshot
	s.Groups = slices.Clone(s.Groups)
	for i := range s.Groups {
		topics := slices.Clone(s.Groups[i].Topics)
		for j := range topics {
			topics[j].Partitions = slices.Clone(topics[j].Partitions)
			ends := p.ends[topics[j].Topic]
			for n := range topics[j].Partitions {
				o := &topics[j].Partitions[n]
				if int(o.Partition) < len(ends) && o.Partition >= 0 && o.Offset > ends[o.Partition] {
					o.Offset, o.LeaderEpoch = ends[o.Partition], 0
					p.plan.Moved++
				}
			}
		}
		s.Groups[i].Topics = topics
	}
	p.plan.Groups, p.plan.Offsets = len(s.Groups), s.Offsets()
	s.Source = cmp.Or(s.Source, s.Sequence)
	p.plan.snapshot = &s
}

// Metadata is what is to be written into etcd. The offsets of groups are imported from a snapshot that Prepare has
// written.
func (p *Plan) Metadata(groupsTopic string) metadata.Restored {
	r := metadata.Restored{ClusterID: p.ClusterID, NextProducerID: unknownProducerIDs}
	if s := p.snapshot; s != nil {
		r.BrokerConfigs, r.Verbatim, r.NextProducerID = s.BrokerConfigs, s.Keys, s.NextProducerID+producerIDMargin
	}
	for i := range p.Topics {
		t := p.Topics[i].restored()
		if t.Name == groupsTopic && t.Deleted.IsZero() && p.Offsets > 0 {
			epoch := int32(0)
			for _, part := range t.Partitions {
				epoch = max(epoch, part.LeaderEpoch)
			}
			for n := range t.Partitions {
				t.Partitions[n].LeaderEpoch = epoch
			}
			r.Groups = metadata.PendingGroups{Snapshot: bucket.SnapshotKey(p.snapshot.Sequence), Epoch: epoch}
		}
		r.Topics = append(r.Topics, t)
	}
	return r
}

func (t *Topic) restored() metadata.RestoredTopic {
	out := metadata.RestoredTopic{Name: t.Topic, ID: t.TopicID, Created: t.Created, Configs: t.Configs, Partitions: slices.Clone(t.parts)}
	if t.Deleted != nil {
		out.Deleted, out.Purging = *t.Deleted, t.purging
	}
	return out
}

// Prepare writes the snapshot that the groups' offsets are imported from. Its log ends are those of the snapshot it was
// made of, so that a restore that is begun anew reports the same.
func Prepare(ctx context.Context, b *bucket.Bucket, p *Plan) error {
	if p.snapshot == nil || p.Offsets == 0 {
		return nil
	}
	return b.PutSnapshot(ctx, p.snapshot)
}

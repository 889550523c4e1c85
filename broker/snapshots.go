package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
)

const (
	// snapshotsKept is how many snapshots of the cluster stay in the bucket; older
	// ones go after snapshotGrace, so that who reads one can finish.
	snapshotsKept = 24
	snapshotGrace = 10 * time.Minute
	// snapshotSoon is how late a change of topics or configurations may get into a
	// snapshot; offsets wait for cluster.snapshot.interval.ms.
	snapshotSoon = 5 * time.Second
	// snapshotTimeout bounds one round, snapshotAsk one broker's answers.
	snapshotTimeout = 2 * time.Minute
	snapshotAsk     = 20 * time.Second
	// What one request asks for, so that no broker is kept busy by it.
	snapshotGroups     = 50
	snapshotPartitions = 1000
)

// snapshots writes cluster/<sequence>.json while this broker is the controller.
type snapshots struct {
	b      *Broker
	bucket *bucket.Bucket
	last   *bucket.Snapshot // the newest there is, nil before it was read
	at     time.Time        // of the last full round
	image  *metadata.Image  // looked at last
}

// snapshotCluster keeps snapshots of the cluster in the bucket until ctx ends.
// What goes wrong is tried again: nothing else waits for it.
func (b *Broker) snapshotCluster(ctx context.Context) error {
	interval := b.settings.Load().Broker().SnapshotInterval
	tick := time.NewTicker(min(interval, snapshotSoon))
	defer tick.Stop()
	s := &snapshots{b: b, bucket: b.bucket()}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if b.metadata.Image().Controller() != metadata.BrokerID(b.settings.Load().Broker().NodeID) {
			s.last, s.image = nil, nil
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, snapshotTimeout)
		err := s.round(bounded, interval)
		cancel()
		if err != nil && ctx.Err() == nil {
			b.log.Warn("cluster snapshot", "err", err)
		}
	}
}

// bucket reads and writes what does not belong to a partition.
func (b *Broker) bucket() *bucket.Bucket { return bucket.New(b.objects, b.log) }

// round writes a snapshot if it is time and something is different from the last.
func (s *snapshots) round(ctx context.Context, interval time.Duration) error {
	im, now := s.b.metadata.Image(), time.Now()
	full := s.last == nil || now.Sub(s.at) >= interval
	if !full && (im == s.image || !s.reshaped(im)) {
		s.image = im
		return nil
	}
	if s.last == nil {
		last, bad, err := s.bucket.NewestSnapshot(ctx, im.ClusterID())
		if err != nil {
			return err
		}
		for _, err := range bad {
			s.b.log.Error("cluster snapshot unreadable", "err", err)
		}
		s.last = cmp.Or(last, &bucket.Snapshot{ClusterID: im.ClusterID()})
	}
	next, whole, err := s.collect(ctx, im)
	if err != nil {
		return err
	}
	if pending, ok := im.PendingGroups(); ok && whole {
		// Every partition of the groups is loaded, and so imported.
		if err := s.b.metadata.FinishGroups(ctx); err != nil {
			return err
		}
		s.b.log.Info("offsets of groups imported", "object", pending.Snapshot)
	}
	next.KeepUnknown(s.last)
	s.at, s.image = now, im
	if s.last.Sequence > 0 && next.SameState(s.last) {
		return nil
	}
	next.Sequence, next.Created = s.last.Sequence, now.UnixMilli()
	if err := s.bucket.PutSnapshot(ctx, next); err != nil {
		return err
	}
	s.last = next
	s.b.log.Debug("cluster snapshot written", "object", bucket.SnapshotKey(next.Sequence), "took", time.Since(now))
	pending, _ := im.PendingGroups()
	return s.bucket.PruneSnapshots(ctx, im.ClusterID(), snapshotsKept, snapshotGrace, now, pending.Snapshot)
}

// reshaped says whether topics or configurations differ from the last snapshot.
func (s *snapshots) reshaped(im *metadata.Image) bool {
	next := shapeOf(im)
	old := *s.last
	next.Groups, next.Keys, next.NextProducerID = old.Groups, old.Keys, old.NextProducerID
	was := endsOf(&old)
	for i := range next.Topics {
		t := &next.Topics[i]
		for n := range t.Partitions {
			t.Partitions[n].End = was.of(t.TopicID, n)
		}
	}
	return !next.SameState(&old)
}

// shapeOf is what the image says.
func shapeOf(im *metadata.Image) *bucket.Snapshot {
	out := &bucket.Snapshot{ClusterID: im.ClusterID()}
	for _, n := range im.Nodes() {
		if n.Role != metadata.RoleReplay {
			out.Brokers = append(out.Brokers, bucket.SnapshotBroker{ID: n.ID, Rack: n.Rack})
			out.SetBrokerConfig(strconv.Itoa(int(n.ID)), im.BrokerConfig(n.ID))
		}
	}
	out.SetBrokerConfig("", im.DefaultBrokerConfig())
	for _, t := range im.Topics() {
		out.Topics = append(out.Topics, snapshotTopic(t, im.TopicConfig(t.Name)))
	}
	for _, grave := range im.Tombstones() {
		if !grave.Creating {
			t := snapshotTopic(&grave.Topic, grave.Configs)
			t.Deleted, t.Purging = &grave.Deleted, grave.Purging
			out.Deleted = append(out.Deleted, t)
		}
	}
	return out
}

func snapshotTopic(t *metadata.Topic, configs map[string]string) bucket.SnapshotTopic {
	out := bucket.SnapshotTopic{Topic: t.Name, TopicID: t.ID, Created: t.Created.UTC(), Configs: configs, Partitions: make([]bucket.SnapshotPartition, len(t.Partitions))}
	for n, p := range t.Partitions {
		replicas := slices.DeleteFunc(slices.Clone(p.Replicas), func(id metadata.BrokerID) bool { return slices.Contains(p.Removing, id) })
		out.Partitions[n] = bucket.SnapshotPartition{Replicas: replicas, LeaderEpoch: p.LeaderEpoch, End: -1}
	}
	return out
}

// ends are log ends by topic id and partition.
type ends map[metadata.TopicID][]bucket.SnapshotPartition

func endsOf(s *bucket.Snapshot) ends {
	out := ends{}
	for i := range s.Topics {
		out[s.Topics[i].TopicID] = s.Topics[i].Partitions
	}
	return out
}

func (e ends) of(id metadata.TopicID, n int) int64 {
	if parts := e[id]; n < len(parts) {
		return parts[n].End
	}
	return -1
}

// collect asks all brokers. What one does not answer is taken from the last
// snapshot; whole says that all groups' coordinators have answered.
func (s *snapshots) collect(ctx context.Context, im *metadata.Image) (next *bucket.Snapshot, whole bool, err error) {
	next = shapeOf(im)
	if next.Keys, next.NextProducerID, err = s.b.metadata.Verbatim(ctx); err != nil {
		return nil, false, err
	}
	c := &collection{ends: map[metadata.TopicPartition]int64{}, groups: map[string]bucket.SnapshotGroup{}, asked: map[metadata.BrokerID]bool{}}
	for _, broker := range im.Brokers() {
		if err := s.ask(ctx, im, broker, c); err != nil {
			if ctx.Err() != nil {
				return nil, false, ctx.Err()
			}
			s.b.log.Debug("cluster snapshot: a broker did not answer", "broker", broker.ID, "err", err)
		}
	}
	was := endsOf(s.last)
	for i := range next.Topics {
		t := &next.Topics[i]
		for n := range t.Partitions {
			end, ok := c.ends[metadata.TopicPartition{Topic: t.Topic, Partition: int32(n)}]
			if !ok {
				end = was.of(t.TopicID, n)
			}
			t.Partitions[n].End = end
		}
	}
	next.Groups, whole = s.groups(im, c)
	return next, whole, nil
}

// groups joins what coordinators answered with what the last snapshot has of the
// partitions whose coordinators did not, or changed meanwhile.
func (s *snapshots) groups(im *metadata.Image, c *collection) (out []bucket.SnapshotGroup, whole bool) {
	before, ok := im.Topic(group.Topic)
	if !ok {
		return nil, true
	}
	after, ok := s.b.metadata.Image().TopicByID(before.ID)
	if !ok || len(after.Partitions) != len(before.Partitions) {
		return s.last.Groups, false
	}
	covered := make([]bool, len(before.Partitions))
	whole = true
	for n, p := range before.Partitions {
		covered[n] = c.asked[p.Leader] && after.Partitions[n].LeaderEpoch == p.LeaderEpoch
		whole = whole && covered[n]
	}
	place := func(name string) int32 { return group.PartitionIn(name, int32(len(covered))) }
	for name, g := range c.groups {
		if covered[place(name)] {
			out = append(out, g)
		}
	}
	for _, g := range s.last.Groups {
		if !covered[place(g.Group)] {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b bucket.SnapshotGroup) int { return strings.Compare(a.Group, b.Group) })
	return out, whole
}

// collection is what brokers answered.
type collection struct {
	ends   map[metadata.TopicPartition]int64
	groups map[string]bucket.SnapshotGroup
	asked  map[metadata.BrokerID]bool // coordinators that told all
}

// ask asks one broker, one request after the other, for the ends of what it leads
// and the offsets of the groups it coordinates.
func (s *snapshots) ask(ctx context.Context, im *metadata.Image, broker metadata.Broker, c *collection) error {
	listener := s.b.settings.Load().Broker().InterBrokerListener
	i := slices.IndexFunc(broker.Listeners, func(l metadata.Listener) bool { return l.Name == listener })
	if i < 0 {
		return fmt.Errorf("broker %d has no listener %s", broker.ID, listener)
	}
	at := net.JoinHostPort(broker.Listeners[i].Host, strconv.Itoa(int(broker.Listeners[i].Port)))
	peer := wire.NewPeer(at, wire.PeerOptions{Dial: s.b.o.Dial, ClientID: "coldbrook-snapshot"})
	defer func() { _ = peer.Close() }() // nothing is lost with it
	ctx, cancel := context.WithTimeout(ctx, snapshotAsk)
	defer cancel()
	var led []metadata.TopicPartition
	var coordinated []int32
	groupPartitions := int32(0)
	for _, t := range im.Topics() {
		for n, p := range t.Partitions {
			if p.Leader != broker.ID {
				continue
			}
			led = append(led, metadata.TopicPartition{Topic: t.Name, Partition: int32(n)})
			if t.Name == group.Topic {
				coordinated, groupPartitions = append(coordinated, int32(n)), int32(len(t.Partitions))
			}
		}
	}
	for part := range slices.Chunk(led, snapshotPartitions) {
		if err := askEnds(ctx, peer, part, c); err != nil {
			return err
		}
	}
	if len(coordinated) == 0 {
		return nil
	}
	// A broker lists the groups of the partitions it coordinates by now. That those
	// are all that it should, before and after, is what it is asked beside.
	probes := probesOf(coordinated, groupPartitions)
	if err := askOffsets(ctx, peer, probes, &collection{groups: map[string]bucket.SnapshotGroup{}}); err != nil {
		return err
	}
	if err := askGroups(ctx, peer, c); err != nil {
		return err
	}
	if err := askOffsets(ctx, peer, probes, &collection{groups: map[string]bucket.SnapshotGroup{}}); err != nil {
		return err
	}
	c.asked[broker.ID] = true
	return nil
}

// probesOf are names of groups that need not exist, one in each of the partitions.
func probesOf(list []int32, partitions int32) []string {
	var out []string
	left := slices.Clone(list)
	for i := 0; len(left) > 0; i++ {
		name := "coldbrook-snapshot-" + strconv.Itoa(i)
		if at := slices.Index(left, group.PartitionIn(name, partitions)); at >= 0 {
			out, left = append(out, name), slices.Delete(left, at, at+1)
		}
	}
	return out
}

// errAnswer is an answer that is not one to what was asked.
var errAnswer = errors.New("unexpected answer")

// latestOffset is ListOffsets' timestamp for the high watermark.
const latestOffset = -1

func askEnds(ctx context.Context, peer *wire.Peer, list []metadata.TopicPartition, c *collection) error {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 7, -1
	for _, tp := range list {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != tp.Topic {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = tp.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = tp.Partition, latestOffset
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, p)
	}
	answer, err := peer.Do(ctx, req)
	if err != nil {
		return err
	}
	resp, ok := answer.(*kmsg.ListOffsetsResponse)
	if !ok {
		return errAnswer
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 && p.Offset >= 0 { // else it is led by another by now
				c.ends[metadata.TopicPartition{Topic: strings.Clone(t.Topic), Partition: p.Partition}] = p.Offset
			}
		}
	}
	return nil
}

func askGroups(ctx context.Context, peer *wire.Peer, c *collection) error {
	list := kmsg.NewPtrListGroupsRequest()
	list.Version = 4
	answer, err := peer.Do(ctx, list)
	if err != nil {
		return err
	}
	listed, ok := answer.(*kmsg.ListGroupsResponse)
	if !ok {
		return errAnswer
	}
	if listed.ErrorCode != 0 {
		return fmt.Errorf("list groups: %w: error code %d", errAnswer, listed.ErrorCode)
	}
	var names []string
	for _, g := range listed.Groups {
		names = append(names, strings.Clone(g.Group))
	}
	for part := range slices.Chunk(names, snapshotGroups) {
		if err := askOffsets(ctx, peer, part, c); err != nil {
			return err
		}
	}
	return nil
}

func askOffsets(ctx context.Context, peer *wire.Peer, names []string, c *collection) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	for _, name := range names {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.Topics = name, nil // all
		req.Groups = append(req.Groups, g)
	}
	answer, err := peer.Do(ctx, req)
	if err != nil {
		return err
	}
	resp, ok := answer.(*kmsg.OffsetFetchResponse)
	if !ok {
		return errAnswer
	}
	for _, g := range resp.Groups {
		if g.ErrorCode != 0 {
			return fmt.Errorf("offsets of group %q: %w: error code %d", g.Group, errAnswer, g.ErrorCode)
		}
		out := bucket.SnapshotGroup{Group: strings.Clone(g.Group)}
		for _, t := range g.Topics {
			topic := bucket.SnapshotGroupTopic{Topic: strings.Clone(t.Topic)}
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 || p.Offset < 0 {
					continue
				}
				o := bucket.SnapshotOffset{Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch + 1}
				if p.Metadata != nil {
					o.Metadata = strings.Clone(*p.Metadata)
				}
				topic.Partitions = append(topic.Partitions, o)
			}
			slices.SortFunc(topic.Partitions, func(a, b bucket.SnapshotOffset) int { return cmp.Compare(a.Partition, b.Partition) })
			out.Topics = append(out.Topics, topic)
		}
		slices.SortFunc(out.Topics, func(a, b bucket.SnapshotGroupTopic) int { return strings.Compare(a.Topic, b.Topic) })
		c.groups[out.Group] = out
	}
	return nil
}

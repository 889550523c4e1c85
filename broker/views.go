package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// consoleOptions say where the console's pages come from.
func (b *Broker) consoleOptions() console.Options {
	return console.Options{
		Logger:        b.log,
		Metrics:       b.o.Metrics,
		Unhealthy:     b.unhealthy,
		NotReady:      b.notReady,
		Version:       b.version,
		Brokers:       b.viewBrokers,
		Topics:        b.viewTopics,
		Tier:          b.viewTier,
		Segments:      b.viewSegments,
		Fsck:          b.tierFsck,
		Verify:        b.tierVerify,
		Undelete:      b.undelete,
		Recover:       b.recoverTopic,
		KeepLog:       b.keepLog,
		Costs:         b.viewCosts,
		Lags:          b.viewLags,
		Settings:      func() []console.Setting { return console.BrokerSettings(b.settings.Load()) },
		TopicSettings: b.viewTopicSettings,
	}
}

// unhealthy names what no waiting mends.
func (b *Broker) unhealthy() []console.Reason {
	var reasons []console.Reason
	for _, d := range b.dirs {
		if err := d.Offline(); err != nil {
			reasons = append(reasons, console.Reason{Component: "log directory " + d.Path(), Reason: err.Error()})
		}
	}
	return reasons
}

func (b *Broker) notReady() []console.Reason {
	if !b.ready.Load() {
		return []console.Reason{{Component: "broker", Reason: "starting or stopping"}}
	}
	return append(b.unhealthy(), b.standing(time.Now())...)
}

// standing is what this broker lacks to be a member of its cluster. It serves on without: reads, and writes to replicas
// that are in sync. But nobody should be sent to it who has a choice.
func (b *Broker) standing(now time.Time) []console.Reason {
	var reasons []console.Reason
	if b.etcd != nil && !b.etcd.HasLeader() {
		reasons = append(reasons, console.Reason{Component: "etcd", Reason: "the member inside has no leader: a majority of the members is away"})
	}
	s := b.session.Load()
	if s == nil {
		return append(reasons, console.Reason{Component: "registration", Reason: "not registered yet"})
	}
	confirmed, ttl := s.Confirmed()
	select {
	case <-s.Done():
		return append(reasons, console.Reason{Component: "registration", Reason: "lost: etcd ended the lease, registering again"})
	default:
	}
	if age := now.Sub(confirmed); age > ttl {
		reasons = append(reasons, console.Reason{Component: "registration",
			Reason: fmt.Sprintf("etcd has not renewed the lease for %s, it lasts %s: etcd cannot be reached, or has lost its majority", age.Round(time.Second), ttl)})
	}
	return reasons
}

func (b *Broker) version() console.Version {
	v := b.o.Version
	v.ClusterID, v.NodeID = b.addresses.ClusterID, b.settings.Load().Broker().NodeID
	return v
}

func (b *Broker) viewBrokers(context.Context) (console.Cluster, error) {
	img := b.metadata.Image()
	leads, holds := make(map[metadata.BrokerID]int), make(map[metadata.BrokerID]int)
	for _, t := range img.Topics() {
		for _, p := range t.Partitions {
			leads[p.Leader]++
			for _, id := range p.Replicas {
				holds[id]++
			}
		}
	}
	c := console.Cluster{ClusterID: img.ClusterID(), Controller: int32(img.Controller())}
	for _, br := range img.Brokers() {
		row := console.Broker{ID: int32(br.ID), Rack: br.Rack, Role: br.Role, Epoch: br.Epoch, HTTP: br.HTTP, Leaders: leads[br.ID], Partitions: holds[br.ID]}
		if br.Draining {
			row.State = console.StateStopping
		}
		for _, l := range br.Listeners {
			row.Listeners = append(row.Listeners, console.Listener{Name: l.Name, Host: l.Host, Port: l.Port})
		}
		c.Brokers = append(c.Brokers, row)
	}
	for _, n := range img.Nodes() {
		if _, live := img.Broker(n.ID); !live {
			c.Brokers = append(c.Brokers, console.Broker{ID: int32(n.ID), Rack: n.Rack, Role: n.Role, State: console.StateAway, Partitions: holds[n.ID]})
		}
	}
	slices.SortFunc(c.Brokers, func(a, b console.Broker) int { return cmp.Compare(a.ID, b.ID) })
	return c, nil
}

func (b *Broker) viewTopics(context.Context) ([]console.Topic, error) {
	img := b.metadata.Image()
	list := []console.Topic{}
	for _, t := range img.Topics() {
		row := console.Topic{Name: t.Name, ID: t.ID.String(), Internal: t.Name == group.Topic, Configs: img.TopicConfig(t.Name)}
		for n, p := range t.Partitions {
			row.Partitions = append(row.Partitions, console.Partition{
				Partition: int32(n), Leader: int32(p.Leader), LeaderEpoch: p.LeaderEpoch, Replicas: numbers(p.Replicas), ISR: numbers(p.ISR),
				Adding: numbers(p.Adding), Removing: numbers(p.Removing),
			})
		}
		list = append(list, row)
	}
	return list, nil
}

func numbers(ids []metadata.BrokerID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

func (b *Broker) viewTopicSettings(_ context.Context, topic string) ([]console.Setting, error) {
	img := b.metadata.Image()
	if _, ok := img.Topic(topic); !ok {
		return nil, fmt.Errorf("topic %q: %w", topic, console.ErrNotFound)
	}
	return console.TopicSettings(b.settings.Load(), img.TopicConfig(topic)), nil
}

// viewTier is `tier status`: the partitions this broker leads.
func (b *Broker) viewTier(context.Context) ([]console.TierPartition, error) {
	now := time.Now()
	views, held := make(map[metadata.TopicIDPartition]segment.RemoteView), make(map[metadata.TopicIDPartition]string)
	for _, s := range b.tier.Status(now) {
		views[s.TopicIDPartition], held[s.TopicIDPartition] = s.View, s.Held
	}
	list := []console.TierPartition{}
	for _, s := range b.replicas.Status() {
		if !s.Leading || s.TopicPartition.Topic == group.Topic {
			continue
		}
		if v, ok := views[s.ID]; ok {
			s.Remote = v
		}
		row := console.TierPartition{
			Topic: s.TopicPartition.Topic, Partition: s.TopicPartition.Partition,
			LogStartOffset: s.LogStart, LocalLogStartOffset: s.LocalLogStart, HighestRemoteOffset: s.Remote.HighestOffset,
			HighWatermark: s.HighWatermark, LogEndOffset: s.LogEnd, LocalBytes: s.LocalBytes,
			RemoteBytes: s.Remote.Bytes, RemoteSegments: s.Remote.Segments, PendingSegments: s.Remote.PendingSegments, Held: held[s.ID],
		}
		if !s.Remote.OldestUnuploaded.IsZero() {
			row.OldestUnuploadedAgeMs = max(now.Sub(s.Remote.OldestUnuploaded).Milliseconds(), 0)
		}
		list = append(list, row)
	}
	return list, nil
}

func (b *Broker) viewSegments(ctx context.Context, q console.SegmentQuery) ([]console.TierSegment, error) {
	t, ok := b.metadata.Image().Topic(q.Topic)
	if !ok || int(q.Partition) >= len(t.Partitions) || q.Partition < 0 {
		return nil, fmt.Errorf("partition %d of topic %q: %w", q.Partition, q.Topic, console.ErrNotFound)
	}
	list := []console.TierSegment{}
	for e, err := range b.tier.Entries(ctx, metadata.TopicIDPartition{Topic: t.ID, Partition: q.Partition}, q.From) {
		if err != nil {
			return nil, err
		}
		if q.Limit > 0 && len(list) == q.Limit {
			break
		}
		row := console.TierSegment{
			BaseOffset: e.BaseOffset, LastOffset: e.LastOffset, MaxTimestamp: e.MaxTimestamp,
			Bytes: e.Bytes, IndexBytes: e.IndexBytes, CRC32C: fmt.Sprintf("%08x", uint32(e.CRC32C)), Created: e.Created,
			Object: e.Object,
		}
		for _, ep := range e.Epochs {
			row.LeaderEpochs = append(row.LeaderEpochs, console.EpochStart{Epoch: ep.Epoch, StartOffset: ep.StartOffset})
		}
		list = append(list, row)
	}
	return list, nil
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/coldbrook/coldbrook/broker/api"
	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
)

func (b *Broker) openDirs(ctx context.Context, parts *layers) error {
	c := b.settings.Load().Broker()
	lost := make(chan error, len(c.LogDirs))
	for _, path := range c.LogDirs {
		// It makes the directory and its name durable: it must find none made by others.
		d, err := segment.OpenDir(segment.DirOptions{
			FS: b.o.FS, Path: path, Logger: b.log, Meter: b.o.Meter("segment"),
			CheckpointInterval: c.CheckpointInterval, HighWatermarkInterval: c.WatermarkInterval,
			OnOffline: func(cause error) {
				if b.replicas != nil { // else the start has failed before there was one
					b.replicas.DirOffline(path, cause)
				}
				if !slices.ContainsFunc(b.dirs, func(d *segment.Dir) bool { return d.Offline() == nil }) {
					lost <- cause // each directory tells once
				}
			},
		})
		if err != nil {
			return err
		}
		b.dirs = append(b.dirs, d)
		parts.onStop("close "+path, d.Close)
	}
	b.addresses.DataDir = c.DataDir
	parts.start(ctx, "log directories", func(ctx context.Context) error { return untilLost(ctx, lost) })
	return nil
}

// lastWords is how long a broker that has lost its log directories answers what it
// can, and hands over what it leads, before it ends.
const lastWords = time.Second

// untilLost ends the broker when no log directory is left, as Kafka does: what cannot
// store anything leaves its partitions to others.
func untilLost(ctx context.Context, lost <-chan error) error {
	select {
	case cause := <-lost:
		select {
		case <-time.After(lastWords):
		case <-ctx.Done():
		}
		return fmt.Errorf("every log directory is offline: %w", cause)
	case <-ctx.Done():
		return nil
	}
}

// openKV connects to etcd, or starts the embedded one.
func (b *Broker) openKV(ctx context.Context, parts *layers) error {
	c := b.settings.Load().Broker().Etcd
	switch {
	case b.o.KV != nil:
		b.kv, b.addresses.Etcd = b.o.KV, "given"
	case len(c.Endpoints) > 0:
		secure, err := c.TLSConfig()
		if err != nil {
			return err
		}
		store, err := kv.Dial(ctx, kv.DialOptions{Endpoints: c.Endpoints, Username: c.Username, Password: c.Password, TLS: secure, RequestTimeout: c.RequestTimeout, Logger: b.log})
		if err != nil {
			return err
		}
		b.kv, b.addresses.Etcd = store, fmt.Sprint(c.Endpoints)
		parts.onStop("etcd client", store.Close)
	default:
		peers := make([]kv.Peer, len(c.Peers))
		for i, p := range c.Peers {
			peers[i] = kv.Peer{Name: strconv.Itoa(int(p.Node)), URL: p.URL}
		}
		name := ""
		if len(peers) > 0 {
			name = strconv.Itoa(int(b.settings.Load().Broker().NodeID))
		}
		etcd, err := kv.StartEmbedded(ctx, kv.EmbeddedOptions{
			Dir: c.DataDir, Name: name, Peers: peers,
			ListenPeers: c.ListenPeers, ListenClients: c.ListenClients, AdvertiseClients: c.AdvertiseClients,
			CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, QuotaBytes: c.QuotaBytes, RequestTimeout: c.RequestTimeout, Logger: b.log,
		})
		if err != nil {
			return err
		}
		b.kv, b.etcd, b.addresses.Etcd = etcd.KV(), etcd, etcd.Endpoint()
		parts.onStop("embedded etcd", etcd.Close)
		parts.start(ctx, "embedded etcd's member", etcd.Wait)
	}
	return nil
}

// openMetadata opens the metadata store and checks that the log directories
// belong to this cluster and this broker.
func (b *Broker) openMetadata(ctx context.Context, parts *layers) error {
	c := b.settings.Load().Broker()
	store, err := metadata.Open(ctx, metadata.Options{KV: b.kv, Cluster: c.ClusterName, Logger: b.log, Meter: b.o.Meter("metadata")})
	if err != nil {
		return err
	}
	b.metadata = store
	b.addresses.ClusterID = store.Image().ClusterID()
	for _, d := range b.dirs {
		if err := claim(d, b.addresses.ClusterID, metadata.BrokerID(c.NodeID)); err != nil {
			return err
		}
	}
	parts.start(ctx, "metadata", store.Run)
	b.applySettings()
	return nil
}

// claim writes meta.properties into a new log directory and refuses one that
// belongs to another cluster or broker.
func claim(d *segment.Dir, cluster string, node metadata.BrokerID) error {
	meta, ok := d.Meta()
	if !ok {
		return d.SetMeta(segment.Meta{ClusterID: cluster, NodeID: node, DirectoryID: uuid.NewString()})
	}
	if meta.ClusterID != cluster {
		return fmt.Errorf("%s belongs to cluster %s (cluster.id in meta.properties), etcd to cluster %s", d.Path(), meta.ClusterID, cluster)
	}
	if meta.NodeID != node {
		return fmt.Errorf("%s belongs to broker %d (node.id in meta.properties), this is broker %d", d.Path(), meta.NodeID, node)
	}
	return nil
}

// applySettings takes over the dynamic broker settings of the Image, if they
// are others than before.
func (b *Broker) applySettings() (changed bool) {
	img := b.metadata.Image()
	old := b.settings.Load()
	cluster, own := img.DefaultBrokerConfig(), img.BrokerConfig(metadata.BrokerID(old.Broker().NodeID))
	if maps.Equal(cluster, b.dynamic.cluster) && maps.Equal(own, b.dynamic.own) {
		return false
	}
	b.dynamic.cluster, b.dynamic.own = cluster, own
	next, err := old.With(cluster, own)
	if err != nil {
		b.log.Warn("dynamic broker settings ignored", "err", err)
	}
	b.settings.Store(next)
	if level := next.Broker().LogLevel; b.o.SetLogLevel != nil && level != old.Broker().LogLevel {
		if err := b.o.SetLogLevel(level); err != nil {
			b.log.Warn("log level", "err", err)
		}
	}
	return true
}

// followSettings applies dynamic broker settings at every change until ctx
// ends. Topics inherit from them, so the replicas look again.
func (b *Broker) followSettings(ctx context.Context) error {
	changed, stop := b.metadata.Watch()
	defer stop()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		if b.applySettings() {
			b.replicas.Reconfigure()
			r := b.settings.Load().Broker().Remote
			b.tier.SetRates(byteRate(r.CopyBytesPerSecond), byteRate(r.FetchBytesPerSecond))
		}
	}
}

func (b *Broker) openGroups(ctx context.Context, parts *layers) error {
	g := b.settings.Load().Broker().Group
	cfg := group.DefaultConfig()
	cfg.Partitions = g.OffsetsPartitions
	cfg.MinSessionTimeout, cfg.MaxSessionTimeout = g.MinSessionTimeout, g.MaxSessionTimeout
	cfg.InitialRebalanceDelay, cfg.MaxSize, cfg.MaxMetadata = g.InitialRebalanceDelay, g.MaxSize, g.OffsetMetadataMaxBytes
	cfg.OffsetsRetention, cfg.ExpiryInterval = g.OffsetsRetention, g.OffsetsRetentionCheckInterval
	cfg.CommitTimeout, cfg.LoadBytes = g.OffsetsCommitTimeout, g.OffsetsLoadBytes
	var err error
	b.groups, err = group.New(group.Options{
		Log: importingLog{
			topicLog: topicLog{topic: group.Topic, replicas: func() *replica.Manager { return b.replicas }, session: b.session.Load},
			metadata: b.metadata, snapshot: newRestoredSnapshot(b.bucket), now: time.Now,
		},
		Config: cfg,
		Partitions: func() int32 {
			t, ok := b.metadata.Image().Topic(group.Topic)
			if !ok {
				return 0
			}
			return int32(len(t.Partitions))
		},
		TopicName: func(id [16]byte) (string, bool) {
			t, ok := b.metadata.Image().TopicByID(id)
			if !ok {
				return "", false
			}
			return t.Name, true
		},
		TopicID: func(name string) ([16]byte, bool) {
			t, ok := b.metadata.Image().Topic(name)
			if !ok {
				return [16]byte{}, false
			}
			return t.ID, true
		},
		Logger: b.log, Meter: b.o.Meter("group"),
	})
	return err
}

// openReplicas opens the logs, registers the broker, starts the controller and
// waits until what this broker shall lead is led.
func (b *Broker) openReplicas(ctx context.Context, parts *layers) error {
	c := b.settings.Load().Broker()
	var err error
	b.replicas, err = replica.New(replica.Options{
		Broker: metadata.BrokerID(c.NodeID), Metadata: b.metadata, Dirs: b.dirs, Remote: b.tier,
		TopicConfig: func(overrides map[string]string) (replica.TopicConfig, error) {
			cfg, err := topicConfig(b.settings.Load(), overrides)
			if errors.Is(err, config.ErrInvalid) {
				b.log.Error("settings of a topic cannot be read, they do not count", "err", err)
				err = nil
			}
			return cfg, err
		},
		OnLeadership:      b.leadership,
		RetentionInterval: c.RetentionCheckInterval,
		RemoteWait:        c.Remote.FetchMaxWait,
		Session:           b.session.Load,
		Dial:              b.o.Dial, InterBrokerListener: c.InterBrokerListener,
		LagMax: c.ReplicaLagMax, FetchWait: c.ReplicaFetchWait, FetchBackoff: c.ReplicaFetchBackoff, Fetchers: c.ReplicaFetchers,
		FetchMinBytes: c.ReplicaFetchMinBytes, FetchBytes: c.ReplicaFetchBytes, FetchResponseBytes: c.ReplicaFetchResponseBytes,
		RackAware: c.RackAwareSelector, ReplayClient: func(id string) bool { return b.settings.Load().Broker().ReplayClient(id) },
		LeaderThrottle:   func() int64 { return b.settings.Load().Broker().LeaderThrottle },
		FollowerThrottle: func() int64 { return b.settings.Load().Broker().FollowerThrottle },
		Logger:           b.log, Meter: b.o.Meter("replica"),
	})
	if err != nil {
		return err
	}
	parts.start(ctx, "dynamic settings", b.followSettings)
	// The directories work only now: what they report goes to the replica manager.
	for _, d := range b.dirs {
		parts.start(ctx, "log directory "+d.Path(), d.Run)
	}
	parts.start(ctx, "group coordinator", b.groups.Run)
	parts.start(ctx, "offsets of deleted topics", b.forgetOffsets)
	parts.start(ctx, "replicas", b.replicas.Run)
	select {
	case <-b.replicas.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// leadership tells the group coordinator which partitions of its topic it owns.
func (b *Broker) leadership(p *replica.Partition, leading bool) {
	if p.TopicPartition().Topic != group.Topic {
		return
	}
	if leading {
		b.groups.Load(p.TopicPartition().Partition, p.LeaderEpoch())
	} else {
		b.groups.Unload(p.TopicPartition().Partition, p.LeaderEpoch())
	}
}

// forgetOffsets deletes the committed offsets of topics that are deleted, in
// the groups this broker coordinates. What fails is tried again with the next
// change; offsets expire in any case.
func (b *Broker) forgetOffsets(ctx context.Context) error {
	changed, stop := b.metadata.Watch()
	defer stop()
	var deleted []group.DeletedTopic
	for img := b.metadata.Image(); ; {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		last := img
		img = b.metadata.Image()
		for c := range img.ChangedTopics(last) {
			// A topic that is gone without a trace was lost, not deleted.
			if c.New == nil && buried(img, c.ID) {
				deleted = append(deleted, group.DeletedTopic{Name: c.Old.Name, ID: c.ID})
			}
		}
		if len(deleted) == 0 {
			continue
		}
		if err := b.groups.OnTopicsDeleted(ctx, deleted); err != nil && ctx.Err() == nil {
			b.log.Warn("delete offsets of deleted topics", "err", err)
			continue
		}
		deleted = nil
	}
}

func buried(img *metadata.Image, id metadata.TopicID) bool {
	return slices.ContainsFunc(img.Tombstones(), func(t metadata.Tombstone) bool { return t.Topic.ID == id && !t.Creating })
}

// maxSessionBytes is what fetch sessions may take, where requests may take so much.
const maxSessionBytes = 64 << 20

// newAPI is the Kafka protocol over the parts.
func (b *Broker) newAPI() (wire.Handler, error) {
	c := b.settings.Load().Broker()
	supers, err := auth.ParsePrincipals(joinSemicolons(c.SuperUsers))
	if err != nil {
		return nil, fmt.Errorf("super.users: %w", err)
	}
	b.authorizer = auth.New(auth.Options{Enabled: c.Authorizer, SuperUsers: supers, AllowIfNoRule: c.AllowWithoutACL})
	b.quotas = quota.New(quota.Options{Window: c.QuotaWindow, Samples: c.QuotaWindows})
	handler, err := api.New(api.Options{
		Broker: metadata.BrokerID(c.NodeID), Metadata: b.metadata, Replicas: b.replicas, Groups: b.groups, Dirs: b.dirs,
		Settings: b.settings.Load, Authorizer: b.authorizer, Quotas: b.quotas, Logger: b.log, Meter: b.o.Meter("api"),
		SessionBytes: min(maxSessionBytes, requestMemory(c.RequestMemoryBytes)/2),
	})
	if err != nil {
		return nil, err
	}
	if b.o.Tracer != nil {
		return api.Traced(handler, b.o.Tracer("api")), nil
	}
	return handler, nil
}

package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// TopicConfig is what a topic's configuration means to its replicas.
type TopicConfig struct {
	Log               segment.Config
	MinInSyncReplicas int
	// LeavesTier says that the topic is not tiered, and that what the tier has of
	// it is to be deleted.
	LeavesTier bool
	// LeaderThrottled and FollowerThrottled say whether a partition's replica on
	// a broker is under the replication throttle (KIP-73); nil: none is.
	LeaderThrottled, FollowerThrottled func(partition int32, broker metadata.BrokerID) bool
}

// Options of a Manager. Broker, Metadata, Dirs and TopicConfig are required.
type Options struct {
	Broker   metadata.BrokerID
	Metadata *metadata.Store
	Dirs     []*segment.Dir
	// Remote is the tiered part of the logs.
	Remote RemoteLog
	// RetryInterval is how soon a log that did not open is tried again; default 10 s.
	RetryInterval time.Duration
	// TopicConfig resolves a topic's overrides over the broker's defaults.
	TopicConfig func(overrides map[string]string) (TopicConfig, error)
	// OnLeadership is told of each partition this broker starts or stops
	// leading, in order for one partition. It must not block.
	OnLeadership func(p *Partition, leading bool)
	// RetentionInterval is log.retention.check.interval.ms; default 5 min.
	RetentionInterval time.Duration
	// RemoteWait bounds how long a fetch waits for the remote log:
	// remote.fetch.max.wait.ms; default 500 ms.
	RemoteWait time.Duration

	// Session is this broker's registration in force, nil before there is one.
	// It may change. Nothing is led under another, or without.
	Session func() *metadata.Session
	// Dial reaches other brokers' InterBrokerListener.
	Dial                func(ctx context.Context, network, addr string) (net.Conn, error)
	InterBrokerListener string
	// LagMax is how long a follower may be behind and stay in sync:
	// replica.lag.time.max.ms; default 30 s.
	LagMax time.Duration
	// FetchWait, FetchMinBytes, FetchBytes (a partition) and FetchResponseBytes
	// are replica.fetch.{wait.max.ms,min.bytes,max.bytes,response.max.bytes}
	// with Kafka's defaults; FetchBackoff is the pause after an error, 1 s;
	// Fetchers is num.replica.fetchers, 1.
	FetchWait, FetchBackoff                       time.Duration
	FetchMinBytes, FetchBytes, FetchResponseBytes int32
	Fetchers                                      int
	// RackAware sends consumers to a replica in their rack (KIP-392).
	RackAware bool
	// ReplayClient says which clients' cold reads go to replay brokers whatever
	// their rack; nil: nobody's.
	ReplayClient func(clientID string) bool
	// LeaderThrottle and FollowerThrottle are the bytes a second that throttled
	// replicas may take, math.MaxInt64 for no limit; nil: none.
	LeaderThrottle, FollowerThrottle func() int64

	Logger *slog.Logger
	Meter  metric.Meter
}

// Manager is Kafka's ReplicaManager: all partitions of this broker. Its
// methods are safe for concurrent use; Run owns its goroutines.
type Manager struct {
	o       Options
	log     *slog.Logger
	metrics *metrics

	fetchers *fetchers
	isr      *worklist // of keepISR
	forgot   *worklist // of recallForgotten
	suspects suspects  // of keepISR
	quota    rateLimit // of LeaderThrottle

	view    atomic.Pointer[view] // replaced by followImage alone
	applied signal               // an Image has been applied
	ready   chan struct{}        // closed when the first Image has been applied
	dirty   chan struct{}        // retention is wanted before its interval ends

	reconfigured chan struct{} // TopicConfig has other answers
}

// view is an immutable index of the partitions on this broker.
type view struct {
	byID   map[metadata.TopicIDPartition]*Partition
	failed map[metadata.TopicIDPartition]error // those whose log does not open
}

// New makes a Manager that holds no partition until Run has seen an Image.
func New(o Options) (*Manager, error) {
	if o.Metadata == nil || len(o.Dirs) == 0 || o.TopicConfig == nil || o.Remote == nil {
		return nil, errors.New("replica: Metadata, Dirs, Remote and TopicConfig are required")
	}
	o = o.withDefaults()
	m := &Manager{o: o, log: o.Logger, ready: make(chan struct{}), dirty: make(chan struct{}, 1), reconfigured: make(chan struct{}, 1), isr: newWorklist(), forgot: newWorklist()}
	m.view.Store(&view{})
	m.fetchers = newFetchers(m)
	mm, err := newMetrics(m, o.Meter)
	if err != nil {
		return nil, fmt.Errorf("replica metrics: %w", err)
	}
	m.metrics = mm
	return m, nil
}

func (o Options) withDefaults() Options {
	o.RetentionInterval = cmp.Or(o.RetentionInterval, 5*time.Minute)
	o.RetryInterval = cmp.Or(o.RetryInterval, 10*time.Second)
	o.RemoteWait = cmp.Or(o.RemoteWait, 500*time.Millisecond)
	o.LagMax = cmp.Or(o.LagMax, 30*time.Second)
	o.FetchWait = cmp.Or(o.FetchWait, 500*time.Millisecond)
	o.FetchBackoff = cmp.Or(o.FetchBackoff, time.Second)
	o.FetchMinBytes = cmp.Or(o.FetchMinBytes, 1)
	o.FetchBytes = cmp.Or(o.FetchBytes, 1<<20)
	o.FetchResponseBytes = cmp.Or(o.FetchResponseBytes, 10<<20)
	o.Fetchers = cmp.Or(o.Fetchers, 1)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ReplayClient == nil {
		o.ReplayClient = func(string) bool { return false }
	}
	unlimited := func() int64 { return math.MaxInt64 }
	if o.LeaderThrottle == nil {
		o.LeaderThrottle = unlimited
	}
	if o.FollowerThrottle == nil {
		o.FollowerThrottle = unlimited
	}
	return o
}

// Run follows the Image and the leaders, keeps the in-sync replicas and
// retention, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.followImage(ctx) })
	g.Go(func() error { return m.fetchers.run(ctx) })
	g.Go(func() error { return m.keepISR(ctx) })
	g.Go(func() error { return m.recallForgotten(ctx) })
	g.Go(func() error { return m.retain(ctx) })
	return g.Wait()
}

// Reconfigure has TopicConfig asked again for every partition: what topics
// inherit from the broker has changed. It never blocks.
func (m *Manager) Reconfigure() {
	select {
	case m.reconfigured <- struct{}{}:
	default: // a pass is due anyway
	}
}

// Ready is closed once the partitions of the first Image are open.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// DirOffline must be called when a log directory goes offline: it wakes
// requests that wait for its partitions, which then see the error, and gives the
// leaderships to in-sync followers.
func (m *Manager) DirOffline(path string, cause error) {
	m.log.Error("log directory offline", "path", path, "err", cause)
	for _, p := range m.view.Load().byID {
		p.wakeAll()
		if p.dir.Offline() != nil {
			m.suspect(p.tip)
		}
	}
}

// Partition finds a replica on this broker by name: that of the topic which has
// the name now. ErrNotLeader means that the partition exists and is not here,
// ErrPartitionOffline that it should be.
func (m *Manager) Partition(tp metadata.TopicPartition) (*Partition, error) {
	t, ok := m.o.Metadata.Image().Topic(tp.Topic)
	if !ok {
		return nil, ErrUnknownPartition
	}
	p, err := m.PartitionByID(metadata.TopicIDPartition{Topic: t.ID, Partition: tp.Partition})
	if errors.Is(err, ErrUnknownTopicID) {
		err = ErrUnknownPartition // deleted since
	}
	return p, err
}

// PartitionByID is Partition by topic id; ErrUnknownTopicID when no topic has it.
func (m *Manager) PartitionByID(tip metadata.TopicIDPartition) (*Partition, error) {
	t, ok := m.o.Metadata.Image().TopicByID(tip.Topic)
	if !ok {
		// Deleted, though maybe not yet here.
		return nil, ErrUnknownTopicID
	}
	if p := m.view.Load().byID[tip]; p != nil {
		return p, nil
	}
	return nil, m.notHere(t, tip.Partition)
}

// notHere says why this broker does not serve a partition of a topic that
// exists: ReplicaManager.getPartitionOrError.
func (m *Manager) notHere(t *metadata.Topic, partition int32) error {
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return ErrUnknownPartition
	}
	if err := m.view.Load().failed[metadata.TopicIDPartition{Topic: t.ID, Partition: partition}]; err != nil {
		return err
	}
	return ErrNotLeader
}

// Partitions lists the replicas on this broker in no order.
func (m *Manager) Partitions() []*Partition {
	v := m.view.Load()
	ps := make([]*Partition, 0, len(v.byID))
	for _, p := range v.byID {
		ps = append(ps, p)
	}
	return ps
}

// WaitTopic returns once this broker serves all partitions of the topic that
// the Image places here.
func (m *Manager) WaitTopic(ctx context.Context, id metadata.TopicID) error {
	for {
		applied := m.applied.next()
		if t, ok := m.o.Metadata.Image().TopicByID(id); ok && m.serves(t) {
			return nil
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *Manager) serves(t *metadata.Topic) bool {
	v := m.view.Load()
	for n := range t.Partitions {
		if t.Partitions[n].Leader != m.o.Broker {
			continue
		}
		p := v.byID[metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}]
		if p == nil || !p.Leading() {
			return false
		}
	}
	return true
}

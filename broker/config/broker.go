package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The values of broker.role.
const (
	RoleBroker = "broker"
	RoleReplay = "replay"
)

// Broker is what the broker itself is configured with, defaults filled in. Settings that are the
// defaults of topics are in Topic.
type Broker struct {
	NodeID      int32
	Role        string // RoleBroker or RoleReplay
	Rack        string // empty: none
	ClusterName string

	Listeners           []Listener
	AdvertisedListeners []Listener // one for each of Listeners, in that order; Port 0: the bound one
	InterBrokerListener string     // a name of Listeners
	HTTPListen          string     // empty: no HTTP
	HTTPAllowedHosts    []string   // beside those this broker knows to be its own
	HTTPAdmin           *bool      // nil: as http.listen has it
	HTTPToken           string     // empty: any

	RequestMaxBytes     int32 // socket.request.max.bytes
	RequestMemoryBytes  int64 // queued.max.request.bytes; negative: no limit
	MaxInFlight         int   // requests of one connection
	MaxConnections      int
	MaxConnectionsPerIP int
	IdleTimeout         time.Duration
	ShutdownTimeout     time.Duration

	DataDir string   // absolute
	LogDirs []string // absolute, at least one

	NumPartitions            int32
	DefaultReplicationFactor int16
	AutoCreateTopics         bool
	DeleteTopics             bool
	RetentionCheckInterval   time.Duration
	CheckpointInterval       time.Duration
	RecoveryThreads          int
	ProducerExpiration       time.Duration
	MaxTransactionTimeout    time.Duration

	SessionTimeout            time.Duration
	LeaseTTL                  time.Duration // what etcd is asked for, so that a dead broker is gone after SessionTimeout
	ReplicaLagMax             time.Duration
	ReplicaFetchBytes         int32
	ReplicaFetchResponseBytes int32
	ReplicaFetchWait          time.Duration
	ReplicaFetchMinBytes      int32
	ReplicaFetchBackoff       time.Duration
	ReplicaSocketTimeout      time.Duration
	ReplicaFetchers           int
	RackAwareSelector         bool     // replica.selector.class is the rack-aware one
	ReplayClients             []string // client ids; '*' at the end: those that begin so
	LeaderThrottle            int64    // bytes per second; math.MaxInt64: no limit
	FollowerThrottle          int64
	ControlledShutdown        bool
	WatermarkInterval         time.Duration
	FetchMaxBytes             int32
	FetchSessions             int
	LeaderRebalance           bool
	LeaderRebalanceInterval   time.Duration

	Group  Group
	Remote Remote
	Etcd   Etcd

	// RemoteEnabled is remote.log.storage.system.enable: there is an object store.
	RemoteEnabled bool

	LogFormat string // text or json
	LogLevel  string // debug, info, warn or error

	Authorizer          bool // authorizer.class.name is set
	SuperUsers          []string
	AllowWithoutACL     bool
	QuotaWindows        int
	QuotaWindow         time.Duration
	MetricsTopicEnabled bool
	GroupLagSeries      int // metrics.group.lag.max.series; 0: none
	GroupLagInterval    time.Duration
	SnapshotInterval    time.Duration
}

// ReplayClient says whose cold reads go to replay brokers wherever they are:
// replay.client.ids, where '*' at the end stands for anything.
func (b Broker) ReplayClient(id string) bool {
	return slices.ContainsFunc(b.ReplayClients, func(want string) bool {
		prefix, open := strings.CutSuffix(want, "*")
		return id == want || open && strings.HasPrefix(id, prefix)
	})
}

// Group is what group coordinators are configured with.
type Group struct {
	MinSessionTimeout             time.Duration
	MaxSessionTimeout             time.Duration
	InitialRebalanceDelay         time.Duration
	MaxSize                       int
	OffsetMetadataMaxBytes        int
	OffsetsCommitTimeout          time.Duration
	OffsetsLoadBytes              int
	OffsetsRetentionCheckInterval time.Duration
	OffsetsRetention              time.Duration
	OffsetsPartitions             int32
	OffsetsReplicationFactor      int16
	OffsetsSegmentBytes           int32
}

// Remote is what the tier is configured with.
type Remote struct {
	StoreURL            string // never empty
	DeleteGrace         time.Duration
	GCInterval          time.Duration
	ScrubBytesPerSecond int64 // 0: none
	CacheBytes          int64
	CacheDir            string // remote.cache.dir; empty: none
	CacheDiskBytes      int64
	ReadAheadBytes      int64
	IndexCacheBytes     int64
	Copiers             int
	Expirers            int
	Readers             int
	TaskInterval        time.Duration
	RetryBackoff        time.Duration
	RetryBackoffMax     time.Duration
	CopyBytesPerSecond  int64 // math.MaxInt64: no limit
	FetchBytesPerSecond int64
	FetchMaxWait        time.Duration
	ListOffsetsTimeout  time.Duration
	FollowerFromTier    bool // follower.fetch.last.tiered.offset.enable
	Price               Price
}

// Price is what the object store asks for, in any currency: remote.price.*.
type Price struct {
	PutPer1000 float64 // PUT and LIST requests
	GetPer1000 float64 // GET and HEAD requests
	GBMonth    float64
	EgressGB   float64
	Currency   string
}

func (s *Settings) resolveBroker() (Broker, error) {
	r := &reader{get: func(name string) (string, bool) {
		d, ok := find(ScopeBroker, name)
		if !ok {
			return "", false
		}
		v, _, ok := s.lookup(d)
		return v, ok
	}}
	b := Broker{
		NodeID:              r.int("node.id"),
		Role:                r.text("broker.role"),
		Rack:                r.text("broker.rack"),
		ClusterName:         r.text("cluster.name"),
		InterBrokerListener: r.text("inter.broker.listener.name"),
		HTTPListen:          r.text("http.listen"),
		HTTPAllowedHosts:    r.list("http.allowed.hosts"),
		HTTPToken:           r.text("http.token"),

		RequestMaxBytes:     r.int("socket.request.max.bytes"),
		RequestMemoryBytes:  r.long("queued.max.request.bytes"),
		MaxInFlight:         int(r.int("connections.max.in.flight.requests")),
		MaxConnections:      int(r.int("max.connections")),
		MaxConnectionsPerIP: int(r.int("max.connections.per.ip")),
		IdleTimeout:         r.ms("connections.max.idle.ms"),
		ShutdownTimeout:     r.ms("shutdown.timeout.ms"),

		NumPartitions:            r.int("num.partitions"),
		DefaultReplicationFactor: int16(r.int("default.replication.factor")),
		AutoCreateTopics:         r.flag("auto.create.topics.enable"),
		DeleteTopics:             r.flag("delete.topic.enable"),
		RetentionCheckInterval:   r.ms("log.retention.check.interval.ms"),
		CheckpointInterval:       r.ms("log.flush.offset.checkpoint.interval.ms"),
		RecoveryThreads:          int(r.int("num.recovery.threads.per.data.dir")),
		ProducerExpiration:       r.ms("producer.id.expiration.ms"),
		MaxTransactionTimeout:    r.ms("transaction.max.timeout.ms"),

		Group:         resolveGroup(r),
		Remote:        resolveRemote(r),
		RemoteEnabled: r.flag("remote.log.storage.system.enable"),

		LogFormat:           r.text("log.format"),
		LogLevel:            r.text("log.level"),
		Authorizer:          r.text("authorizer.class.name") != "",
		SuperUsers:          splitSemicolons(r.text("super.users")),
		AllowWithoutACL:     r.flag("allow.everyone.if.no.acl.found"),
		QuotaWindows:        int(r.int("quota.window.num")),
		QuotaWindow:         time.Duration(r.int("quota.window.size.seconds")) * time.Second,
		MetricsTopicEnabled: r.flag("metrics.topic.enable"),
		GroupLagSeries:      int(r.int("metrics.group.lag.max.series")),
		GroupLagInterval:    r.ms("metrics.group.lag.interval.ms"),
		SnapshotInterval:    r.ms("cluster.snapshot.interval.ms"),
	}
	if b.RequestMemoryBytes >= 0 {
		b.RequestMemoryBytes = max(b.RequestMemoryBytes, int64(b.RequestMaxBytes))
	}
	resolveReplication(r, &b)
	resolveDirs(r, &b)
	if _, given := r.get("http.admin.enable"); given {
		b.HTTPAdmin = new(r.flag("http.admin.enable"))
	}
	if err := s.resolveEtcd(r, &b); err != nil {
		return Broker{}, err
	}
	if err := s.resolveListeners(r, &b); err != nil {
		return Broker{}, err
	}
	b.LeaseTTL = leaseTTL(b.SessionTimeout, len(b.Etcd.Peers))
	if r.err != nil {
		return Broker{}, r.err
	}
	return b, s.checkTogether(&b)
}

// resolveReplication fills what keeps replicas in step.
func resolveReplication(r *reader, b *Broker) {
	b.SessionTimeout = r.ms("broker.session.timeout.ms")
	b.ReplicaLagMax = r.ms("replica.lag.time.max.ms")
	b.ReplicaFetchBytes = r.int("replica.fetch.max.bytes")
	b.ReplicaFetchResponseBytes = r.int("replica.fetch.response.max.bytes")
	b.ReplicaFetchWait = r.ms("replica.fetch.wait.max.ms")
	b.ReplicaFetchMinBytes = r.int("replica.fetch.min.bytes")
	b.ReplicaFetchBackoff = r.ms("replica.fetch.backoff.ms")
	b.ReplicaSocketTimeout = r.ms("replica.socket.timeout.ms")
	b.RackAwareSelector = r.text("replica.selector.class") == RackAwareSelector
	b.ReplayClients = r.list("replay.client.ids")
	b.LeaderThrottle = r.long("leader.replication.throttled.rate")
	b.FollowerThrottle = r.long("follower.replication.throttled.rate")
	b.ControlledShutdown = r.flag("controlled.shutdown.enable")
	b.ReplicaFetchers = int(r.int("num.replica.fetchers"))
	b.WatermarkInterval = r.ms("replica.high.watermark.checkpoint.interval.ms")
	b.FetchMaxBytes = r.int("fetch.max.bytes")
	b.FetchSessions = int(r.int("max.incremental.fetch.session.cache.slots"))
	b.LeaderRebalance = r.flag("auto.leader.rebalance.enable")
	b.LeaderRebalanceInterval = time.Duration(min(r.long("leader.imbalance.check.interval.seconds"), maxSeconds)) * time.Second
}

// leaseTTL leaves a second of the session timeout to the members of an embedded
// etcd: with the broker that dies, their leader may die, and the next one gives
// all leases their whole time again. (Measured: 0.6 s to 1.1 s are added then.)
func leaseTTL(session time.Duration, members int) time.Duration {
	if members > 1 && session >= 3*time.Second {
		return session - time.Second
	}
	return session
}

// maxSeconds is the longest duration in seconds.
const maxSeconds = int64(1<<63-1) / int64(time.Second)

func resolveDirs(r *reader, b *Broker) {
	b.DataDir = absolute(r.text("data.dir"))
	for _, dir := range r.list("log.dirs") {
		b.LogDirs = append(b.LogDirs, absolute(dir))
	}
	if len(b.LogDirs) == 0 {
		b.LogDirs = []string{b.DataDir}
	}
	if b.Remote.StoreURL == "" {
		u := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(b.DataDir, "objects"))}
		b.Remote.StoreURL = u.String() // which escapes what a URL gives another meaning to
	}
}

func resolveGroup(r *reader) Group {
	return Group{
		MinSessionTimeout:             r.ms("group.min.session.timeout.ms"),
		MaxSessionTimeout:             r.ms("group.max.session.timeout.ms"),
		InitialRebalanceDelay:         r.ms("group.initial.rebalance.delay.ms"),
		MaxSize:                       int(r.int("group.max.size")),
		OffsetMetadataMaxBytes:        int(r.int("offset.metadata.max.bytes")),
		OffsetsCommitTimeout:          r.ms("offsets.commit.timeout.ms"),
		OffsetsLoadBytes:              int(r.int("offsets.load.buffer.size")),
		OffsetsRetentionCheckInterval: r.ms("offsets.retention.check.interval.ms"),
		OffsetsRetention:              time.Duration(r.int("offsets.retention.minutes")) * time.Minute,
		OffsetsPartitions:             r.int("offsets.topic.num.partitions"),
		OffsetsReplicationFactor:      int16(r.int("offsets.topic.replication.factor")),
		OffsetsSegmentBytes:           r.int("offsets.topic.segment.bytes"),
	}
}

func resolveRemote(r *reader) Remote {
	return Remote{
		StoreURL:            r.text("remote.store.url"),
		DeleteGrace:         r.ms("remote.delete.grace.ms"),
		GCInterval:          r.ms("remote.gc.interval.ms"),
		ScrubBytesPerSecond: r.long("remote.scrub.bytes.per.second"),
		CacheBytes:          r.long("remote.cache.bytes"),
		CacheDir:            r.text("remote.cache.dir"),
		CacheDiskBytes:      r.long("remote.cache.disk.bytes"),
		ReadAheadBytes:      orHalf(r.long("remote.read.ahead.bytes"), r.long("remote.cache.bytes")),
		IndexCacheBytes:     r.long("remote.log.index.file.cache.total.size.bytes"),
		Copiers:             int(r.int("remote.log.manager.copier.thread.pool.size")),
		Expirers:            int(r.int("remote.log.manager.expiration.thread.pool.size")),
		Readers:             int(r.int("remote.log.reader.threads")),
		TaskInterval:        r.ms("remote.log.manager.task.interval.ms"),
		RetryBackoff:        r.ms("remote.log.manager.task.retry.backoff.ms"),
		RetryBackoffMax:     r.ms("remote.log.manager.task.retry.backoff.max.ms"),
		CopyBytesPerSecond:  r.long("remote.log.manager.copy.max.bytes.per.second"),
		FetchBytesPerSecond: r.long("remote.log.manager.fetch.max.bytes.per.second"),
		FetchMaxWait:        r.ms("remote.fetch.max.wait.ms"),
		ListOffsetsTimeout:  r.ms("remote.list.offsets.request.timeout.ms"),
		FollowerFromTier:    r.flag("follower.fetch.last.tiered.offset.enable"),
		Price: Price{
			PutPer1000: r.double("remote.price.put.per.1000"),
			GetPer1000: r.double("remote.price.get.per.1000"),
			GBMonth:    r.double("remote.price.gb.month"),
			EgressGB:   r.double("remote.price.egress.gb"),
			Currency:   r.text("remote.price.currency"),
		},
	}
}

// resolveListeners fills the listeners, their protocols and what clients are told.
func (s *Settings) resolveListeners(r *reader, b *Broker) error {
	listeners, err := parseListeners(r.text("listeners"))
	if err != nil {
		return err
	}
	protocols, err := parseProtocolMap(r.text("listener.security.protocol.map"))
	if err != nil {
		return err
	}
	for i := range listeners {
		l := &listeners[i]
		protocol, ok := protocols[l.Name]
		switch {
		case !ok:
			return s.at("listeners", "listener %s has no protocol in listener.security.protocol.map", l.Name)
		case protocol != "PLAINTEXT":
			return s.at("listener.security.protocol.map", "listener %s asks for %s, and PLAINTEXT is the only protocol so far", l.Name, protocol)
		}
		l.Protocol = protocol
	}
	b.Listeners = listeners
	told := listeners
	if v := r.text("advertised.listeners"); v != "" {
		if told, err = parseListeners(v); err != nil {
			return err
		}
	}
	byName := map[string]Listener{}
	for _, l := range told {
		byName[l.Name] = l
	}
	for _, l := range listeners {
		a, ok := byName[l.Name]
		if !ok {
			return s.at("advertised.listeners", "listener %s is in listeners and not in advertised.listeners", l.Name)
		}
		if ip := net.ParseIP(a.Host); ip != nil && ip.IsUnspecified() {
			return s.at("listeners", "clients cannot connect to %s: set advertised.listeners (--advertise HOST:PORT) to the address they can reach", a.Host)
		}
		if a.Host == "" {
			a.Host = hostname()
		}
		a.Protocol = l.Protocol
		b.AdvertisedListeners = append(b.AdvertisedListeners, a)
		delete(byName, l.Name)
	}
	for name := range byName {
		return s.at("advertised.listeners", "listener %s is in advertised.listeners and not in listeners", name)
	}
	if b.InterBrokerListener == "" {
		b.InterBrokerListener = listeners[0].Name
	}
	for _, l := range listeners {
		if l.Name == b.InterBrokerListener {
			return nil
		}
	}
	return s.at("inter.broker.listener.name", "%s is not one of listeners", b.InterBrokerListener)
}

// checkTogether holds the rules between settings, with Kafka's words where Kafka has the rule.
func (s *Settings) checkTogether(b *Broker) error {
	switch {
	case b.Group.MinSessionTimeout > b.Group.MaxSessionTimeout:
		return s.at("group.min.session.timeout.ms", "group.min.session.timeout.ms is more than group.max.session.timeout.ms")
	case len(b.LogDirs) > 1:
		return s.at("log.dirs", "log.dirs has %d directories, and one is all that is supported so far", len(b.LogDirs))
	case b.Remote.ReadAheadBytes > b.Remote.CacheBytes:
		return s.at("remote.read.ahead.bytes", "remote.read.ahead.bytes is more than remote.cache.bytes, which it is a part of")
	case b.ReplicaFetchWait > b.ReplicaLagMax:
		return s.at("replica.fetch.wait.max.ms", "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent changes in ISR")
	case b.ReplicaFetchWait > b.ReplicaSocketTimeout:
		return s.at("replica.socket.timeout.ms", "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts")
	}
	return nil
}

// at is a complaint about a setting, with the place it was set.
func (s *Settings) at(name, format string, args ...any) error {
	e := &SettingError{Name: name, Reason: fmt.Sprintf(format, args...), bare: true}
	if d, ok := find(ScopeBroker, name); ok {
		if _, o, _ := s.lookup(d); o.Kind != FromDefault {
			e.Place = o.String()
		}
	}
	return e
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost" // what Java says too when the machine has no name
	}
	return name
}

// orHalf is n, or for -1 half of the whole.
func orHalf(n, whole int64) int64 {
	if n < 0 {
		return whole / 2
	}
	return n
}

// Package broker puts one broker together and runs it.
//
// It hides the order in which the parts need each other. [New] checks the
// settings and takes the four seams to the outside (file system, object store,
// key-value store, network); [Broker.Run] opens everything from the bottom up,
// serves, and closes from the top down:
//
//	log directories · etcd · metadata · object store · tiering ·
//	group coordinator · replica manager · registration · controller ·
//	Kafka listener · HTTP
//
// Nothing is served before this broker's partitions are open and it is
// registered. A part that fails stops the broker; the error names the part.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering"
	"github.com/coldbrook/coldbrook/tiering/cost"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Options of a Broker. Settings is required; what is nil is the real thing.
type Options struct {
	Settings *config.Settings
	Logger   *slog.Logger
	// Meter and Tracer give a package its own; nil measures and traces nothing,
	// which costs nothing.
	Meter  func(pkg string) metric.Meter
	Tracer func(pkg string) trace.Tracer
	// Metrics serves /metrics; nil serves none.
	Metrics http.Handler
	// SetLogLevel applies log.level when it is changed while running.
	SetLogLevel func(level string) error
	Version     console.Version

	FS      vfs.FS
	Objects object.Store
	KV      kv.KV
	Listen  func(ctx context.Context, addr string) (net.Listener, error)
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // to other brokers
}

// Addresses say where a running broker can be found.
type Addresses struct {
	Kafka     []string // listeners, as bound
	HTTP      string   // empty: none
	DataDir   string
	Store     string // object store URL
	Etcd      string // endpoints, or the embedded one's socket
	ClusterID string
}

// Broker is one broker. Run it once.
type Broker struct {
	o        Options
	log      *slog.Logger
	settings atomic.Pointer[config.Settings]
	dynamic  struct{ cluster, own map[string]string } // what settings hold of the Image

	dirs       []*segment.Dir
	kv         kv.KV
	etcd       *kv.Embedded // nil: it is elsewhere
	metadata   *metadata.Store
	objects    object.Store
	ledger     *cost.Ledger
	tier       *tiering.Manager
	groups     *group.Coordinator
	replicas   *replica.Manager
	authorizer *auth.Authorizer
	quotas     *quota.Manager
	session    atomic.Pointer[metadata.Session] // the registration in force
	addresses  Addresses
	ready      atomic.Bool
}

// New checks the options; it opens nothing.
func New(o Options) (*Broker, error) {
	if o.Settings == nil {
		return nil, errors.New("broker: Settings are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.NewOS()
	}
	if o.Listen == nil {
		o.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Meter == nil {
		o.Meter = func(pkg string) metric.Meter { return noopmetric.NewMeterProvider().Meter(pkg) }
	}
	b := &Broker{o: o, log: o.Logger}
	b.settings.Store(o.Settings)
	return b, nil
}

// stopTimeout bounds what has to be told to others while stopping.
const stopTimeout = 5 * time.Second

// Run opens the broker, calls ready once it serves, and returns after a clean
// stop when ctx ends. It returns an error when a part could not be opened or
// failed; nothing is left running.
func (b *Broker) Run(ctx context.Context, ready func(Addresses)) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	parts := &layers{fail: fail}
	defer func() {
		b.ready.Store(false)
		err = errors.Join(err, parts.stop())
	}()
	for _, v := range b.settings.Load().Inert() {
		b.log.Warn("setting has no effect", "setting", v.Def.Name, "from", v.Origin, "why", v.Def.Doc)
	}
	if err := b.open(ctx, parts); err != nil {
		return err
	}
	b.ready.Store(true)
	b.log.Info("broker started", "broker", b.settings.Load().Broker().NodeID, "kafka", b.addresses.Kafka, "http", b.addresses.HTTP, "cluster", b.addresses.ClusterID)
	if ready != nil {
		ready(b.addresses)
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	b.log.Info("broker stopping")
	b.ready.Store(false)
	b.handOver(ctx)
	return nil
}

// open starts the parts in order.
func (b *Broker) open(ctx context.Context, parts *layers) error {
	for _, step := range []struct {
		name string
		open func(context.Context, *layers) error
	}{
		{"open files", b.enoughFiles},
		{"log directory", b.openDirs},
		{"etcd", b.openKV},
		{"metadata", b.openMetadata},
		{"object store", b.openObjects},
		{"tiering", b.openTier},
		{"group coordinator", b.openGroups},
		{"replicas", b.openReplicas},
		{"listeners", b.openNetwork},
	} {
		if err := step.open(ctx, parts); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

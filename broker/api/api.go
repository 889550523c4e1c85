package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// Options of an API; all but SessionBytes, Logger and Meter are required.
type Options struct {
	Broker     metadata.BrokerID
	Metadata   *metadata.Store
	Replicas   *replica.Manager
	Groups     *group.Coordinator
	Dirs       []*segment.Dir          // log directories
	Settings   func() *config.Settings // current broker settings
	Authorizer *auth.Authorizer
	Quotas     *quota.Manager
	// SessionBytes is how much memory fetch sessions may take. 64 MiB.
	SessionBytes int64
	Logger       *slog.Logger
	Meter        metric.Meter
}

// API serves Kafka's protocol; it is the [wire.Handler]. Safe for concurrent use.
type API struct {
	o        Options
	log      *slog.Logger
	table    map[int16]*entry
	versions []VersionRange
	current  currentLimits
	sessions *sessionCache
	places   places // of large answers that are being made
	creating singleCreate
	// producerIDs are handed to idempotent producers.
	producerIDs *producerIDs
}

// New makes the API.
func New(o Options) (*API, error) {
	if o.Metadata == nil || o.Replicas == nil || o.Groups == nil || o.Settings == nil || o.Authorizer == nil || o.Quotas == nil {
		return nil, errors.New("api: Metadata, Replicas, Groups, Settings, Authorizer and Quotas are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SessionBytes == 0 {
		o.SessionBytes = 64 << 20
	}
	a := &API{
		o: o, log: o.Logger, table: versionTable(), versions: Versions(), producerIDs: newProducerIDs(),
		places:   newPlaces(),
		sessions: newSessionCache(o.Settings().Broker().FetchSessions, o.SessionBytes),
	}
	if err := a.measure(o.Meter); err != nil {
		return nil, fmt.Errorf("api metrics: %w", err)
	}
	return a, nil
}

// call is one request being handled.
type call struct {
	*wire.Request
	req       kmsg.Request
	principal auth.Principal
	host      string
	throttle  time.Duration // what the client owes already, whatever this request costs
	exempt    bool          // of client quotas: it is another broker's
}

// peer is what the API keeps of a connection.
type peer struct{ host string }

// Terms are the largest frame of a request and whether it is pipelined; ok says
// whether the version is served.
func (a *API) Terms(key, version int16) (t wire.Terms, ok bool) {
	e, ok := a.table[key]
	if !ok || version < e.advertised() || version > e.max {
		return wire.Terms{}, false
	}
	t = wire.Terms{MaxBytes: e.maxBytes, Pipelined: e.pipelined != nil}
	if e.maxBytes == anyBytes {
		t.MaxBytes = a.limits().requestMaxBytes
	}
	return t, true
}

// Handle runs the ordered part of a request: all of a pipelined one, but for its
// wait. Any other is served where it can be seen that its client goes away.
func (a *API) Handle(ctx context.Context, r *wire.Request) (wire.Response, wire.Pending) {
	e, ok := a.table[r.Key]
	if r.Key == int16(kmsg.ApiVersions) && (r.Version < e.min || r.Version > e.max) {
		return a.unsupportedApiVersions(), nil
	}
	if !ok || r.Version < e.min || r.Version > e.max {
		// Advertised for a client's feature detection, but never served.
		a.log.Debug("closing connection, version not served", "api", kmsg.NameForKey(r.Key), "version", r.Version)
		return wire.Response{Close: true, Failed: true}, nil
	}
	c := &call{Request: r, principal: principalOf(r.Conn), host: hostOf(r.Conn)}
	if e.pipelined == nil {
		return wire.Response{}, func(ctx context.Context) (wire.Response, error) { return a.serve(ctx, e, c) }
	}
	began := time.Now()
	if err := a.decode(ctx, c); err != nil {
		return a.malformed(c, err), nil
	}
	c.throttle = a.o.Quotas.Peek(quota.Request, c.principal.Name, c.ClientID, began)
	resp, pending := e.pipelined(a, ctx, c)
	if !c.exempt {
		a.spent(c, began)
	}
	return resp, pending
}

// serve runs a request that has its connection to itself.
func (a *API) serve(ctx context.Context, e *entry, c *call) (wire.Response, error) {
	if err := a.decode(ctx, c); err != nil {
		return a.malformed(c, err), nil
	}
	if e.waits {
		c.throttle = a.o.Quotas.Peek(quota.Request, c.principal.Name, c.ClientID, time.Now())
		return a.answer(ctx, e, c)
	}
	if e.decides {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeoutOf(c.req))
		defer cancel()
	}
	return a.answer(ctx, e, c)
}

// decode reads the body. What it takes is charged to the request first.
func (a *API) decode(ctx context.Context, c *call) error {
	c.req = kmsg.RequestForKey(c.Key)
	c.req.SetVersion(c.Version)
	if err := c.Guard(ctx, decodeBudget(len(c.Body))); err != nil {
		return err
	}
	return c.req.ReadFrom(c.Body)
}

// timeoutOf is how long a request may wait for a decision of the cluster.
func timeoutOf(req kmsg.Request) time.Duration {
	if t, ok := req.(kmsg.TimeoutRequest); ok && t.Timeout() > 0 {
		return time.Duration(t.Timeout()) * time.Millisecond
	}
	return decideWait
}

// spent charges the time of the ordered part to the client's request quota.
func (a *API) spent(c *call, began time.Time) time.Duration {
	now := time.Now()
	return a.o.Quotas.Record(quota.Request, c.principal.Name, c.ClientID, now.Sub(began).Seconds(), now)
}

// malformed closes the connection, as Kafka does on a request it cannot parse.
func (a *API) malformed(c *call, err error) wire.Response {
	a.log.Debug("closing connection, malformed request", "api", kmsg.NameForKey(c.Key), "version", c.Version, "client", c.ClientID, "remote", c.host, "err", err)
	return wire.Response{Close: true, Failed: true, Err: err}
}

// decodeBudget is what decoding a body of n bytes may allocate: records are
// views, so honest requests stay far below.
func decodeBudget(n int) int64 { return 1<<16 + 16*int64(n) }

// respond encodes a response, with the throttle time of the call.
func respond(c *call, resp kmsg.Response) wire.Response {
	if t, ok := resp.(kmsg.SetThrottleResponse); ok && c.throttle > 0 {
		t.SetThrottle(int32(c.throttle.Milliseconds()))
	}
	out := wire.Encode(resp)
	out.Throttle, out.Failed = c.throttle, failed(resp)
	return out
}

func principalOf(c *wire.Conn) auth.Principal {
	if p, ok := c.Principal().(auth.Principal); ok {
		return p
	}
	return auth.Anonymous
}

// hostOf is the peer's address without its port, found once per connection.
func hostOf(c *wire.Conn) string {
	p, ok := c.Session.(*peer)
	if !ok {
		p = &peer{host: hostPart(c.RemoteAddr())}
		c.Session = p
	}
	return p.host
}

// allowed asks the authorizer.
func (a *API) allowed(ctx context.Context, c *call, op auth.Operation, kind auth.ResourceType, name string) bool {
	return a.o.Authorizer.Authorize(ctx, c.principal, c.host, op, auth.Resource{Type: kind, Name: name})
}

// topicAllowed asks the authorizer about a topic and gives Kafka's error code.
func (a *API) topicAllowed(ctx context.Context, c *call, op auth.Operation, topic string) int16 {
	if a.allowed(ctx, c, op, auth.Topic, topic) {
		return 0
	}
	return kerr.TopicAuthorizationFailed.Code
}

// groupAllowed asks the authorizer about a group and gives Kafka's error code.
func (a *API) groupAllowed(ctx context.Context, c *call, op auth.Operation, name string) int16 {
	if a.allowed(ctx, c, op, auth.Group, name) {
		return 0
	}
	return kerr.GroupAuthorizationFailed.Code
}

// clientOf is what the group coordinator wants to know of a caller; tools show
// the host as Java prints an address.
func clientOf(c *call) group.Client { return group.Client{ID: c.ClientID, Host: "/" + c.host} }

// clusterAllowed asks the authorizer about the cluster.
func (a *API) clusterAllowed(ctx context.Context, c *call, op auth.Operation) bool {
	return a.allowed(ctx, c, op, auth.Cluster, auth.ClusterName)
}

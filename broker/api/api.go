package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
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
)

// Options of an API; all but Logger and Meter are required.
type Options struct {
	Broker     metadata.BrokerID
	Metadata   *metadata.Store
	Replicas   *replica.Manager
	Groups     *group.Coordinator
	Settings   func() *config.Settings // current broker settings
	Authorizer *auth.Authorizer
	Quotas     *quota.Manager
	Logger     *slog.Logger
	Meter      metric.Meter
}

// API serves Kafka's protocol; it is the [wire.Handler]. Safe for concurrent use.
type API struct {
	o        Options
	log      *slog.Logger
	table    map[int16]entry
	sessions *sessionCache
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
	slots := o.Settings().Broker().FetchSessions
	return &API{o: o, log: o.Logger, table: versionTable(), sessions: newSessionCache(slots), producerIDs: newProducerIDs()}, nil
}

// call is one request being handled.
type call struct {
	*wire.Request
	req       kmsg.Request
	principal auth.Principal
	host      string
}

// Limits is the largest body of a request, and whether the version is served.
func (a *API) Limits(key, version int16) (maxBytes int32, ok bool) {
	e, ok := a.table[key]
	if !ok || version < e.advertised() || version > e.max {
		return 0, false
	}
	if e.large {
		return a.o.Settings().Broker().RequestMaxBytes, true
	}
	return smallRequestMax, true
}

// Handle runs the ordered part of a request.
func (a *API) Handle(ctx context.Context, r *wire.Request) (wire.Response, wire.Pending) {
	e, ok := a.table[r.Key]
	if r.Key == int16(kmsg.ApiVersions) && (!ok || r.Version > e.max) {
		return a.unsupportedApiVersions(), nil
	}
	if !ok {
		return wire.Response{Close: true}, nil
	}
	if r.Version < e.min {
		// Advertised for a client's feature detection, but never served.
		a.log.Debug("closing connection, version not served", "api", kmsg.NameForKey(r.Key), "version", r.Version)
		return wire.Response{Close: true}, nil
	}
	body := r.Body
	if e.waits != nil {
		body = bytes.Clone(body) // outlives the ordered part
	}
	c := &call{Request: r, req: kmsg.RequestForKey(r.Key), principal: principalOf(r.Conn), host: hostOf(r.Conn)}
	c.req.SetVersion(r.Version)
	if err := wire.Guard(r.Key, r.Version, body, decodeBudget(len(body))); err != nil {
		return a.malformed(c, err), nil
	}
	if err := c.req.ReadFrom(body); err != nil {
		return a.malformed(c, err), nil
	}
	switch {
	case e.raw != nil:
		return e.raw(a, ctx, c)
	case e.waits != nil:
		return wire.Response{}, func(ctx context.Context) (wire.Response, error) {
			return respond(e.waits(a, ctx, c)), nil
		}
	default:
		return respond(e.now(a, ctx, c)), nil
	}
}

// malformed closes the connection, as Kafka does on a request it cannot parse.
func (a *API) malformed(c *call, err error) wire.Response {
	a.log.Warn("closing connection, malformed request", "api", kmsg.NameForKey(c.Key), "version", c.Version, "client", c.ClientID, "remote", c.host, "err", err)
	return wire.Response{Close: true}
}

// smallRequestMax bounds requests that carry no records: a million bytes name
// tens of thousands of partitions.
const smallRequestMax = 4 << 20

// decodeBudget is what decoding a body of n bytes may allocate: records are
// views, so honest requests stay far below.
func decodeBudget(n int) int64 { return 1<<16 + 16*int64(n) }

// respond encodes a response.
func respond(resp kmsg.Response) wire.Response {
	if resp == nil {
		return wire.Response{None: true}
	}
	out := wire.Response{Buffers: [][]byte{resp.AppendTo(nil)}}
	if t, ok := resp.(kmsg.ThrottleResponse); ok {
		millis, _ := t.Throttle()
		out.Throttle = time.Duration(millis) * time.Millisecond
	}
	return out
}

func principalOf(c *wire.Conn) auth.Principal {
	if p, ok := c.Principal().(auth.Principal); ok {
		return p
	}
	return auth.Anonymous
}

func hostOf(c *wire.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return host
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

// clientOf is what the group coordinator wants to know of a caller.
func clientOf(c *call) group.Client { return group.Client{ID: c.ClientID, Host: c.host} }

// clusterAllowed asks the authorizer about the cluster.
func (a *API) clusterAllowed(ctx context.Context, c *call, op auth.Operation) bool {
	return a.allowed(ctx, c, op, auth.Cluster, auth.ClusterName)
}

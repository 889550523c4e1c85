package kv

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DialOptions say where etcd is and who we are.
type DialOptions struct {
	Endpoints          []string // host:port or http(s):// or unix:// URLs
	Username, Password string
	TLS                *tls.Config
	MaxTxnOps          int           // what the servers were started with; default DefaultMaxTxnOps
	RequestTimeout     time.Duration // of one request; default 5 s
	Logger             *slog.Logger
}

const (
	dialTimeout = 5 * time.Second // of one connection attempt
	// The client pings no more often than every 10 s, whatever it is asked for.
	// But the kernel gives up a connection on which something was sent that
	// pingTimeout later was not received, and lease renewals go out on all
	// connections in turn.
	pingInterval = 10 * time.Second
	pingTimeout  = 2 * time.Second
	// defaultRequestTimeout bounds each request: while no server can be reached,
	// etcd's client waits for as long as its context lets it.
	defaultRequestTimeout = 5 * time.Second
	// leaderGrace is how long after the election of a leader the answer to an
	// older request may take. What the old leader did not hand on is lost, and
	// etcd would wait for it until the request's timeout.
	leaderGrace = 250 * time.Millisecond
)

// Dial connects to an etcd cluster and checks that it answers. ctx bounds that
// check; the connection then lives until Close.
func Dial(ctx context.Context, o DialOptions) (KV, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("etcd: no endpoints given")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := clientv3.New(clientv3.Config{
		Context: context.WithoutCancel(ctx), Endpoints: o.Endpoints,
		Username: o.Username, Password: o.Password, TLS: o.TLS,
		DialTimeout: dialTimeout, DialKeepAliveTime: pingInterval, DialKeepAliveTimeout: pingTimeout,
		MaxCallSendMsgSize: maxRequestBytes, Logger: zapLogger(o.Logger, slog.LevelError, nil),
	})
	if err != nil { // it asks for a token where there is a user
		return nil, dialError(ctx, o, mapError(err))
	}
	kv := &etcd{client: c, maxOps: cmp.Or(o.MaxTxnOps, DefaultMaxTxnOps), timeout: cmp.Or(o.RequestTimeout, defaultRequestTimeout)}
	if _, err := kv.Range(ctx, RangeRequest{Key: "/coldbrook/"}); !allowed(err) {
		_ = c.Close() // the reason is err
		return nil, dialError(ctx, o, err)
	}
	return kv, nil
}

// dialError says which endpoints cannot be reached, and why.
func dialError(ctx context.Context, o DialOptions, err error) error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: no answer within %s", ErrUnavailable, dialTimeout)
	}
	if errors.Is(err, ErrUnavailable) {
		if why := unreachable(ctx, o); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
	}
	return fmt.Errorf("etcd %v: %w", o.Endpoints, err)
}

// etcd is a KV over a client, whether that goes through a socket or not.
type etcd struct {
	client  *clientv3.Client
	maxOps  int
	timeout time.Duration // of one request
	// newLeader returns a channel that is closed when the next leader is elected;
	// nil: the server does not tell.
	newLeader func() <-chan struct{}
}

func (e *etcd) MaxTxnOps() int { return e.maxOps }

func (e *etcd) Close() error {
	if err := e.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}

// errLeaderChanged is why a request is given up after an election.
var errLeaderChanged = errors.New("the leader changed")

// request runs one call with a deadline. When it passes, that is the store's
// silence and not the end of the caller's context.
func request[T any](ctx context.Context, e *etcd, call func(ctx context.Context) (T, error)) (T, error) {
	// A member that is cut off from the others refuses at once, and the next
	// request goes to another one.
	bounded, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), e.timeout)
	defer cancel()
	bounded, done := e.untilElection(bounded)
	defer done()
	resp, err := call(bounded)
	switch {
	case err == nil:
		return resp, nil
	case errors.Is(context.Cause(bounded), errLeaderChanged):
		return resp, fmt.Errorf("%w: %w: %w", ErrUnavailable, errLeaderChanged, err)
	case bounded.Err() != nil && ctx.Err() == nil:
		return resp, fmt.Errorf("%w: no answer within %s: %w", ErrUnavailable, e.timeout, err)
	}
	return resp, mapError(err)
}

// untilElection ends the context leaderGrace after the next election.
func (e *etcd) untilElection(ctx context.Context) (context.Context, func()) {
	if e.newLeader == nil {
		return ctx, func() {}
	}
	elected := e.newLeader()
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-elected:
		case <-ctx.Done():
			return
		}
		grace := time.NewTimer(leaderGrace)
		defer grace.Stop()
		select {
		case <-grace.C:
			cancel(errLeaderChanged)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled); <-ended }
}

func (e *etcd) Range(ctx context.Context, r RangeRequest) (RangeResponse, error) {
	opts := make([]clientv3.OpOption, 0, 3)
	if r.End != "" {
		opts = append(opts, clientv3.WithRange(r.End))
	}
	if r.Limit > 0 {
		opts = append(opts, clientv3.WithLimit(r.Limit))
	}
	if r.Revision > 0 {
		opts = append(opts, clientv3.WithRev(r.Revision))
	}
	get := func(ctx context.Context) (*clientv3.GetResponse, error) { return e.client.Get(ctx, r.Key, opts...) }
	resp, err := request(ctx, e, get)
	if errors.Is(err, errLeaderChanged) || errors.Is(err, rpctypes.ErrLeaderChanged) {
		resp, err = request(ctx, e, get) // there is one again
	}
	if err != nil {
		return RangeResponse{}, err
	}
	return RangeResponse{KVs: fromEtcd(resp.Kvs), Revision: resp.Header.Revision, More: resp.More}, nil
}

func (e *etcd) Txn(ctx context.Context, t Txn) (TxnResponse, error) {
	if err := t.check(e.maxOps); err != nil {
		return TxnResponse{}, err
	}
	cmps := make([]clientv3.Cmp, len(t.If))
	for i, c := range t.If {
		cmps[i] = etcdCmp(c)
	}
	resp, err := request(ctx, e, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return e.client.Txn(ctx).If(cmps...).Then(etcdOps(t.Then)...).Else(etcdOps(t.Else)...).Commit()
	})
	if err != nil {
		return TxnResponse{}, err
	}
	out := TxnResponse{Succeeded: resp.Succeeded, Revision: resp.Header.Revision, Gets: make([][]KeyValue, len(resp.Responses))}
	for i, r := range resp.Responses {
		if get := r.GetResponseRange(); get != nil {
			out.Gets[i] = fromEtcd(get.Kvs)
		}
	}
	return out, nil
}

func etcdCmp(c Cmp) clientv3.Cmp {
	target := clientv3.ModRevision(c.Key)
	if c.Target == CreateRevision {
		target = clientv3.CreateRevision(c.Key)
	}
	if c.Result == Greater {
		return clientv3.Compare(target, ">", c.Revision)
	}
	return clientv3.Compare(target, "=", c.Revision)
}

func etcdOps(ops []Op) []clientv3.Op {
	out := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		var opts []clientv3.OpOption
		if op.End != "" {
			opts = append(opts, clientv3.WithRange(op.End))
		}
		switch op.Kind {
		case OpGet:
			out[i] = clientv3.OpGet(op.Key, opts...)
		case OpPut:
			if op.Lease != 0 {
				opts = append(opts, clientv3.WithLease(clientv3.LeaseID(op.Lease)))
			}
			out[i] = clientv3.OpPut(op.Key, string(op.Value), opts...)
		case OpDelete:
			out[i] = clientv3.OpDelete(op.Key, opts...)
		}
	}
	return out
}

// RequestProgress implements KV. The client finds the stream of Watch by what
// its context asks of the server.
func (e *etcd) RequestProgress(ctx context.Context) error {
	return mapError(e.client.RequestProgress(clientv3.WithRequireLeader(ctx)))
}

func (e *etcd) Watch(ctx context.Context, w WatchRequest) iter.Seq2[WatchResponse, error] {
	return func(yield func(WatchResponse, error) bool) {
		// Progress notices let an idle watch resume after a compaction.
		opts := []clientv3.OpOption{clientv3.WithProgressNotify()}
		if w.End != "" {
			opts = append(opts, clientv3.WithRange(w.End))
		}
		if w.Revision > 0 {
			opts = append(opts, clientv3.WithRev(w.Revision))
		}
		watch, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer cancel()
		for resp := range e.client.Watch(watch, w.Key, opts...) {
			if err := resp.Err(); err != nil {
				yield(WatchResponse{}, mapError(err))
				return
			}
			out := WatchResponse{Events: eventsFromEtcd(resp.Events), Revision: resp.Header.Revision}
			if n := len(out.Events); n > 0 {
				// The header's revision is the store's: while a watch catches
				// up, there are more events below it.
				out.Revision = out.Events[n-1].KV.ModRevision
			}
			if !yield(out, nil) {
				return
			}
		}
		if ctx.Err() == nil {
			yield(WatchResponse{}, fmt.Errorf("%w: watch ended", ErrUnavailable))
		}
	}
}

func (e *etcd) Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error) {
	if ttl <= 0 {
		return 0, 0, fmt.Errorf("lease time to live %s: want more than 0", ttl)
	}
	resp, err := request(ctx, e, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return e.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	})
	if err != nil {
		return 0, 0, err
	}
	return LeaseID(resp.ID), time.Duration(resp.TTL) * time.Second, nil
}

func (e *etcd) KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error) {
	resp, err := request(ctx, e, func(ctx context.Context) (*clientv3.LeaseKeepAliveResponse, error) {
		return e.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	})
	if err != nil {
		return 0, err
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

func (e *etcd) Revoke(ctx context.Context, id LeaseID) error {
	_, err := request(ctx, e, func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
		return e.client.Revoke(ctx, clientv3.LeaseID(id))
	})
	return err
}

// mapError adds the sentinel of this package to an error of etcd's client.
func mapError(err error) error {
	kind := sentinel(err)
	if kind == nil || errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

func sentinel(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil // the caller's own
	case errors.Is(err, rpctypes.ErrCompacted):
		return ErrCompacted
	case errors.Is(err, rpctypes.ErrFutureRev):
		return ErrFutureRevision
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return ErrLeaseNotFound
	case errors.Is(err, rpctypes.ErrTooManyOps):
		return ErrTooManyOps
	case errors.Is(err, rpctypes.ErrNoSpace):
		return ErrNoSpace
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrAuthFailed),
		errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrInvalidAuthToken):
		return ErrAccess
	}
	code := status.Code(err)
	var etcdErr rpctypes.EtcdError
	if errors.As(err, &etcdErr) {
		code = etcdErr.Code()
	}
	switch code {
	case codes.ResourceExhausted:
		if strings.Contains(err.Error(), "larger than max") {
			return nil // the message, by gRPC's limit
		}
		return ErrUnavailable // too many requests
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return ErrUnavailable
	case codes.Unauthenticated, codes.PermissionDenied:
		return ErrAccess
	}
	return nil
}

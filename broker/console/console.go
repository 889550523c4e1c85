// Package console is the broker's HTTP side: health, readiness, metrics, profiles and a
// JSON view of topics, brokers, the tier and the settings.
//
//	/                        what is here
//	/healthz                 200 while the process works, 503 with reasons when it must be restarted or its disk looked at
//	/readyz                  200 when this broker is registered and serves clients, 503 with what is missing
//	/metrics                 Prometheus
//	/debug/pprof/            Go's profiles
//	/api/v1/version          build and cluster
//	/api/v1/cluster          how the cluster is: brokers, and partitions that lack something or move
//	/api/v1/brokers          the cluster's brokers
//	/api/v1/topics           topics and their partitions; ?topic=NAME for one
//	/api/v1/config           this broker's settings and where each came from; ?topic=NAME for a topic's
//	/api/v1/tier             a partition a row: what is local, what is remote, what waits; ?topic=NAME for one
//	/api/v1/tier/segments    a partition's remote segments; ?topic=NAME&partition=N[&from=OFFSET][&limit=N]
//	/api/v1/tier/fsck        compares store and manifests, in JSON lines; [?topic=NAME][&quick=true]; POST repairs
//	/api/v1/tier/verify      reads and checks all bytes, in JSON lines; [?topic=NAME][&rate=BYTES/s]; POST repairs
//	/api/v1/tier/cost        what each topic asks of the object store and costs a day; [?topic=NAME][&local=true]
//	/api/v1/lag              how far ends are from offsets, hot and cold; ?at=TOPIC:PARTITION:OFFSET[&at=…][&local=true]
//	/api/v1/topics/undelete  POST brings a deleted topic back; ?topic=NAME or id
//	/api/v1/tier/adopt       POST decides for the logs where newer manifests disagree; ?topic=NAME[&partition=N…]
//	/api/v1/topics/recover   POST makes a topic of one that is only in the object store; ?topic=NAME[&cluster=ID]
//
// It hides HTTP: what is shown comes from functions in Options, so that this package knows no log and
// no tier. Everything answers GET and HEAD, which change nothing. What changes something is a POST with
// Content-Type application/json; that, and what reads the whole store, needs the header [TokenHeader] too, which no
// page of another site can make a browser send. Who asks under a name that is not this broker's, or for a page of
// another site, is refused ([Access]). One check of the store runs at a time. Profiles and changes are for this
// machine unless a setting says otherwise. An error of the API is {"error": "…"} with a status that fits. Nobody is
// asked for a password to read: the address decides who gets in.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"
)

// ErrNotFound is returned by the functions of Options for a topic or partition there is not; it becomes 404.
var ErrNotFound = errors.New("not found")

// ErrUnavailable is returned by the functions of Options while their part of the broker starts; it becomes 503.
var ErrUnavailable = errors.New("not available yet")

// ErrRefused is returned by the functions of Options for what cannot be done as things are; it becomes 409.
var ErrRefused = errors.New("refused")

// Options are where the shown things come from. A nil function's page answers 404. All functions are
// called concurrently; ctx ends with the request or after its time.
type Options struct {
	Logger  *slog.Logger
	Access  Access
	Metrics http.Handler
	// Unhealthy and NotReady return what is wrong; none is good.
	Unhealthy func() []Reason
	NotReady  func() []Reason

	Version  func() Version
	Brokers  func(ctx context.Context) (Cluster, error)
	Topics   func(ctx context.Context) ([]Topic, error)
	Tier     func(ctx context.Context) ([]TierPartition, error)
	Segments func(ctx context.Context, q SegmentQuery) ([]TierSegment, error)
	// Fsck and Verify check the tier and tell line what they find. Undelete takes a topic's name or id.
	Fsck     func(ctx context.Context, q TierCheck, line func(TierLine)) error
	Verify   func(ctx context.Context, q TierCheck, line func(TierLine)) error
	Undelete func(ctx context.Context, topic string) (Undeleted, error)
	// KeepLog decides for the logs of a topic's partitions that wait because newer manifests disagree with them; none
	// named is all.
	KeepLog func(ctx context.Context, topic string, partitions []int32) (KeptLogs, error)
	// Recover makes a topic of one that is only in the object store; it tells line how far it is.
	Recover func(ctx context.Context, q RecoverQuery, line func(TierLine)) error
	// Costs adds up all brokers, or is of this one if local.
	Costs func(ctx context.Context, local bool) (TierCosts, error)
	// Lags answers for each offset; local asks no other broker.
	Lags     func(ctx context.Context, at []LagAt, local bool) (Lags, error)
	Settings func() []Setting
	// TopicSettings returns ErrNotFound for an unknown topic.
	TopicSettings func(ctx context.Context, topic string) ([]Setting, error)

	// RequestTimeout bounds everything but profiles. Default: 30 s.
	RequestTimeout time.Duration
}

// Server answers. Make it with New, run it with Run.
type Server struct {
	o     Options
	mux   *http.ServeMux
	check single
}

// New returns a server that does nothing yet.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 30 * time.Second
	}
	s := &Server{o: o, mux: http.NewServeMux()}
	s.routes()
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	s.guarded(w, r)
}

// Run serves l until ctx ends, lets requests under way finish for up to five seconds, and returns. It
// closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug), // clients that hang up
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(bounded); err != nil {
		s.o.Logger.Warn("http requests cut off", "err", err)
		if err := srv.Close(); err != nil {
			s.o.Logger.Debug("http close", "err", err)
		}
	}
	<-served // http.ErrServerClosed
	return nil
}

func (s *Server) routes() {
	s.mux.Handle("GET /{$}", s.bounded(http.HandlerFunc(s.index)))
	s.mux.Handle("GET /healthz", s.bounded(state(s.o.Unhealthy, "ok", "unhealthy")))
	s.mux.Handle("GET /readyz", s.bounded(state(s.o.NotReady, "ready", "not ready")))
	if s.o.Metrics != nil {
		s.mux.Handle("GET /metrics", s.bounded(s.o.Metrics))
	}
	s.mux.HandleFunc("GET /debug/pprof/", s.admin(pprof.Index)) // unbounded: a profile lasts as long as it is asked to
	s.mux.HandleFunc("GET /debug/pprof/cmdline", s.admin(pprof.Cmdline))
	s.mux.HandleFunc("GET /debug/pprof/profile", s.admin(pprof.Profile))
	s.mux.HandleFunc("GET /debug/pprof/symbol", s.admin(pprof.Symbol))
	s.mux.HandleFunc("GET /debug/pprof/trace", s.admin(pprof.Trace))

	s.api("version", s.o.Version != nil, func(*http.Request) (any, error) { return s.o.Version(), nil })
	s.api("brokers", s.o.Brokers != nil, func(r *http.Request) (any, error) { return s.o.Brokers(r.Context()) })
	s.api("cluster", s.o.Brokers != nil && s.o.Topics != nil, func(r *http.Request) (any, error) { return s.health(r.Context()) })
	s.api("topics", s.o.Topics != nil, func(r *http.Request) (any, error) {
		all, err := s.o.Topics(r.Context())
		return filter(r, all, err, func(t Topic) string { return t.Name })
	})
	s.api("tier", s.o.Tier != nil, func(r *http.Request) (any, error) {
		all, err := s.o.Tier(r.Context())
		return filter(r, all, err, func(t TierPartition) string { return t.Topic })
	})
	s.tierRoutes()
	s.recoverRoute()
	s.costRoutes()
	s.lagRoute()
	s.api("tier/segments", s.o.Segments != nil, s.segments)
	s.api("config", s.o.Settings != nil, s.settings)
	s.mux.Handle("GET /api/", s.bounded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, problem{Error: "no such page: " + r.URL.Path})
	})))
}

// bounded gives a request its time.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.o.RequestTimeout)
		defer cancel()
		// An error means that this writer has no connection (a test's recorder).
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.o.RequestTimeout + time.Second))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// api registers a JSON page.
func (s *Server) api(path string, there bool, get func(*http.Request) (any, error)) {
	if !there {
		return
	}
	s.mux.Handle("GET /api/v1/"+path, s.bounded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := get(r)
		if err != nil {
			status := statusOf(err)
			if status == http.StatusInternalServerError {
				s.o.Logger.Warn("http request failed", "path", r.URL.Path, "err", err)
			}
			answer(w, status, problem{Error: err.Error()})
			return
		}
		answer(w, http.StatusOK, v)
	})))
}

// badRequest is an error in what the client sent.
type badRequest struct{ text string }

// Error returns the text.
func (b badRequest) Error() string { return b.text }

func statusOf(err error) int {
	var bad badRequest
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrRefused):
		return http.StatusConflict
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

type problem struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client is gone; the status has been sent
}

// filter keeps the rows of ?topic=; an unknown one is 404. The result is never null in JSON.
func filter[T any](r *http.Request, all []T, err error, name func(T) string) ([]T, error) {
	if err != nil {
		return nil, err
	}
	want := r.URL.Query().Get("topic")
	out := make([]T, 0, len(all))
	for _, v := range all {
		if want == "" || name(v) == want {
			out = append(out, v)
		}
	}
	if want != "" && len(out) == 0 {
		return nil, fmt.Errorf("topic %q: %w", want, ErrNotFound)
	}
	return out, nil
}

// Limits of /api/v1/tier/segments.
const (
	defaultSegments = 1000
	maxSegments     = 10_000
)

func (s *Server) segments(r *http.Request) (any, error) {
	q := r.URL.Query()
	partition, err := strconv.ParseInt(q.Get("partition"), 10, 32)
	if err != nil || partition < 0 || q.Get("topic") == "" {
		return nil, badRequest{"want ?topic=NAME&partition=N"}
	}
	sq := SegmentQuery{Topic: q.Get("topic"), Partition: int32(partition), Limit: defaultSegments}
	if v := q.Get("from"); v != "" {
		if sq.From, err = strconv.ParseInt(v, 10, 64); err != nil || sq.From < 0 {
			return nil, badRequest{"from: want an offset"}
		}
	}
	if v := q.Get("limit"); v != "" {
		if sq.Limit, err = strconv.Atoi(v); err != nil || sq.Limit < 1 || sq.Limit > maxSegments {
			return nil, badRequest{fmt.Sprintf("limit: want 1 to %d", maxSegments)}
		}
	}
	out, err := s.o.Segments(r.Context(), sq)
	if out == nil {
		out = []TierSegment{}
	}
	return out, err
}

func (s *Server) settings(r *http.Request) (any, error) {
	topic := r.URL.Query().Get("topic")
	if topic == "" {
		return s.o.Settings(), nil
	}
	if s.o.TopicSettings == nil {
		return nil, ErrNotFound
	}
	return s.o.TopicSettings(r.Context(), topic)
}

// state answers /healthz and /readyz.
func state(reasons func() []Reason, good, bad string) http.Handler {
	type status struct {
		Status  string   `json:"status"`
		Reasons []Reason `json:"reasons,omitempty"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var all []Reason
		if reasons != nil {
			all = reasons()
		}
		if len(all) == 0 {
			answer(w, http.StatusOK, status{Status: good})
			return
		}
		answer(w, http.StatusServiceUnavailable, status{Status: bad, Reasons: all})
	})
}

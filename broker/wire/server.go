package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
)

// Listener is where connections come from.
type Listener struct {
	// Name is Kafka's listener name, such as PLAINTEXT or INTERNAL.
	Name string
	// Listener accepts the connections. Run closes it.
	Listener net.Listener
	// TLS, if set, is spoken on every connection.
	TLS *tls.Config
	// Authenticate says that peers have to authenticate: until SetPrincipal their frames are limited to
	// Options.MaxUnauthenticatedBytes.
	Authenticate bool
}

// Options of a Server. Zero values mean the default given.
type Options struct {
	Handler   Handler
	Listeners []Listener
	// MaxRequestBytes is socket.request.max.bytes: no frame is larger, whatever the handler's limits say. 100 MiB.
	MaxRequestBytes int32
	// MaxUnauthenticatedBytes limits frames before authentication (sasl.server.max.receive.size). 512 KiB.
	MaxUnauthenticatedBytes int32
	// MemoryBytes is queued.max.request.bytes: what requests of all connections hold together, from the arrival of their
	// bytes until their answers are written. A single request may take more, one at a time. 256 MiB.
	MemoryBytes int64
	// MaxInFlight is how many requests of one connection may be unanswered. 64.
	MaxInFlight int
	// MaxConnections is max.connections: beyond it a listener stops accepting. 0 means no limit.
	MaxConnections int
	// MaxConnectionsPerIP is max.connections.per.ip: beyond it a new connection is closed. 0 means no limit.
	MaxConnectionsPerIP int
	// MaxConnectionsPerIPOverrides is max.connections.per.ip.overrides.
	MaxConnectionsPerIPOverrides map[string]int
	// IdleTimeout is connections.max.idle.ms: a connection without traffic and without an unanswered request is
	// closed. A peer that takes nothing of a response for that long is closed as well. 10 min; negative means never.
	IdleTimeout time.Duration
	// StallTimeout is how long a connection that holds memory may make no progress: a frame whose bytes do not arrive, an
	// answer that the peer does not take. A frame also has to arrive with 16 KiB a second beyond that time. 10 s.
	StallTimeout time.Duration
	// StopTimeout is how long Run waits for unanswered requests once its context ends. 5 s.
	StopTimeout time.Duration
	Logger      *slog.Logger
	Meter       metric.Meter
}

func (o *Options) setDefaults() {
	setDefault(&o.MaxRequestBytes, 100<<20)
	setDefault(&o.MaxUnauthenticatedBytes, 512<<10)
	setDefault(&o.MemoryBytes, 256<<20)
	setDefault(&o.MaxInFlight, 64)
	setDefault(&o.IdleTimeout, 10*time.Minute)
	setDefault(&o.StallTimeout, 10*time.Second)
	setDefault(&o.StopTimeout, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Server serves Kafka's protocol on its listeners.
type Server struct {
	o       Options
	log     *slog.Logger
	budget  *budget
	share   int64         // of the budget that the unanswered requests of one connection may hold when another is read
	slots   chan struct{} // max.connections; nil without a limit
	metrics *metrics
	started time.Time
	garbage notice // peers that do not speak the protocol
	stalled notice // peers that held memory and made no progress

	mu       sync.Mutex
	conns    map[*Conn]struct{}
	perIP    map[string]int
	accepted int64
	stopping bool

	stopped chan struct{} // closed when Run stops reading
}

// NewServer makes a server; Run starts it. It fails only when an option makes no sense.
func NewServer(o Options) (*Server, error) {
	o.setDefaults()
	if o.Handler == nil {
		return nil, errors.New("no handler")
	}
	if o.MaxRequestBytes < minFrame || o.MemoryBytes < 1 || o.MaxInFlight < 1 {
		return nil, fmt.Errorf("socket.request.max.bytes %d, queued.max.request.bytes %d, in flight %d: want positive limits",
			o.MaxRequestBytes, o.MemoryBytes, o.MaxInFlight)
	}
	s := &Server{
		o:       o,
		log:     o.Logger,
		budget:  newBudget(o.MemoryBytes),
		share:   o.MemoryBytes / smallShare,
		started: time.Now(),
		conns:   make(map[*Conn]struct{}),
		perIP:   make(map[string]int),
		stopped: make(chan struct{}),
		garbage: notice{log: o.Logger, text: "closed connections that do not speak Kafka's protocol"},
		stalled: notice{log: o.Logger, text: "closed connections that held memory and made no progress"},
	}
	if o.MaxConnections > 0 {
		s.slots = make(chan struct{}, o.MaxConnections)
	}
	var err error
	if s.metrics, err = newMetrics(o.Meter, s); err != nil {
		return nil, fmt.Errorf("metrics of the server: %w", err)
	}
	return s, nil
}

// instant is now as the nanoseconds that Conn's atomics hold; never zero.
func (s *Server) instant(now time.Time) int64 { return int64(now.Sub(s.started)) + 1 }

// Run serves until ctx ends. It then closes the listeners, lets connections answer what they have read for at most
// StopTimeout, and closes them; it returns when every goroutine is gone. Without ctx ending, a listener that
// fails ends Run with its error.
func (s *Server) Run(ctx context.Context) error {
	defer s.metrics.close()
	// Connections outlive ctx by the time they get to finish.
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var conns sync.WaitGroup
	g, gctx := errgroup.WithContext(ctx)
	for i := range s.o.Listeners {
		l := &s.o.Listeners[i]
		stop := context.AfterFunc(gctx, func() {
			// Accept reports whatever matters.
			_ = l.Listener.Close()
		})
		defer stop()
		g.Go(func() error { return s.accept(gctx, hard, l, &conns) })
	}
	sweepCtx, stopSweep := context.WithCancel(hard)
	defer stopSweep()
	conns.Go(func() { s.sweep(sweepCtx) })
	g.Go(func() error { <-gctx.Done(); return nil })
	err := g.Wait()
	s.stopConns()
	stopSweep()
	s.drain(&conns, cancel)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// accept takes connections from l until ctx ends.
func (s *Server) accept(ctx, hard context.Context, l *Listener, conns *sync.WaitGroup) error {
	backoff := time.Duration(0)
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !temporary(err) {
				return fmt.Errorf("accept on listener %s: %w", l.Name, err)
			}
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			s.log.Warn("accept failed", "listener", l.Name, "err", err, "retry", backoff)
			if !sleep(ctx, backoff) {
				return nil
			}
			continue
		}
		backoff = 0
		// The slot is taken for a connection that is there: a listener on which nobody calls holds none.
		if !s.acquireSlot(ctx) {
			_ = nc.Close() // the broker stops: nobody is told
			return nil
		}
		c := s.admit(hard, l, nc)
		if c == nil {
			s.releaseSlot()
			continue
		}
		conns.Go(func() { s.serve(c) })
	}
}

// temporary tells whether accepting may work again: out of file descriptors, a peer gone before we came.
func temporary(err error) bool {
	var ne net.Error
	//lint:ignore SA1019 net.Error.Temporary is deprecated for everything but this: net/http does the same.
	return errors.As(err, &ne) && ne.Temporary()
}

func (s *Server) acquireSlot(ctx context.Context) bool {
	if s.slots == nil {
		return ctx.Err() == nil
	}
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) releaseSlot() {
	if s.slots != nil {
		<-s.slots
	}
}

// admit makes a connection of nc, or closes it and returns nil when its address has too many.
func (s *Server) admit(ctx context.Context, l *Listener, nc net.Conn) *Conn {
	ip := hostOf(nc.RemoteAddr())
	limit := s.o.MaxConnectionsPerIP
	if n, ok := s.o.MaxConnectionsPerIPOverrides[ip]; ok {
		limit = n
	}
	if l.TLS != nil {
		nc = tls.Server(nc, l.TLS)
	}
	c := &Conn{nc: nc, listener: l, server: s, answered: make(chan struct{}, 1),
		slots: make(chan struct{}, s.o.MaxInFlight), calls: make(chan *call, s.o.MaxInFlight)}
	s.mu.Lock()
	refused := s.stopping || limit > 0 && s.perIP[ip] >= limit
	if !refused {
		s.perIP[ip]++
		s.accepted++
		s.conns[c] = struct{}{}
		c.id = l.Name + "-" + strconv.FormatInt(s.accepted, 10)
		c.ctx, c.cancel = context.WithCancel(ctx)
		c.idle.Store(newIdleWait(c.ctx, nil))
	}
	s.mu.Unlock()
	if refused {
		s.metrics.listeners[l.Name].refused.Add(1)
		s.log.Debug("connection refused", "listener", l.Name, "client", nc.RemoteAddr())
		// The peer sees the close; there is nobody to tell of its error.
		_ = nc.Close()
		return nil
	}
	c.touch()
	return c
}

// serve runs both goroutines of a connection and returns when they are done.
func (s *Server) serve(c *Conn) {
	stop := context.AfterFunc(c.ctx, func() {
		c.Close() // wakes a reader or writer that is blocked
	})
	counts := s.metrics.listeners[c.listener.Name]
	counts.opened.Add(1)
	counts.open.Add(1)
	s.log.Debug("connection opened", "listener", c.listener.Name, "client", c.nc.RemoteAddr(), "conn", c.id)
	var writer sync.WaitGroup
	writer.Go(func() {
		newWriter(c).run()
		c.goodbye() // ends watchPeer
	})
	err := c.readLoop()
	if isGarbage(err) {
		s.garbage.note(time.Now(), c, err.Error())
	}
	close(c.calls)
	if errors.Is(err, errStopping) {
		c.watchPeer()
	}
	writer.Wait()
	stop()
	c.cancel() // also of its idle wait
	s.log.Debug("connection closed", "listener", c.listener.Name, "client", c.nc.RemoteAddr(), "conn", c.id, "err", err)
	counts.open.Add(-1)
	s.mu.Lock()
	delete(s.conns, c)
	ip := hostOf(c.nc.RemoteAddr())
	if s.perIP[ip]--; s.perIP[ip] == 0 {
		delete(s.perIP, ip)
	}
	s.mu.Unlock()
	s.releaseSlot()
}

// stopConns makes every reader stop after the frame it is at, and ends idle waits.
func (s *Server) stopConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	close(s.stopped)
	for c := range s.conns {
		// A connection that cannot take a deadline is closed by drain.
		_ = c.nc.SetReadDeadline(aLongTimeAgo)
		c.idle.Load().cancel()
	}
}

var aLongTimeAgo = time.Unix(1, 0)

// drain waits for the connections, the first StopTimeout of it politely.
func (s *Server) drain(conns *sync.WaitGroup, cancel context.CancelFunc) {
	timer := time.AfterFunc(s.o.StopTimeout, cancel)
	conns.Wait()
	timer.Stop()
}

func hostOf(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.IP.String()
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package wire

import (
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Conn is one accepted connection, as the handler sees it. All methods are safe for concurrent use.
type Conn struct {
	id       string
	nc       net.Conn
	listener *Listener
	server   *Server
	ctx      context.Context
	cancel   context.CancelFunc
	idle     context.Context // of waits that a stopping server ends
	endIdle  context.CancelFunc

	principal atomic.Pointer[any]
	software  atomic.Pointer[software]

	// Session is the handler's own state of the connection, such as a SASL conversation. Only the ordered phase
	// (Handle) may touch it.
	Session any

	in       input
	slots    chan struct{} // one per unanswered request
	calls    chan *call    // to the writer, in request order
	inFlight atomic.Int32

	// Instants are nanoseconds since the server was made; zero means none.
	active     atomic.Int64 // last traffic
	muted      atomic.Int64 // no request is handled before this instant
	frameDue   atomic.Int64 // the frame being read must be complete by then
	writeSince atomic.Int64 // a write began then and has not ended
}

type software struct{ name, version string }

// ID names the connection uniquely within the server.
func (c *Conn) ID() string { return c.id }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is the address the peer connected to.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// Listener is the name of the listener that accepted the connection.
func (c *Conn) Listener() string { return c.listener.Name }

// Context ends when the connection does.
func (c *Conn) Context() context.Context { return c.ctx }

// Principal is what SetPrincipal stored last, nil before authentication.
func (c *Conn) Principal() any {
	if p := c.principal.Load(); p != nil {
		return *p
	}
	return nil
}

// SetPrincipal stores who the peer is. On a listener that wants authentication it lifts the limit on frame sizes of
// connections that are not authenticated.
func (c *Conn) SetPrincipal(p any) { c.principal.Store(&p) }

// Software is the client's name and version from ApiVersions, empty when it did not say.
func (c *Conn) Software() (name, version string) {
	if s := c.software.Load(); s != nil {
		return s.name, s.version
	}
	return "", ""
}

// SetSoftware stores the client's name and version.
func (c *Conn) SetSoftware(name, version string) { c.software.Store(&software{name, version}) }

// Close ends the connection at once: responses that are not written yet are dropped.
func (c *Conn) Close() {
	c.cancel()
	nc := c.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn() // TLS would wait for the peer to take its goodbye
	}
	// The close error has no reader: the connection is given up either way.
	_ = nc.Close()
}

// goodbye tells the peer that nothing follows, where the protocol below has a word for it, and closes.
func (c *Conn) goodbye() {
	if t, ok := c.nc.(*tls.Conn); ok && c.ctx.Err() == nil {
		// It gives up after 5 s by itself; without it a peer takes the end for a truncation.
		_ = t.CloseWrite()
	}
	c.Close()
}

func (c *Conn) touch() time.Time {
	now := time.Now()
	c.active.Store(c.server.instant(now))
	return now
}

// mute keeps the reader from handling requests before an instant.
func (c *Conn) mute(until int64) {
	for {
		old := c.muted.Load()
		if old >= until || c.muted.CompareAndSwap(old, until) {
			return
		}
	}
}

// recovered reports a panic of the handler. What one peer sent must not take the broker down.
func (c *Conn) recovered(cl *call, p any) {
	c.server.metrics.panics.Add(1)
	c.server.log.Error("request handler panicked", "key", cl.req.Key, "version", cl.req.Version,
		"client", c.nc.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
}

// finished ends a call: its response was written or dropped.
func (c *Conn) finished(cl *call, now time.Time) {
	c.server.metrics.request(c.ctx, cl, now)
	if cl.resp.encoded != nil {
		cl.resp.encoded.free()
	}
	cl.resp, cl.pending = Response{}, nil
	c.inFlight.Add(-1)
	<-c.slots
}

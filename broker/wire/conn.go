package wire

import (
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"sync/atomic"
)

// Conn is one accepted connection, as the handler sees it. All methods are safe for concurrent use.
type Conn struct {
	id       string
	nc       net.Conn
	listener *Listener
	server   *Server
	ctx      context.Context
	cancel   context.CancelFunc
	idle     atomic.Pointer[idleWait]

	principal atomic.Pointer[any]
	software  atomic.Pointer[software]

	// Session is the handler's own state of the connection, such as a SASL conversation. Only the ordered phase
	// (Handle) may touch it.
	Session any

	in       input
	slots    chan struct{} // one per unanswered request
	calls    chan *call    // to the writer, in request order
	inFlight atomic.Int32
	answered chan struct{} // told when nothing is unanswered any more
	alone    bool          // the last request that was read has the connection to itself

	held     atomic.Int64 // bytes of memory that its requests hold
	arriving transfer     // the frame being read, when it has a buffer
	leaving  transfer     // the response being written

	// Instants are nanoseconds since the server was made; zero means none.
	active     atomic.Int64 // last traffic
	frameSince atomic.Int64 // the frame being read, when it has a buffer, began then
	muted      atomic.Int64 // no request is handled before this instant
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

// touch notes that there was traffic.
func (c *Conn) touch() int64 {
	now := c.now()
	c.active.Store(now)
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
func (c *Conn) finished(cl *call, now int64) {
	c.server.metrics.request(c.ctx, cl, now)
	if cl.resp.encoded != nil {
		cl.resp.encoded.free()
	}
	cl.resp, cl.pending = Response{}, nil
	cl.freeFrame()
	c.server.budget.release(&cl.req.claim)
	<-c.slots
	if c.inFlight.Add(-1) == 0 {
		select {
		case c.answered <- struct{}{}:
		default: // told already
		}
	}
}

// freeFrame lets go of the frame, and of its memory.
func (cl *call) freeFrame() {
	scribble(cl.req.Body)
	cl.req.Body = nil
	if cl.buf != nil {
		cl.buf.free()
		cl.buf = nil
		c := cl.req.Conn
		c.server.budget.shrink(&cl.req.claim, cl.frameBytes)
	}
}

// settle charges a call what its response holds until it is written, and no more.
func (c *Conn) settle(cl *call, resp *Response) error {
	var size int64
	for _, b := range resp.Buffers {
		size += int64(len(b))
	}
	if size <= cl.req.claim.size {
		if cl.req.claim.size-size > smallClaim {
			c.server.budget.shrink(&cl.req.claim, cl.req.claim.size-size)
		}
		return nil
	}
	return c.server.budget.grow(c.ctx, &cl.req.claim, size-cl.req.claim.size)
}

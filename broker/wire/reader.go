package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	frameHead = 12 // size, key, version, correlation id
	minFrame  = 8  // a header without client id
	// apiVersions is the only key that wire has to know: it is answered in any version.
	apiVersions = 18
	// maxTags is Kafka's limit for tagged fields of one structure, here of the request header.
	maxTags = 10_000
	// readAhead is what a connection reads at a time while it does not know how much will come. Frames that fit need
	// no buffer.
	readAhead = 2048
)

var (
	errFrameSize  = errors.New("frame size out of bounds")
	errUnknownAPI = errors.New("unknown api key or version")
	errHeader     = errors.New("malformed request header")
	errTLS        = errors.New("tls handshake")
	errStopping   = errors.New("server is stopping")
)

// readLoop reads and handles frames until the connection or the server ends; the error says why.
func (c *Conn) readLoop() error {
	// Whatever ends the reader ends waiting requests, unless the server stops and lets them finish.
	err := c.handshake()
	for err == nil {
		err = c.readRequest()
	}
	if errors.Is(err, errStopping) {
		return err
	}
	c.cancel()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// watchPeer ends the connection when the peer does, while the server stops and requests are still being answered.
func (c *Conn) watchPeer() {
	for {
		if _, err := c.nc.Read(c.in.buf[:]); errors.Is(err, os.ErrDeadlineExceeded) {
			// The deadline ended reading requests. Without it this read ends with the peer or the connection.
			_ = c.nc.SetReadDeadline(time.Time{})
		} else if err != nil {
			c.cancel()
			return
		}
	}
}

func (c *Conn) handshake() error {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	c.arriving.begin(c.now())
	defer c.arriving.end()
	if err := t.HandshakeContext(c.ctx); err != nil {
		return fmt.Errorf("%w: %w", errTLS, err)
	}
	return nil
}

// readRequest reads one frame and runs its ordered phase.
func (c *Conn) readRequest() error {
	src := (*peerReader)(c)
	if err := c.in.fill(src, 4); err != nil {
		return c.readError(err)
	}
	cl, terms, err := c.readHead(src)
	if err != nil {
		return c.readError(err)
	}
	if err := c.waitTurn(terms); err != nil {
		return err
	}
	if err := c.readBody(src, cl); err != nil {
		cl.freeFrame()
		c.server.budget.release(&cl.req.claim)
		return c.readError(err)
	}
	c.inFlight.Add(1)
	c.handle(cl)
	if terms.Pipelined || cl.pending == nil {
		cl.freeFrame()
	}
	if cl.pending == nil {
		if err := c.settle(cl, &cl.resp); err != nil {
			cl.resp = Response{Close: true, None: true, Failed: true}
		}
	}
	cl.handled = c.now()
	c.calls <- cl // never blocks: it has a place for every slot
	return nil
}

// waitTurn waits until the next request may be handled: the connection has a free slot, no request that has it to
// itself is unanswered, nothing at all is if this is such a request, and it is not muted. The head of the frame is there
// and nothing more of it is read meanwhile: who waits holds no memory.
func (c *Conn) waitTurn(terms Terms) error {
	select {
	case c.slots <- struct{}{}:
	default:
		select {
		case c.slots <- struct{}{}:
		case <-c.server.stopped:
			return errStopping
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	if c.alone || !terms.Pipelined || c.held.Load() > c.server.share {
		if err := c.waitAnswered(); err != nil {
			return err
		}
	}
	c.alone = !terms.Pipelined
	return c.waitMuted()
}

// waitAnswered waits until every request is answered.
func (c *Conn) waitAnswered() error {
	for c.inFlight.Load() > 0 {
		select {
		case <-c.answered:
		case <-c.server.stopped:
			return errStopping
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	return nil
}

func (c *Conn) waitMuted() error {
	for {
		until := c.muted.Load()
		if until == 0 {
			return nil
		}
		left := time.Duration(until - c.now())
		if left <= 0 {
			c.muted.CompareAndSwap(until, 0)
			continue
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-c.server.stopped:
			t.Stop()
			return errStopping
		case <-c.ctx.Done():
			t.Stop()
			return c.ctx.Err()
		}
	}
}

// handle runs the ordered phase.
func (c *Conn) handle(cl *call) {
	defer func() {
		if p := recover(); p != nil {
			c.recovered(cl, p)
			cl.resp, cl.pending = Response{Close: true, None: true, Failed: true}, nil
		}
	}()
	cl.resp, cl.pending = c.server.o.Handler.Handle(c.ctx, &cl.req)
}

// readError replaces what a read reports when it was the server that ended it.
func (c *Conn) readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStopping // the only deadline there is
	}
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return err
}

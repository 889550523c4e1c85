package wire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
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
	// slowestFrame is how many bytes a second a peer must at least deliver.
	slowestFrame = 64 << 10
)

var (
	errFrameSize  = errors.New("frame size out of bounds")
	errUnknownAPI = errors.New("unknown api key or version")
	errHeader     = errors.New("malformed request header")
	errStopping   = errors.New("server is stopping")
)

// input is the read-ahead of a connection: bytes [r, w) of buf are unread.
type input struct {
	buf      [readAhead]byte
	r, w     int
	clientID string // of the last request: clients do not change it
}

// buffered returns the unread bytes.
func (in *input) buffered() []byte { return in.buf[in.r:in.w] }

// fill reads until at least n ≤ readAhead bytes are there.
func (in *input) fill(src io.Reader, n int) error {
	if in.w-in.r >= n {
		return nil
	}
	if in.r > 0 {
		in.w = copy(in.buf[:], in.buf[in.r:in.w])
		in.r = 0
	}
	got, err := io.ReadAtLeast(src, in.buf[in.w:], n-in.w)
	in.w += got
	return err
}

// readFull fills p, first from the read-ahead.
func (in *input) readFull(src io.Reader, p []byte) error {
	n := copy(p, in.buffered())
	in.r += n
	if n == len(p) {
		return nil
	}
	_, err := io.ReadFull(src, p[n:])
	return err
}

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
	c.frameDue.Store(c.server.instant(time.Now().Add(c.server.o.FrameTimeout)))
	defer c.frameDue.Store(0)
	if err := t.HandshakeContext(c.ctx); err != nil {
		return fmt.Errorf("tls handshake: %w", err)
	}
	return nil
}

// readRequest reads one frame and runs its ordered phase.
func (c *Conn) readRequest() error {
	if err := c.in.fill(c.nc, 4); err != nil {
		return c.readError(err)
	}
	if err := c.waitTurn(); err != nil {
		return err
	}
	began := time.Now()
	cl, buf, err := c.readFrameFrom(c.nc)
	if err != nil {
		return c.readError(err)
	}
	cl.began, cl.buffered, cl.req.Received = began, buf != nil, c.touch()
	c.inFlight.Add(1)
	c.handle(cl)
	scribble(cl.req.Body)
	cl.req.Body = nil
	if buf != nil {
		c.release(buf)
	}
	cl.handled = time.Now()
	c.calls <- cl // never blocks: it has a place for every slot
	return nil
}

// waitTurn waits until the connection is not muted and has a free slot. The peer's close has been looked for just
// before: the first bytes of the next frame are there.
func (c *Conn) waitTurn() error {
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
	for {
		until := c.muted.Load()
		if until == 0 {
			return nil
		}
		left := time.Duration(until - c.server.instant(time.Now()))
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

// readFrameFrom reads one frame, and its header into a new call. The first 4 bytes are in the read-ahead. buf, if any,
// is charged to the memory of the server and holds the body.
func (c *Conn) readFrameFrom(src io.Reader) (cl *call, buf *buffer, err error) {
	size := int(int32(binary.BigEndian.Uint32(c.in.buffered())))
	limit := c.maxFrame()
	if size < minFrame || size > limit {
		return nil, nil, fmt.Errorf("%w: %d, want %d to %d", errFrameSize, size, minFrame, limit)
	}
	if err := c.in.fill(src, frameHead); err != nil {
		return nil, nil, err
	}
	head := c.in.buffered()
	cl = &call{req: Request{
		Key:           int16(binary.BigEndian.Uint16(head[4:])),
		Version:       int16(binary.BigEndian.Uint16(head[6:])),
		CorrelationID: int32(binary.BigEndian.Uint32(head[8:])),
		Conn:          c,
		Size:          size,
	}}
	if err := c.checkLimit(&cl.req, limit); err != nil {
		return nil, nil, err
	}
	frame, buf, err := c.readBytes(src, 4+size)
	if err == nil {
		err = c.parseHeader(cl, frame[frameHead:])
	}
	if err != nil && buf != nil {
		c.release(buf)
		buf = nil
	}
	return cl, buf, err
}

// maxFrame is the limit for any frame of the connection at this moment.
func (c *Conn) maxFrame() int {
	limit := c.server.o.MaxRequestBytes
	if c.listener.Authenticate && c.principal.Load() == nil {
		limit = min(limit, c.server.o.MaxUnauthenticatedBytes)
	}
	return int(limit)
}

func (c *Conn) checkLimit(r *Request, limit int) error {
	most, ok := c.server.o.Handler.Limits(r.Key, r.Version)
	if !ok {
		if r.Key != apiVersions {
			c.server.metrics.unknownAPIs.Add(1)
			return fmt.Errorf("%w: key %d version %d", errUnknownAPI, r.Key, r.Version)
		}
		most = int32(min(limit, int(c.server.o.MaxUnauthenticatedBytes)))
	}
	if r.Size > int(most) {
		return fmt.Errorf("%w: %d of key %d version %d, want at most %d", errFrameSize, r.Size, r.Key, r.Version, most)
	}
	return nil
}

// charge is what a buffer of n bytes costs the memory of the server: one that is larger than all of it waits to be alone.
func (c *Conn) charge(n int) int64 { return min(int64(n), c.server.o.MemoryBytes) }

// release gives back a buffer and its memory.
func (c *Conn) release(buf *buffer) {
	c.server.memory.Release(c.charge(len(buf.bytes)))
	buf.free()
}

// readBytes returns the next n bytes: from the read-ahead if they fit in, else in a buffer.
func (c *Conn) readBytes(src io.Reader, n int) ([]byte, *buffer, error) {
	if n <= readAhead {
		if err := c.in.fill(src, n); err != nil {
			return nil, nil, err
		}
		frame := c.in.buf[c.in.r : c.in.r+n : c.in.r+n]
		c.in.r += n
		return frame, nil, nil
	}
	if err := c.server.memory.Acquire(c.ctx, c.charge(n)); err != nil {
		return nil, nil, err
	}
	buf := getBuffer(n)
	patience := c.server.o.FrameTimeout + time.Duration(n/slowestFrame)*time.Second
	c.frameDue.Store(c.server.instant(time.Now().Add(patience)))
	err := c.in.readFull(src, buf.bytes)
	c.frameDue.Store(0)
	return buf.bytes, buf, err
}

// parseHeader reads client id and tags from b, which starts behind the correlation id, and leaves the rest as body.
func (c *Conn) parseHeader(cl *call, b []byte) error {
	cl.flexible = flexible(cl.req.Key, cl.req.Version)
	if len(b) < 2 {
		return fmt.Errorf("%w: no client id", errHeader)
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	b = b[2:]
	if n > len(b) {
		return fmt.Errorf("%w: client id of %d bytes in %d", errHeader, n, len(b))
	}
	if n > 0 {
		if string(b[:n]) != c.in.clientID { // does not allocate
			c.in.clientID = string(b[:n])
		}
		cl.req.ClientID = c.in.clientID
		b = b[n:]
	}
	if cl.flexible {
		rest, err := skipTags(b)
		if err != nil {
			return err
		}
		b = rest
	}
	cl.req.Body = b
	return nil
}

// skipTags skips the tagged fields at the start of b.
func skipTags(b []byte) ([]byte, error) {
	count, b, ok := uvarint(b)
	if !ok || count > maxTags {
		return nil, fmt.Errorf("%w: tagged fields", errHeader)
	}
	for range count {
		var size uint32
		if _, b, ok = uvarint(b); ok {
			size, b, ok = uvarint(b)
		}
		if !ok || uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("%w: tagged field", errHeader)
		}
		b = b[size:]
	}
	return b, nil
}

// uvarint reads an unsigned varint of at most 32 bits.
func uvarint(b []byte) (v uint32, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint32(b[0]), b[1:], true
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || n > 1<<32-1 {
		return 0, b, false
	}
	return uint32(n), b[size:], true
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

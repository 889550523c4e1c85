package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

const (
	// firstPiece is what a frame gets before any of it has arrived, pieceGrowth by how much that grows each time it is
	// full: memory is charged as bytes arrive, not as they are announced, and a third of a frame is copied.
	firstPiece  = smallClaim
	pieceGrowth = 4
	// maxTrusted is the size up to which a connection that has delivered such a frame before gets the memory of the next
	// one at once, as long as half of the budget is free.
	maxTrusted = 4 << 20
)

// input is the read-ahead of a connection: bytes [r, w) of buf are unread.
type input struct {
	buf      [readAhead]byte
	r, w     int
	clientID string // of the last request: clients do not change it
	largest  int    // frame that was delivered
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

// readHead reads the first bytes of a frame into a new call. Its length is in the read-ahead.
func (c *Conn) readHead(src io.Reader) (*call, Terms, error) {
	size := int32(binary.BigEndian.Uint32(c.in.buffered()))
	if most := c.server.o.MaxRequestBytes; size < minFrame || size > most {
		return nil, Terms{}, fmt.Errorf("%w: %d, want %d to %d%s", errFrameSize, size, minFrame, most, guess(c.in.buffered()))
	}
	if err := c.in.fill(src, frameHead); err != nil {
		return nil, Terms{}, err
	}
	head := c.in.buffered()
	cl := &call{req: Request{
		Key:           int16(binary.BigEndian.Uint16(head[4:])),
		Version:       int16(binary.BigEndian.Uint16(head[6:])),
		CorrelationID: int32(binary.BigEndian.Uint32(head[8:])),
		Conn:          c,
		Size:          int(size),
	}}
	cl.req.claim.conn = c
	terms, err := c.terms(&cl.req)
	return cl, terms, err
}

// guess says what a peer speaks whose first bytes are no length.
func guess(first []byte) string {
	switch s := string(first[:4]); {
	case s == "GET " || s == "POST" || s == "HEAD" || s == "PUT " || s == "OPTI" || s == "DELE" || s == "CONN" || s == "PRI ":
		return " (this is an HTTP request)"
	case first[0] == 0x16 && first[1] == 3:
		return " (this is a TLS handshake)"
	case s == "SSH-":
		return " (this is SSH)"
	}
	return ""
}

// terms are those of a request whose frame is not too large for them.
func (c *Conn) terms(r *Request) (Terms, error) {
	t, ok := c.server.o.Handler.Terms(r.Key, r.Version)
	if !ok {
		if r.Key != apiVersions {
			c.server.metrics.unknownAPIs.Add(1)
			return Terms{}, fmt.Errorf("%w: key %d version %d", errUnknownAPI, r.Key, r.Version)
		}
		t.MaxBytes = c.server.o.MaxUnauthenticatedBytes
	}
	if r.Size > int(t.MaxBytes) {
		return Terms{}, fmt.Errorf("%w: %d of key %d version %d, want at most %d", errFrameSize, r.Size, r.Key, r.Version, t.MaxBytes)
	}
	return t, nil
}

// checkAuthenticated limits frames before authentication. It is asked when everything before the frame is answered, as
// far as that matters: it may have been what authenticates.
func (c *Conn) checkAuthenticated(r *Request) error {
	if most := int(c.server.o.MaxUnauthenticatedBytes); c.listener.Authenticate && c.principal.Load() == nil && r.Size > most {
		return fmt.Errorf("%w: %d before authentication, want at most %d", errFrameSize, r.Size, most)
	}
	return nil
}

// readBody reads the rest of a frame, and what follows the head of its header. The memory is charged to the claim.
func (c *Conn) readBody(src io.Reader, cl *call) error {
	if err := c.checkAuthenticated(&cl.req); err != nil {
		return err
	}
	cl.began = c.now()
	n := 4 + cl.req.Size
	frame, err := c.readInline(src, n)
	if n > readAhead {
		frame, err = c.readBuffered(src, cl, n)
	} else if err == nil && c.alone {
		// The read-ahead goes on to be used while the request is served.
		if err = c.server.budget.grow(c.ctx, &cl.req.claim, int64(n)); err == nil {
			cl.frameBytes = int64(n)
			cl.buf = getBuffer(n)
			copy(cl.buf.bytes, frame)
			frame = cl.buf.bytes
		}
	}
	if err != nil {
		return err
	}
	cl.req.Received = time.Now()
	cl.received = c.server.instant(cl.req.Received)
	c.active.Store(cl.received)
	return c.parseHeader(cl, frame[frameHead:])
}

// readInline returns the next n bytes in the read-ahead if they fit in.
func (c *Conn) readInline(src io.Reader, n int) ([]byte, error) {
	if n > readAhead {
		return nil, nil
	}
	if err := c.in.fill(src, n); err != nil {
		return nil, err
	}
	frame := c.in.buf[c.in.r : c.in.r+n : c.in.r+n]
	c.in.r += n
	return frame, nil
}

// readBuffered reads the next n bytes into a buffer that grows as they come.
func (c *Conn) readBuffered(src io.Reader, cl *call, n int) ([]byte, error) {
	size := min(n, firstPiece)
	if trusted := n <= min(c.in.largest, maxTrusted); trusted && c.server.budget.tryGrow(&cl.req.claim, int64(n)) {
		size = n
	} else if err := c.server.budget.grow(c.ctx, &cl.req.claim, int64(size)); err != nil {
		return nil, err
	}
	cl.frameBytes, cl.buf = int64(size), getBuffer(size)
	c.arriving.begin(c.now())
	c.frameSince.Store(c.now())
	defer func() { c.arriving.end(); c.frameSince.Store(0) }()
	for at := 0; ; {
		if err := c.in.readFull(src, cl.buf.bytes[at:]); err != nil {
			return nil, err
		}
		if at = size; at == n {
			break
		}
		if err := c.in.fill(src, 1); err != nil { // more memory is for bytes that are there
			return nil, err
		}
		size = min(n, size*pieceGrowth)
		if err := c.growBuffer(cl, size); err != nil {
			return nil, err
		}
	}
	c.in.largest = max(c.in.largest, n)
	return cl.buf.bytes, nil
}

// growBuffer moves the frame into a buffer of a size. What is charged meanwhile is both.
func (c *Conn) growBuffer(cl *call, size int) error {
	paused := c.now()
	began := c.arriving.pause()
	if err := c.server.budget.grow(c.ctx, &cl.req.claim, int64(size)); err != nil {
		return err
	}
	c.arriving.resume(began, paused, c.now())
	old := cl.buf
	cl.buf = getBuffer(size)
	copy(cl.buf.bytes, old.bytes)
	old.free()
	c.server.budget.shrink(&cl.req.claim, cl.frameBytes)
	cl.frameBytes = int64(size)
	return nil
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

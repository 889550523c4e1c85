package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"
)

const (
	// arenaBytes is what small pieces of responses are collected in before one write.
	arenaBytes = 64 << 10
	// copyBuffer is the size up to which bytes are copied together; larger ones are pieces of their own.
	copyBuffer = 4 << 10
	// copyPayload is the size up to which a payload is copied too: below it a copy is cheaper than a sendfile and
	// the write before it (BenchmarkManyPartitions: 50 regions of 8 KiB take 170 µs instead of 630).
	copyPayload = 16 << 10
	// batchPieces is how many pieces one writev gets at most.
	batchPieces = 64
)

var errPayloadSize = errors.New("payload wrote another number of bytes than it has")

// call is one request on its way through a connection. Its instants are nanoseconds since the server was made.
type call struct {
	req        Request
	resp       Response
	pending    Pending
	buf        *buffer // the frame, when it is not in the read-ahead
	frameBytes int64   // what buf is charged
	flexible   bool
	began      int64 // the frame began to be read
	received   int64 // the frame was there
	handled    int64 // the ordered phase ended
	ready      int64 // the response was there
	written    int64 // bytes of the response
}

// writer answers the calls of a connection in order. Between two writes it collects responses: small pieces are
// copied into arena, large ones are kept where they are, and vec lists both in order.
type writer struct {
	c     *Conn
	tcp   *net.TCPConn // nil when the connection is not a plain TCP connection
	to    io.Writer    // the connection, whose progress is noted
	ctx   flushContext
	dead  bool // nothing is written any more
	arena *buffer
	used  int // bytes of arena that are in vec
	vec   [][]byte
	bytes int     // in vec
	open  bool    // the last piece of vec ends at used and may grow
	done  []*call // calls that are finished by the next write
}

func newWriter(c *Conn) *writer {
	w := &writer{c: c, to: c.writerTo()}
	w.tcp, _ = c.nc.(*net.TCPConn)
	w.ctx = flushContext{Context: c.ctx, w: w, flushed: make(chan struct{}, 1)}
	c.idle.Load().flush = &w.ctx
	return w
}

// run answers until the reader has closed the calls and all of them are answered or dropped.
func (w *writer) run() {
	for {
		var cl *call
		var ok bool
		select {
		case cl, ok = <-w.c.calls:
		default:
			w.flush()
			cl, ok = <-w.c.calls
		}
		if !ok {
			w.flush()
			return
		}
		w.answer(cl)
	}
}

// answer finishes a call and collects its response.
func (w *writer) answer(cl *call) {
	if cl.pending != nil {
		armed := w.ctx.arm()
		resp, err := w.finish(cl)
		w.ctx.disarm(armed)
		w.c.idle.Load().under.Store(false)
		if err == nil {
			cl.freeFrame()
			err = w.c.settle(cl, &resp)
		}
		if err != nil {
			w.c.server.log.Debug("request failed", "key", cl.req.Key, "conn", w.c.id, "err", err)
			resp = Response{None: true, Close: true, Failed: true}
		}
		cl.resp = resp
	}
	cl.ready = w.c.now()
	if cl.resp.Throttle > 0 {
		// Before the response leaves: the next request may be there right after it.
		w.c.mute(cl.ready + int64(cl.resp.Throttle))
	}
	if cl.resp.silent() {
		w.drop(cl)
	} else {
		w.collect(cl)
	}
	w.done = append(w.done, cl)
	if cl.resp.Close {
		if cl.resp.Err != nil {
			w.c.server.garbage.note(time.Now(), w.c, cl.resp.Err.Error())
		}
		w.flush()
		w.dead = true
		w.c.goodbye()
	}
}

// finish calls a Pending.
func (w *writer) finish(cl *call) (resp Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.c.recovered(cl, p)
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return cl.pending(&w.ctx)
}

// collect puts a response into the batch. Payloads that are not small are written at once, after the batch.
func (w *writer) collect(cl *call) {
	resp := &cl.resp
	n := 8
	if cl.flexible && cl.req.Key != apiVersions {
		n = 9 // no tagged fields
	}
	size := int64(n - 4)
	for _, b := range resp.Buffers {
		size += int64(len(b))
	}
	for _, p := range resp.Payloads {
		size += p.Len()
	}
	if size > math.MaxInt32 {
		w.die(fmt.Errorf("%w: response of %d bytes", errFrameSize, size))
	}
	w.addHeader(n, size, cl.req.CorrelationID)
	for i := range max(len(resp.Buffers), len(resp.Payloads)) {
		if i < len(resp.Buffers) {
			w.add(resp.Buffers[i])
		}
		if i < len(resp.Payloads) {
			w.addPayload(resp.Payloads[i])
		}
	}
	cl.written = size + 4
}

// addHeader puts the length field and the response header into the batch: n bytes.
func (w *writer) addHeader(n int, size int64, correlationID int32) {
	w.makeRoom(n)
	if w.dead {
		return
	}
	head := w.arena.bytes[w.used : w.used+n]
	clear(head)
	binary.BigEndian.PutUint32(head, uint32(size))
	binary.BigEndian.PutUint32(head[4:], uint32(correlationID))
	w.extend(n)
}

// drop lets go of a response that is not written.
func (w *writer) drop(cl *call) {
	for _, p := range cl.resp.Payloads {
		p.Release()
	}
}

// add puts b into the batch.
func (w *writer) add(b []byte) {
	if w.dead || len(b) == 0 {
		return
	}
	if len(b) > copyBuffer {
		w.makeRoom(0)
		w.vec = append(w.vec, b)
		w.bytes += len(b)
		w.open = false
		return
	}
	w.makeRoom(len(b))
	copy(w.arena.bytes[w.used:], b)
	w.extend(len(b))
}

// makeRoom sees to it that the batch can take another piece, and n bytes in the arena.
func (w *writer) makeRoom(n int) {
	if len(w.vec) >= batchPieces || w.used+n > arenaBytes {
		w.send()
	}
	if w.arena == nil && n > 0 {
		w.arena = getBuffer(arenaBytes)
	}
}

// extend takes the next n bytes of the arena into the batch.
func (w *writer) extend(n int) {
	end := w.used + n
	if w.open {
		last := &w.vec[len(w.vec)-1]
		*last = (*last)[:len(*last)+n]
	} else {
		w.vec = append(w.vec, w.arena.bytes[w.used:end:arenaBytes])
		w.open = true
	}
	w.used = end
	w.bytes += n
}

// addPayload writes p behind the batch, or into it when p is small, and releases it.
func (w *writer) addPayload(p Payload) {
	defer p.Release()
	n := p.Len()
	if w.dead || n == 0 {
		return
	}
	var wrote int64
	var err error
	if n <= copyPayload {
		w.makeRoom(int(n))
		wrote, err = p.WriteTo((*arenaWriter)(w))
	} else {
		w.send()
		if w.dead {
			return
		}
		if m, ok := p.(pinning); ok {
			pinned := m.Pinned()
			w.c.held.Add(pinned)
			defer w.c.held.Add(-pinned)
		}
		w.c.leaving.begin(w.c.now())
		wrote, err = p.WriteTo(w.to)
		w.c.leaving.end()
	}
	if err == nil && wrote != n {
		err = fmt.Errorf("%w: %d, not %d", errPayloadSize, wrote, n)
	}
	if err != nil {
		w.die(err)
	}
}

// arenaWriter is the writer as an io.Writer into its arena, for small payloads.
type arenaWriter writer

// Write implements io.Writer.
func (a *arenaWriter) Write(p []byte) (int, error) {
	w := (*writer)(a)
	if w.used+len(p) > arenaBytes {
		return 0, io.ErrShortBuffer
	}
	copy(w.arena.bytes[w.used:], p)
	w.extend(len(p))
	return len(p), nil
}

// flush writes the batch and finishes the calls that are in it.
func (w *writer) flush() {
	w.send()
	if len(w.done) == 0 {
		return
	}
	now := w.c.touch()
	for i, cl := range w.done {
		w.c.finished(cl, now)
		w.done[i] = nil
	}
	w.done = w.done[:0]
}

// send writes the batch.
func (w *writer) send() {
	if len(w.vec) > 0 && !w.dead {
		w.c.leaving.begin(w.c.now())
		err := w.writeVec()
		w.c.leaving.end()
		if err != nil {
			w.die(err)
		}
	}
	clear(w.vec)
	w.vec, w.bytes, w.used, w.open = w.vec[:0], 0, 0, false
	if w.arena != nil {
		w.arena.free()
		w.arena = nil
	}
}

func (w *writer) writeVec() error {
	if w.tcp != nil && len(w.vec) > 1 && w.bytes <= writePiece {
		bufs := net.Buffers(w.vec)
		_, err := bufs.WriteTo(w.tcp)
		return err
	}
	for _, b := range w.vec {
		if _, err := w.to.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// die ends the connection; what has not been written is dropped.
func (w *writer) die(err error) {
	if w.dead {
		return
	}
	w.dead = true
	w.c.server.log.Debug("connection failed", "conn", w.c.id, "client", w.c.nc.RemoteAddr(), "err", err)
	w.c.Close()
}

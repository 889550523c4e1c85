package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync/atomic"
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

// call is one request on its way through a connection.
type call struct {
	req      Request
	resp     Response
	pending  Pending
	flexible bool
	buffered bool      // the frame had a buffer of its own
	began    time.Time // the frame's first bytes were there
	handled  time.Time // the ordered phase ended
	ready    time.Time // the response was there
	written  int64     // bytes of the response
}

// writer answers the calls of a connection in order. Between two writes it collects responses: small pieces are
// copied into arena, large ones are kept where they are, and vec lists both in order.
type writer struct {
	c     *Conn
	tcp   *net.TCPConn // nil when the connection is not a plain TCP connection
	ctx   flushContext
	idle  idleContext
	dead  bool // nothing is written any more
	arena *buffer
	used  int // bytes of arena that are in vec
	vec   [][]byte
	open  bool    // the last piece of vec ends at used and may grow
	done  []*call // calls that are finished by the next write
}

func newWriter(c *Conn) *writer {
	w := &writer{c: c}
	w.tcp, _ = c.nc.(*net.TCPConn)
	w.ctx = flushContext{Context: c.ctx, w: w, flushed: make(chan struct{}, 1)}
	w.idle = idleContext{Context: c.idle, flush: &w.ctx}
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
		if err != nil {
			w.c.server.log.Debug("request failed", "key", cl.req.Key, "conn", w.c.id, "err", err)
			resp = Response{None: true, Close: true, Failed: true}
		}
		cl.resp = resp
	}
	cl.ready = time.Now()
	if cl.resp.Throttle > 0 {
		// Before the response leaves: the next request may be there right after it.
		w.c.mute(w.c.server.instant(cl.ready.Add(cl.resp.Throttle)))
	}
	if cl.resp.silent() {
		w.drop(cl)
	} else {
		w.collect(cl)
	}
	w.done = append(w.done, cl)
	if cl.resp.Close {
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
		w.c.writeSince.Store(w.c.server.instant(time.Now()))
		wrote, err = p.WriteTo(w.c.nc)
		w.c.writeSince.Store(0)
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
		w.c.writeSince.Store(w.c.server.instant(time.Now()))
		err := w.writeVec()
		w.c.writeSince.Store(0)
		if err != nil {
			w.die(err)
		}
	}
	clear(w.vec)
	w.vec, w.used, w.open = w.vec[:0], 0, false
	if w.arena != nil {
		w.arena.free()
		w.arena = nil
	}
}

func (w *writer) writeVec() error {
	if w.tcp != nil && len(w.vec) > 1 {
		bufs := net.Buffers(w.vec)
		_, err := bufs.WriteTo(w.tcp)
		return err
	}
	for _, b := range w.vec {
		if _, err := w.c.nc.Write(b); err != nil {
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

// flushContext is the context a Pending gets. Whoever is about to wait calls its Done: that is the moment to send the
// responses collected so far. A Pending that does not wait costs no write of its own.
type flushContext struct {
	context.Context
	w       *writer
	armed   atomic.Bool
	flushed chan struct{}
}

// arm hands the batch to the first call of Done, if there is a batch.
func (f *flushContext) arm() bool {
	if len(f.w.done) == 0 {
		return false
	}
	f.armed.Store(true)
	return true
}

// disarm takes the batch back, waiting for a call of Done that is writing it.
func (f *flushContext) disarm(wasArmed bool) {
	if wasArmed && !f.armed.CompareAndSwap(true, false) {
		<-f.flushed
	}
}

// Done implements context.Context.
func (f *flushContext) Done() <-chan struct{} {
	f.flush()
	return f.Context.Done()
}

func (f *flushContext) flush() {
	if f.armed.CompareAndSwap(true, false) {
		f.w.flush()
		f.flushed <- struct{}{}
	}
}

// Value implements context.Context; Idle asks it for the writer.
func (f *flushContext) Value(key any) any {
	if key == (idleKey{}) {
		return f.w
	}
	return f.Context.Value(key)
}

// idleContext is a flushContext that also ends when the server begins to stop.
type idleContext struct {
	context.Context
	flush *flushContext
}

// Done implements context.Context.
func (i *idleContext) Done() <-chan struct{} {
	i.flush.flush()
	return i.Context.Done()
}

type idleKey struct{}

// Idle turns the context of a Pending into that of a wait for somebody else: for records to arrive, for the other
// members to join. It also ends when the server begins to stop, while what waits for this broker's own work gets
// Options.StopTimeout to finish. The Pending still answers. A context that is not a Pending's is returned as it is.
func Idle(ctx context.Context) context.Context {
	if w, ok := ctx.Value(idleKey{}).(*writer); ok {
		return &w.idle
	}
	return ctx
}

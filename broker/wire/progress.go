package wire

import (
	"context"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// slowestTransfer is how many bytes a second a frame has to arrive with, beyond Options.StallTimeout.
	slowestTransfer = 16 << 10
	// pressedTransfer is that rate, and pressedStall that time, while somebody waits for memory; laneStall is the time of
	// who has the lane then, and pressedFrame what a frame has in all, with its own wait for memory.
	pressedTransfer = 1 << 20
	pressedStall    = 3 * time.Second
	laneStall       = time.Second
	pressedFrame    = 8 * time.Second
	// pressedAfter is how long somebody must have waited for memory before others are pressed for it.
	pressedAfter = time.Second
	// writePiece bounds the bytes of one write, so that progress is seen.
	writePiece = 128 << 10
	// patientBytes is up to how many bytes a connection holds its peer may leave an answer for Options.IdleTimeout: a
	// consumer that is busy with what it has may leave a response of file regions in its socket.
	patientBytes = smallClaim
)

// transfer is a frame on its way in or a response on its way out. Instants are nanoseconds since the server was made.
type transfer struct {
	began atomic.Int64 // zero: nothing is on its way
	moved atomic.Int64 // when bytes moved last
	bytes atomic.Int64
}

func (t *transfer) begin(now int64) {
	t.bytes.Store(0)
	t.moved.Store(now)
	t.began.Store(now)
}

func (t *transfer) move(now int64, n int) {
	t.moved.Store(now)
	t.bytes.Add(int64(n))
}

// pause stops the clock for a wait that is not the peer's doing.
func (t *transfer) pause() (began int64) { return t.began.Swap(0) }

func (t *transfer) resume(began, paused, now int64) {
	t.moved.Store(now)
	t.began.Store(began + now - paused)
}

func (t *transfer) end() { t.began.Store(0) }

// stuck tells whether no byte has moved for so long.
func (t *transfer) stuck(now int64, patience time.Duration) bool {
	return t.began.Load() != 0 && now-t.moved.Load() > int64(patience)
}

// slow tells whether, after some patience, the bytes have moved below a rate in bytes a second.
func (t *transfer) slow(now int64, patience time.Duration, rate int64) bool {
	began := t.began.Load()
	if began == 0 {
		return false
	}
	due := int64(patience) + t.bytes.Load()*int64(time.Second)/rate
	return now-began > due
}

// peerReader reads from a connection and notes what arrives.
type peerReader Conn

func (r *peerReader) Read(p []byte) (int, error) {
	c := (*Conn)(r)
	n, err := c.nc.Read(p)
	if n > 0 {
		c.arriving.move(c.touch(), n)
	}
	return n, err
}

// peerWriter writes to a connection and notes what the peer takes.
type peerWriter Conn

// Write implements io.Writer.
func (w *peerWriter) Write(p []byte) (int, error) {
	c := (*Conn)(w)
	total := 0
	for {
		n, err := c.nc.Write(p[:min(len(p), writePiece)])
		total += n
		p = p[n:]
		c.leaving.move(c.now(), n)
		if err != nil || len(p) == 0 {
			return total, err
		}
	}
}

// tcpWriter is a peerWriter over plain TCP, into which the kernel can copy a file.
type tcpWriter struct {
	*peerWriter
	tcp *net.TCPConn
}

// SyscallConn implements syscall.Conn.
func (w tcpWriter) SyscallConn() (syscall.RawConn, error) {
	raw, err := w.tcp.SyscallConn()
	return rawWriter{raw, (*Conn)(w.peerWriter)}, err
}

// rawWriter notes each time that the peer has made room.
type rawWriter struct {
	syscall.RawConn
	c *Conn
}

// Write implements syscall.RawConn.
func (w rawWriter) Write(f func(fd uintptr) bool) error {
	return w.RawConn.Write(func(fd uintptr) bool {
		w.c.leaving.move(w.c.now(), 0)
		return f(fd)
	})
}

func (c *Conn) now() int64 { return c.server.instant(time.Now()) }

// writerTo is what payloads are written to: where the connection is a plain one it is a syscall.Conn.
func (c *Conn) writerTo() io.Writer {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		return tcpWriter{(*peerWriter)(c), tcp}
	}
	return (*peerWriter)(c)
}

// sweep closes connections that are idle or stuck. One loop for all spares each request two deadline changes.
func (s *Server) sweep(ctx context.Context) {
	every := min(s.o.StallTimeout/4, time.Second)
	if s.o.IdleTimeout > 0 {
		every = min(every, s.o.IdleTimeout/4)
	}
	ticker := time.NewTicker(max(every, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.sweepAt(now)
			s.garbage.flush(now)
			s.stalled.flush(now)
		}
	}
}

// sweepAt closes who has outstayed at this moment. While somebody waits for memory, those that hold some have less time.
func (s *Server) sweepAt(now time.Time) {
	since, lane := s.budget.waiting()
	pressed := !since.IsZero() && now.Sub(since) > pressedAfter
	at := s.instant(now)
	var idle, stalled, waiting []*Conn
	s.mu.Lock()
	for c := range s.conns {
		switch {
		case c.holdsUp(at, s.o.StallTimeout), pressed && c.holdsUpOthers(at, c == lane):
			stalled = append(stalled, c)
		case s.o.IdleTimeout > 0 && c.outstayed(at, s.o.IdleTimeout):
			idle = append(idle, c)
		case pressed && c.held.Load() > 0:
			waiting = append(waiting, c)
		}
	}
	s.mu.Unlock()
	for _, c := range stalled {
		s.stalled.note(now, c, "no progress")
		c.Close()
	}
	for _, c := range idle {
		c.Close()
	}
	s.hurry(waiting)
}

// hurry ends waits for somebody else's doing, a long poll or a join, of those connections that hold most, until an eighth
// of the budget can come free: these answer now with what they have.
func (s *Server) hurry(conns []*Conn) {
	slices.SortFunc(conns, func(a, b *Conn) int { return int(b.held.Load() - a.held.Load()) })
	var freed int64
	for _, c := range conns {
		if freed >= s.budget.limit/smallShare {
			return
		}
		if c.idle.Load().end() {
			freed += c.held.Load()
		}
	}
}

// holdsUp tells whether a connection holds memory for a frame that does not arrive or an answer that is not taken.
func (c *Conn) holdsUp(now int64, patience time.Duration) bool {
	return c.arriving.stuck(now, patience) || c.arriving.slow(now, patience, slowestTransfer) ||
		c.held.Load() > patientBytes && c.leaving.stuck(now, patience)
}

// holdsUpOthers is holdsUp while somebody waits for memory.
func (c *Conn) holdsUpOthers(now int64, lane bool) bool {
	patience := pressedStall
	if lane {
		patience = laneStall
	}
	if c.arriving.stuck(now, patience) || c.arriving.slow(now, patience, pressedTransfer) {
		return true
	}
	if since := c.frameSince.Load(); since != 0 && now-since > int64(pressedFrame)+c.arriving.bytes.Load()*int64(time.Second)/pressedTransfer {
		return true
	}
	return c.held.Load() > 0 && (c.leaving.stuck(now, patience) || c.leaving.slow(now, patience, pressedTransfer))
}

// outstayed tells whether nothing happens on a connection and nothing is going to.
func (c *Conn) outstayed(now int64, idle time.Duration) bool {
	if c.leaving.stuck(now, idle) {
		return true
	}
	return c.inFlight.Load() == 0 && c.arriving.began.Load() == 0 && now-max(c.active.Load(), c.muted.Load()) > int64(idle)
}

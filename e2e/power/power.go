// Package power takes the power from a broker that runs in the process of its
// test, or holds it still. Such a broker cannot be killed: it goes on until it
// has stopped, and what it still says and does after its disk was taken away
// for [vfs.Mem.Crash] never happens on a real machine: acks of records that are
// on no disk, a pointer to a segment that was sealed too late. A [Line] that is
// cut lets nothing more out of the broker; cut it before the disk is taken.
//
// Nor can it be stopped with a signal. A paused [Line] holds every operation on
// the broker's four seams, in both directions, until it is resumed: nothing is
// read, written, synced or answered. The broker's own timers go on, which a
// stopped process's do not: it is a machine whose input and output hang, which
// finds out about it more and sooner than a process that was stopped.
package power

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"

	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

var errCut = errors.New("the power is off")

// Line is what one life of a broker hangs on. The zero value has power. It is
// safe for concurrent use, and nothing waits on its lock.
type Line struct {
	mu   sync.Mutex
	off  chan struct{} // closed by Cut; made when first asked for
	held chan struct{} // closed by Resume; nil while not paused
}

func (l *Line) state() (off, held chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off == nil {
		l.off = make(chan struct{})
	}
	return l.off, l.held
}

// Cut lets nothing more out, for ever. What was under way before may still
// arrive, as what has left a machine does.
func (l *Line) Cut() {
	off, _ := l.state()
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-off:
	default:
		close(off)
	}
}

// Pause holds everything that begins from now on until Resume or Cut.
func (l *Line) Pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(chan struct{})
	}
}

// Resume lets go on what Pause held.
func (l *Line) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}

// pass waits while the line is paused. It returns errCut without power, and the
// end of done, which may be nil, as context.Canceled.
func (l *Line) pass(done <-chan struct{}) error {
	for {
		off, held := l.state()
		select {
		case <-off:
			return errCut
		default:
		}
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-off:
		case <-done:
			return context.Canceled
		}
	}
}

// KV is a hook of [kv.Mem]: without power nothing is asked of it.
func (l *Line) KV(ctx context.Context, _ kv.Call) error {
	if err := l.pass(ctx.Done()); err != nil {
		return errors.Join(kv.ErrUnavailable, err)
	}
	return nil
}

// Objects is a hook of [object.WithFaults].
func (l *Line) Objects(ctx context.Context, _ object.Op) error {
	if err := l.pass(ctx.Done()); err != nil {
		return errors.Join(object.ErrUnavailable, err)
	}
	return nil
}

// Disk is a hook of [vfs.WithFaults].
func (l *Line) Disk(vfs.Op) error {
	if err := l.pass(nil); err != nil {
		return errors.Join(syscall.EIO, err)
	}
	return nil
}

// Listen wraps what listens for the broker: without power its connections say nothing.
func (l *Line) Listen(listen func(context.Context, string) (net.Listener, error)) func(context.Context, string) (net.Listener, error) {
	return func(ctx context.Context, addr string) (net.Listener, error) {
		inner, err := listen(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &listener{Listener: inner, line: l}, nil
	}
}

// Dial wraps what connects the broker to others.
func (l *Line) Dial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := l.pass(ctx.Done()); err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newConn(c, l), nil
	}
}

type listener struct {
	net.Listener
	line *Line
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, l.line), nil
}

type conn struct {
	net.Conn
	line   *Line
	once   sync.Once
	closed chan struct{} // what a pause holds must end with its connection
}

func newConn(c net.Conn, l *Line) *conn {
	return &conn{Conn: c, line: l, closed: make(chan struct{})}
}

func (c *conn) pass() error {
	err := c.line.pass(c.closed)
	if errors.Is(err, context.Canceled) {
		return net.ErrClosed
	}
	return err
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	// What arrived before the pause was not yet looked at.
	if held := c.pass(); held != nil && !errors.Is(held, errCut) {
		return 0, held
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Package power takes the power from a broker that runs in the process of its
// test. Such a broker cannot be killed: it goes on until it has stopped, and
// what it still says and does after its disk was taken away for [vfs.Mem.Crash]
// never happens on a real machine: acks of records that are on no disk, a
// pointer to a segment that was sealed too late. A [Line] that is cut lets
// nothing more out of the broker; cut it before the disk is taken.
package power

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/tiering/object"
)

var errCut = errors.New("the power is off")

// Line is what one life of a broker hangs on. It is safe for concurrent use.
type Line struct{ off atomic.Bool }

// Cut lets nothing more out. What was under way before may still arrive, as
// what has left a machine does.
func (l *Line) Cut() { l.off.Store(true) }

// KV is a hook of [kv.Mem]: without power nothing is asked of it.
func (l *Line) KV(context.Context, kv.Call) error {
	if l.off.Load() {
		return errors.Join(kv.ErrUnavailable, errCut)
	}
	return nil
}

// Objects is a hook of [object.WithFaults].
func (l *Line) Objects(context.Context, object.Op) error {
	if l.off.Load() {
		return errors.Join(object.ErrUnavailable, errCut)
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
		return &listener{inner, l}, nil
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
	return &conn{c, l.line}, nil
}

type conn struct {
	net.Conn
	line *Line
}

func (c *conn) Write(p []byte) (int, error) {
	if c.line.off.Load() {
		return 0, errCut
	}
	return c.Conn.Write(p)
}

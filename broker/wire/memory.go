package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// pipeBytes is how much one direction of an in-memory connection holds before its writer waits, as a socket's
// buffers would.
const pipeBytes = 256 << 10

// MemoryNetwork is the network in memory: the fourth seam. Its connections are buffered as TCP's are, have deadlines, and
// fail as TCP's fail; links between hosts can be cut, made half-open, and delayed. Nothing waits on a mutex, so a whole
// cluster runs on it inside a testing/synctest bubble. Addresses are host:port; any host name will do. The
// host a connection comes from is that of the MemoryHost that dialled it. Safe for concurrent use.
type MemoryNetwork struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
	links     map[link]Fault
	conns     map[*memoryConn]struct{} // the dialling ends
	nextPort  int
}

// link is one direction between two hosts.
type link struct{ from, to string }

// Fault is what a link does to the bytes that go over it.
type Fault struct {
	// Cut lets nothing arrive. Neither end is told. What was sent arrives when the link heals, as TCP sends it again;
	// connections cannot be opened meanwhile.
	Cut bool
	// Delay is added to everything that is sent from now on.
	Delay time.Duration
}

// NewMemoryNetwork returns a network without faults.
func NewMemoryNetwork() *MemoryNetwork {
	return &MemoryNetwork{
		listeners: make(map[string]*memoryListener),
		links:     make(map[link]Fault),
		conns:     make(map[*memoryConn]struct{}),
		nextPort:  49152,
	}
}

// Listen listens on host:port; port 0 is any free one.
func (n *MemoryNetwork) Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "memory", Err: err}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == "0" {
		addr = net.JoinHostPort(host, strconv.Itoa(n.portLocked()))
	}
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "memory", Addr: memoryAddr(addr), Err: errAddrInUse}
	}
	l := &memoryListener{net: n, addr: memoryAddr(addr), accept: make(chan *memoryConn, 128), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// Dial connects to addr from the host "client". It has the shape of a dialler of net and kgo.
func (n *MemoryNetwork) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.Host("client").Dial(ctx, network, addr)
}

// Host is a host of the network, as a dialler.
func (n *MemoryNetwork) Host(name string) MemoryHost { return MemoryHost{net: n, name: name} }

// MemoryHost dials from one host.
type MemoryHost struct {
	net  *MemoryNetwork
	name string
}

// Dial connects to addr; network is ignored.
func (h MemoryHost) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	c, err := h.net.dial(ctx, h.name, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memoryAddr(addr), Err: err}
	}
	return c, nil
}

var (
	errAddrInUse = errors.New("address already in use")
	errRefused   = errors.New("connection refused")
	errReset     = errors.New("connection reset by peer")
)

func (n *MemoryNetwork) dial(ctx context.Context, from, addr string) (*memoryConn, error) {
	to, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	fault := n.links[link{from, to}]
	back := n.links[link{to, from}]
	n.mu.Unlock()
	if fault.Cut || back.Cut {
		<-ctx.Done() // packets are lost, nobody answers
		return nil, ctx.Err()
	}
	if d := fault.Delay + back.Delay; d > 0 && !sleep(ctx, d) {
		return nil, ctx.Err()
	}
	n.mu.Lock()
	l := n.listeners[addr]
	local := memoryAddr(net.JoinHostPort(from, strconv.Itoa(n.portLocked())))
	n.mu.Unlock()
	if l == nil {
		return nil, errRefused
	}
	out, in := newMemoryPipe(fault.Delay), newMemoryPipe(back.Delay)
	near := &memoryConn{net: n, local: local, remote: l.addr, in: in, out: out, link: link{from, to}}
	far := &memoryConn{net: n, local: l.addr, remote: local, in: out, out: in, link: link{to, from}}
	near.peer, far.peer = far, near
	n.mu.Lock()
	n.conns[near] = struct{}{}
	n.mu.Unlock()
	select {
	case l.accept <- far:
		select {
		case <-l.closed:
			l.dropQueue()
		default:
		}
		return near, nil
	case <-l.closed:
		err = errRefused
	case <-ctx.Done():
		err = ctx.Err()
	}
	near.discard()
	return nil, err
}

func (n *MemoryNetwork) portLocked() int {
	n.nextPort++
	return n.nextPort
}

// SetFault makes the link from one host to another do f; the zero Fault heals it. Call it for both directions to part
// two hosts, for one to make their connections half-open.
func (n *MemoryNetwork) SetFault(from, to string, f Fault) {
	n.mu.Lock()
	if f == (Fault{}) {
		delete(n.links, link{from, to})
	} else {
		n.links[link{from, to}] = f
	}
	var pipes []*memoryPipe
	for c := range n.conns {
		if c.link == (link{from, to}) {
			pipes = append(pipes, c.out)
		}
		if c.peer.link == (link{from, to}) {
			pipes = append(pipes, c.peer.out)
		}
	}
	n.mu.Unlock()
	for _, p := range pipes {
		p.setFault(f)
	}
}

// Reset breaks all connections between two hosts: both ends see a reset.
func (n *MemoryNetwork) Reset(a, b string) {
	n.mu.Lock()
	var broken []*memoryConn
	for c := range n.conns {
		if c.link == (link{a, b}) || c.link == (link{b, a}) {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		c.discard()
	}
}

// memoryAddr is host:port.
type memoryAddr string

// Network implements net.Addr.
func (memoryAddr) Network() string { return "memory" }

// String implements net.Addr.
func (a memoryAddr) String() string { return string(a) }

type memoryListener struct {
	net    *MemoryNetwork
	addr   memoryAddr
	accept chan *memoryConn
	once   sync.Once
	closed chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case c := <-l.accept:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "memory", Addr: l.addr, Err: net.ErrClosed}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, string(l.addr))
		l.net.mu.Unlock()
		close(l.closed)
	})
	l.dropQueue()
	return nil
}

// dropQueue resets connections that were opened and will never be accepted.
func (l *memoryListener) dropQueue() {
	for {
		select {
		case c := <-l.accept:
			c.peer.discard()
		default:
			return
		}
	}
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

// memoryConn is one end of a connection.
type memoryConn struct {
	net           *MemoryNetwork
	local, remote memoryAddr
	link          link // from this end to the other
	peer          *memoryConn
	in, out       *memoryPipe
	once          sync.Once
	closed        bool // guarded by net.mu
}

// discard resets a connection and forgets it; c is its dialling end.
func (c *memoryConn) discard() {
	c.in.breakOff(errReset)
	c.out.breakOff(errReset)
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
}

func (c *memoryConn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.opError("read", err)
}

func (c *memoryConn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.opError("write", err)
}

func (c *memoryConn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// Close closes both directions: the peer reads what was written and then the end; what it writes is refused.
func (c *memoryConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = nil
		c.out.closeWrite()
		c.in.closeRead()
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		if c.closed = true; c.peer.closed {
			delete(c.net.conns, c)
			delete(c.net.conns, c.peer)
		}
	})
	return c.opError("close", err)
}

func (c *memoryConn) LocalAddr() net.Addr  { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

func (c *memoryConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.readDeadline.set(t)
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.writeDeadline.set(t)
	return nil
}

// String names both ends.
func (c *memoryConn) String() string { return fmt.Sprintf("%s-%s", c.local, c.remote) }

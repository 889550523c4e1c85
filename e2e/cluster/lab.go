package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// lab is a switch with a network namespace a broker around it, so that the
// packets of each can get lost one way:
//
//	host, 10.x.y.1 .2 .3 — switch (in a namespace, where no filter of the host's meets it) — broker n, 10.x.y.(10+n)
//
// Packets are lost by a neighbour entry with the address of nobody: as on a
// broken wire, the sender hears nothing. It takes root and iproute2.
type lab struct {
	name   string // of the switch's namespace; those of brokers begin with it
	prefix string // 10.x.y.
	spaces []string
}

// Hosts of a lab's network.
const (
	labClients = 1 + iota
	labEtcd
	labStore
	labBrokers = 10
)

// nobody is a hardware address that no one has.
const nobody = "02:00:00:00:00:ff"

// newLab makes the switch and joins the host to it.
func newLab(ctx context.Context) (*lab, error) {
	if err := sweepLabs(ctx); err != nil {
		return nil, err
	}
	l := &lab{name: fmt.Sprintf("cb%d-%04x", os.Getpid(), rand.N(1<<16)), prefix: fmt.Sprintf("10.%d.%d.", 128+rand.N(100), rand.N(256))}
	hostSide, switchSide := l.device("h"), l.device("s")
	err := l.namespace(ctx, l.name)
	for _, line := range []string{
		"-n " + l.name + " link add br0 type bridge",
		"-n " + l.name + " link set br0 up",
		"link add " + hostSide + " type veth peer name " + switchSide + " netns " + l.name,
		"-n " + l.name + " link set " + switchSide + " master br0 up",
		"link set " + hostSide + " up",
		"addr add " + l.host(labClients) + "/24 dev " + hostSide,
		"addr add " + l.host(labEtcd) + "/32 dev " + hostSide,
		"addr add " + l.host(labStore) + "/32 dev " + hostSide,
	} {
		if err == nil {
			err = ip(ctx, line)
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.close(ctx))
	}
	return l, nil
}

// sweepLabs removes what processes left that have died before they could.
func sweepLabs(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("ip netns list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, ours := strings.CutPrefix(name, "cb")
		pid, _, dashed := strings.Cut(rest, "-")
		if n, err := strconv.Atoi(pid); !ours || !dashed || err != nil || n == os.Getpid() {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			if err := ip(ctx, "netns del "+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func ip(ctx context.Context, line string) error {
	if out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, bytes.TrimSpace(out))
	}
	return nil
}

// device names are at most 15 bytes.
func (l *lab) device(end string) string {
	return "cb" + l.name[strings.IndexByte(l.name, '-')+1:] + strconv.Itoa(os.Getpid()%100000) + end
}

func (l *lab) host(n int) string { return l.prefix + strconv.Itoa(n) }

func (l *lab) namespace(ctx context.Context, name string) error {
	if err := ip(ctx, "netns add "+name); err != nil {
		return err
	}
	l.spaces = append(l.spaces, name)
	return ip(ctx, "-n "+name+" link set lo up")
}

func (l *lab) space(id int32) string { return fmt.Sprintf("%s-%d", l.name, id) }

// join makes the namespace of a broker.
func (l *lab) join(ctx context.Context, id int32) error {
	space, port := l.space(id), fmt.Sprintf("p%d", id)
	if err := l.namespace(ctx, space); err != nil {
		return err
	}
	for _, line := range []string{
		"-n " + space + " link add eth0 type veth peer name " + port + " netns " + l.name,
		"-n " + l.name + " link set " + port + " master br0 up",
		"-n " + space + " addr add " + l.host(labBrokers+int(id)) + "/24 dev eth0",
		"-n " + space + " link set eth0 up",
	} {
		if err := ip(ctx, line); err != nil {
			return err
		}
	}
	return nil
}

// cut loses what broker id sends to a host.
func (l *lab) cut(ctx context.Context, id int32, host int) error {
	return ip(ctx, fmt.Sprintf("-n %s neigh replace %s lladdr %s dev eth0 nud permanent", l.space(id), l.host(host), nobody))
}

// heal ends all cuts of what broker id sends.
func (l *lab) heal(ctx context.Context, id int32) error {
	return ip(ctx, "-n "+l.space(id)+" neigh flush dev eth0 nud permanent")
}

// traffic is what the broker has received and sent so far, in bytes.
func (l *lab) traffic(ctx context.Context, id int32) (received, sent int64, err error) {
	out, err := exec.CommandContext(ctx, "ip", "netns", "exec", l.space(id), "cat", "/proc/net/dev").Output()
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "eth0:"); ok {
			f := strings.Fields(rest)
			received, err = strconv.ParseInt(f[0], 10, 64)
			sent, err2 := strconv.ParseInt(f[8], 10, 64)
			return received, sent, errors.Join(err, err2)
		}
	}
	return 0, 0, errors.New("no eth0 in " + l.space(id))
}

// close removes the namespaces, and with them their devices.
func (l *lab) close(ctx context.Context) error {
	var err error
	for _, name := range l.spaces {
		err = errors.Join(err, ip(ctx, "netns del "+name))
	}
	return err
}

// forwarder passes connections on to a server that listens for this machine only.
type forwarder struct {
	l    net.Listener
	to   string
	work sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func newForwarder(ctx context.Context, at, to string) (*forwarder, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	f := &forwarder{l: l, to: to, open: make(map[net.Conn]struct{})}
	f.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.work.Go(func() { f.serve(c) })
		}
	})
	return f, nil
}

func (f *forwarder) serve(c net.Conn) {
	s, err := net.Dial("tcp", f.to)
	if err != nil {
		_ = c.Close() // refused there, closed here
		return
	}
	f.mu.Lock()
	f.open[c], f.open[s] = struct{}{}, struct{}{}
	f.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // the ends see that it has ended
			_ = c.Close()
			_ = s.Close()
		})
	}
	both.Wait()
	f.mu.Lock()
	delete(f.open, c)
	delete(f.open, s)
	f.mu.Unlock()
}

func (f *forwarder) close() error {
	err := f.l.Close()
	f.mu.Lock()
	for c := range f.open {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.work.Wait()
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// addresses checks that what we listen on is free, or ours.
func (d *doctor) addresses(ctx context.Context) []finding {
	var out []finding
	for _, l := range d.c.Listeners {
		out = append(out, d.address(ctx, "kafka address", "--listen", l.Address()))
	}
	if d.c.HTTPListen != "" {
		out = append(out, d.address(ctx, "http address", "--http", d.c.HTTPListen))
	}
	for _, raw := range slices.Concat(d.c.Etcd.ListenPeers, d.c.Etcd.ListenClients) {
		if u, err := url.Parse(raw); err == nil { // the settings were checked
			out = append(out, d.address(ctx, "etcd address", "--etcd-peers", u.Host))
		}
	}
	return out
}

func (d *doctor) address(ctx context.Context, check, flag, address string) finding {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err == nil {
		if err := l.Close(); err != nil {
			return bad(check, "", "%s: %v", address, err)
		}
		return good(check, "%s is free", address)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && d.node != nil:
		return good(check, "%s is ours: node %d runs", address, d.node.NodeID)
	case errors.Is(err, syscall.EADDRINUSE):
		return bad(check, "stop that program, or choose another address with "+flag, "%s is in use by another program%s", address, d.who(ctx, address))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return bad(check, "choose one with "+flag, "%s is not an address of this machine", address)
	case errors.Is(err, syscall.EACCES):
		return bad(check, "choose a port of 1024 or more with "+flag, "%s: not allowed to listen there", address)
	}
	return bad(check, "choose another address with "+flag, "%s: %v", address, err)
}

// who says more about the program on an address if it speaks Kafka.
func (d *doctor) who(ctx context.Context, address string) string {
	ask := *d.app
	ask.bootstrap = dialable(address)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	found := ""
	// An error leaves it unsaid: that it is in use is what matters.
	_ = ask.admin(ctx, func(ctx context.Context, adm *kadm.Client) error {
		m, err := adm.BrokerMetadata(ctx)
		if err == nil {
			found = fmt.Sprintf(": a Kafka broker of cluster %s", m.Cluster)
		}
		return err
	})
	return found
}

// dialable replaces "every interface" by this machine.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// advertised checks that what clients are told leads to us. While nobody listens there, we do, for
// the moment.
func (d *doctor) advertised(ctx context.Context) []finding {
	const check = "advertised"
	var out []finding
	for i, told := range d.c.AdvertisedListeners {
		bound := d.c.Listeners[i]
		if told.Port == 0 {
			out = append(out, good(check, "%s, port chosen at start", told.Host))
			continue
		}
		out = append(out, d.reach(ctx, check, bound, told))
	}
	return out
}

func (d *doctor) reach(ctx context.Context, check string, bound, told config.Listener) finding {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	hint := "set --advertise to the address clients can reach"
	if _, err := net.DefaultResolver.LookupHost(ctx, told.Host); err != nil {
		return bad(check, hint, "%s does not resolve: %v", told.Host, err)
	}
	ours := make(chan string, 1) // the far ends of what reached our own listener
	if l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", bound.Address()); err == nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			acceptOne(l, ours)
		}()
		defer func() {
			_ = l.Close() // it was only lent
			<-done
		}()
	} else if d.node == nil {
		return warn(check, "", "%s could not be tried: %s is in use", told.Address(), bound.Address())
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", told.Address())
	if err != nil {
		return bad(check, hint, "%s cannot be reached from here: %v", told.Address(), err)
	}
	defer c.Close()
	if d.node != nil {
		return good(check, "%s can be reached", told.Address())
	}
	select {
	case <-ours:
		return good(check, "%s leads here", told.Address())
	case <-time.After(time.Second):
		return warn(check, hint+", if that is not meant", "%s is answered by somebody else: a proxy, or another machine", told.Address())
	}
}

// acceptOne takes one connection and says where it came from.
func acceptOne(l net.Listener, from chan<- string) {
	c, err := l.Accept()
	if err != nil {
		return // closed: nobody came
	}
	from <- c.RemoteAddr().String()
	_ = c.Close() // nothing was said on it
}

const (
	slowSync   = 20 * time.Millisecond
	fewBytes   = 1 << 30
	syncProbes = 50
)

// disk checks that the data directories can be written, have space and sync fast enough.
func (d *doctor) disk(context.Context) []finding {
	dirs := slices.Clone(d.c.LogDirs)
	if d.c.Etcd.Embedded && !under(d.c.Etcd.DataDir, dirs) {
		dirs = append(dirs, d.c.Etcd.DataDir)
	}
	var out []finding
	for _, dir := range dirs {
		out = append(out, probe(vfs.NewOS(), dir, "--data-dir")...)
	}
	if dir := d.c.Remote.CacheDir; dir != "" {
		out = append(out, probe(vfs.NewOS(), dir, "--cache-dir")...)
	}
	return out
}

func under(dir string, parents []string) bool {
	return slices.ContainsFunc(parents, func(p string) bool {
		rel, err := filepath.Rel(p, dir)
		return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
	})
}

// probe checks a directory that a flag names.
func probe(fs vfs.FS, dir, flag string) []finding {
	const check = "disk"
	where := dir
	for { // a directory that is not there yet is probed at its nearest parent
		info, err := fs.Stat(where)
		if err == nil && !info.IsDir {
			return []finding{bad(check, "choose another one with "+flag, "%s is not a directory", where)}
		}
		if err == nil {
			break
		}
		parent := filepath.Dir(where)
		if !errors.Is(err, os.ErrNotExist) || parent == where {
			return []finding{bad(check, "choose another one with "+flag, "%s: %v", where, err)}
		}
		where = parent
	}
	p50, worst, err := syncTimes(fs, where)
	if err != nil {
		return []finding{bad(check, "the directory must be writable for this user", "%s: %v", dir, err)}
	}
	out := []finding{good(check, "%s: a sync takes %s, at worst %s", dir, span(p50), span(worst))}
	if p50 > slowSync {
		out[0] = warn(check, "every acknowledgement waits for one: use a faster disk, or several replicas and log.flush.interval.messages=9223372036854775807",
			"%s: a sync takes %s, at worst %s", dir, span(p50), span(worst))
	}
	usage, err := fs.Usage(where)
	if err != nil {
		return append(out, bad(check, "", "%s: %v", dir, err))
	}
	free, total := int64(min(usage.Free, math.MaxInt64)), int64(min(usage.Total, math.MaxInt64))
	if free < fewBytes || free < total/20 {
		return append(out, warn(check, "produce requests fail when it is full: free some, or lower local.retention.bytes", "%s: only %s of %s are free", dir, size(free), size(total)))
	}
	return append(out, good(check, "%s: %s of %s are free", dir, size(free), size(total)))
}

// syncTimes writes and syncs 4 KiB a number of times and returns the median and the worst time.
func syncTimes(fs vfs.FS, dir string) (p50, worst time.Duration, err error) {
	name := filepath.Join(dir, fmt.Sprintf(".coldbrook-doctor-%d", os.Getpid()))
	f, err := fs.Create(name)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		err = errors.Join(err, f.Close(), fs.Remove(name))
	}()
	block := make([]byte, 4096)
	times := make([]time.Duration, 0, syncProbes)
	for i := range syncProbes {
		begun := time.Now()
		if _, err := f.WriteAt(block, int64(i)*4096); err != nil {
			return 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(begun))
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)-1], nil
}

// limits checks what this process is allowed.
func (d *doctor) limits(context.Context) []finding {
	const check, enough = "open files", 65536
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return []finding{warn(check, "", "%v", err)}
	}
	if r.Cur < enough { // Go has raised the soft limit to the hard one
		return []finding{warn(check, "raise it: LimitNOFILE= of the service, or ulimit -n", "%d allowed; each segment and each connection takes one", r.Cur)}
	}
	return []finding{good(check, "%d allowed", r.Cur)}
}

// store makes a round trip through the object store.
func (d *doctor) store(ctx context.Context) []finding {
	const check = "object store"
	if !d.c.RemoteEnabled {
		return []finding{good(check, "switched off (remote.log.storage.system.enable)")}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	store := d.c.Remote.StoreURL
	if u, err := url.Parse(store); err == nil && u.Scheme == "file" {
		if _, err := os.Stat(u.Path); errors.Is(err, os.ErrNotExist) {
			return []finding{good(check, "%s will be made", store)} // a look must not make it; disk has tried the parent
		}
	}
	hint := "see --store"
	begun := time.Now()
	s, err := object.Open(ctx, store, object.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return []finding{bad(check, hint, "%v", err)}
	}
	defer closeQuietly(s)
	if err := object.Check(ctx, s); err != nil {
		switch {
		case errors.Is(err, object.ErrAccess), errors.Is(err, object.ErrNoBucket):
			hint = "" // the error has its own
		case errors.Is(err, object.ErrUnsupported):
			hint = "serve would not start: it takes another store, or a newer release of this one"
		case errors.Is(err, object.ErrUnavailable):
			hint = "is the endpoint right, and up? serve would start, and wait for it with uploads"
		}
		return []finding{bad(check, hint, "%v", err)}
	}
	return []finding{good(check, "%s: put, get, list and delete in %s", store, span(time.Since(begun)))}
}

func closeQuietly(c io.Closer) { _ = c.Close() } // only looked at

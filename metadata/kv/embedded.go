package kv

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// EmbeddedOptions describe the single etcd member that runs in this process.
type EmbeddedOptions struct {
	Dir          string // data directory, made if missing
	Name         string // member name, default "coldbrook"
	ClientSocket string // unix socket for etcdctl; default <Dir>/client.sock, or one in os.TempDir() where that is too long
	QuotaBytes   int64  // largest size of the database, default 512 MiB
	Logger       *slog.Logger
	Unsafe       bool // no fsync: for tests
}

// Embedded is a running etcd member.
type Embedded struct {
	etcd   *embed.Etcd
	kv     KV
	socket string
	unlink bool // the socket lies outside Dir
	quiet  *atomic.Bool
	once   sync.Once
}

const (
	embeddedMaxTxnOps = 4096
	maxRequestBytes   = 8 << 20
	defaultQuotaBytes = 512 << 20
	// walSegmentBytes is what etcd preallocates, twice, for its log. Its
	// default of 64 MB would fill a small data disk.
	walSegmentBytes = 4 << 20
	// maxSocketPath is below the shortest limit of the systems we run on
	// (sun_path: 104 bytes on macOS, 108 on Linux).
	maxSocketPath = 100
)

// The size is a package variable of etcd's; it is set once, before any member
// starts, and read by all of them.
var setWALSegmentBytes = sync.OnceFunc(func() { wal.SegmentSizeBytes = walSegmentBytes })

// StartEmbedded starts the member and returns when it serves. It may need to
// wait for its own election, which ctx bounds.
func StartEmbedded(ctx context.Context, o EmbeddedOptions) (*Embedded, error) {
	if o.Dir == "" {
		return nil, errors.New("embedded etcd: no directory given")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	socket := socketPath(dir, o.ClientSocket)
	// etcd would wait for ever for the lock of its database.
	if conn, err := net.Dial("unix", socket); err == nil {
		_ = conn.Close() // it told us what we wanted to know
		return nil, fmt.Errorf("embedded etcd: another process serves %s from %s", dir, socket)
	}
	setWALSegmentBytes()
	quiet := &atomic.Bool{}
	e, err := embed.StartEtcd(embeddedConfig(o, dir, socket, quiet))
	if err != nil {
		return nil, fmt.Errorf("embedded etcd in %s: %w", dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err = <-e.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("embedded etcd in %s: start: %w", dir, err)
	}
	kv := &etcd{client: v3client.New(e.Server), maxOps: embeddedMaxTxnOps}
	return &Embedded{etcd: e, kv: kv, socket: socket, unlink: filepath.Dir(socket) != dir, quiet: quiet}, nil
}

func embeddedConfig(o EmbeddedOptions, dir, socket string, quiet *atomic.Bool) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = o.Name, dir
	if c.Name == "" {
		c.Name = "coldbrook"
	}
	// A single member has no peers: it advertises an address that it need not
	// listen on.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	client := url.URL{Scheme: "unix", Path: socket}
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.InitialCluster = c.Name + "=" + peer.String()
	// Ticks decide how long a single member waits to elect itself, one to five of
	// them, and what it costs idle: 1.5 % of a core at 10 ms, 0.7 % at 40 ms.
	c.TickMs, c.ElectionMs = 40, 200
	c.MaxTxnOps, c.MaxRequestBytes = embeddedMaxTxnOps, maxRequestBytes
	c.QuotaBackendBytes = o.QuotaBytes
	if c.QuotaBackendBytes == 0 {
		c.QuotaBackendBytes = defaultQuotaBytes
	}
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, "10000"
	// No follower has to catch up, so little of the raft log stays in memory.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 2_000, 100
	c.EnableGRPCGateway = false
	c.UnsafeNoFsync = o.Unsafe
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(o.Logger, slog.LevelWarn, quiet))
	return c
}

// socketPath keeps the path short enough for a socket's address.
func socketPath(dir, wanted string) string {
	if wanted == "" {
		wanted = filepath.Join(dir, "client.sock")
	}
	if len(wanted) <= maxSocketPath {
		return wanted
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(wanted)) // a hash does not fail
	return filepath.Join(os.TempDir(), fmt.Sprintf("coldbrook-etcd-%016x.sock", h.Sum64()))
}

// KV returns the store. Its calls do not pass a socket. Embedded.Close closes it.
func (e *Embedded) KV() KV { return e.kv }

// Endpoint is what etcdctl wants after --endpoints.
func (e *Embedded) Endpoint() string { return "unix://" + e.socket }

// Wait returns nil when ctx ends, or the error with which the member stopped.
func (e *Embedded) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-e.etcd.Server.StopNotify():
		return errors.New("embedded etcd stopped")
	case err, ok := <-e.etcd.Err():
		if !ok {
			return nil
		}
		return fmt.Errorf("embedded etcd: %w", err)
	}
}

// Close stops the member and returns when it has let go of its files.
func (e *Embedded) Close() error {
	var err error
	e.once.Do(func() {
		e.quiet.Store(true)
		err = e.kv.Close()
		e.etcd.Close()
		if e.unlink {
			if rmErr := os.Remove(e.socket); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
				err = errors.Join(err, rmErr)
			}
		}
	})
	return err
}

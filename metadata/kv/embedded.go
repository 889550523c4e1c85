package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// EmbeddedOptions describe the etcd member that runs in this process.
type EmbeddedOptions struct {
	Dir  string // data directory, made if missing
	Name string // member name, default "coldbrook"; with Peers: which of them this is

	// Peers are all members of the cluster, the same list in each; empty: this
	// one is alone. A member with data keeps to that data; the list says where
	// to look for the others.
	Peers            []Peer
	ListenPeers      []string // URLs; needed with Peers
	ListenClients    []string // URLs for clients beside the socket, and for members that join; needed with Peers
	AdvertiseClients []string // URLs under which others reach ListenClients; default ListenClients
	// JoinTimeout is how long a member without data asks a cluster without
	// quorum to let it in before it gives up; default 30 s.
	JoinTimeout time.Duration
	// Of https URLs, in PEM. Who connects needs a certificate signed by CAFile.
	CertFile, KeyFile, CAFile string

	ClientSocket string // unix socket for etcdctl; default <Dir>/client.sock, or one in os.TempDir() where that is too long
	QuotaBytes   int64  // largest size of the database, default 512 MiB
	// RequestTimeout bounds each request of KV; default 5 s.
	RequestTimeout time.Duration
	Logger         *slog.Logger
	Unsafe         bool // no fsync: for tests
	// LookEvery is how often the member looks whether its database must be kept small; default 1 s.
	LookEvery time.Duration
	forced    bool // forget the other members
}

// Peer is a member of an embedded cluster.
type Peer struct {
	Name string // the node.id of its broker
	URL  string // http(s)://host:port where other members reach it
}

// Embedded is a running etcd member.
type Embedded struct {
	etcd   *embed.Etcd
	kv     *etcd
	socket string
	unlink bool // the socket lies outside Dir
	quiet  *atomic.Bool
	once   sync.Once

	endCare context.CancelFunc // of the keeper
	caring  sync.WaitGroup
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
	maxSocketPath      = 100
	defaultJoinTimeout = 30 * time.Second
	// A member among others takes a silent leader for dead after one to two times
	// memberElection. A heartbeat is a tick.
	memberTick, memberElection = 50, 300 // ms
)

// The size is a package variable of etcd's; it is set once, before any member
// starts, and read by all of them.
var setWALSegmentBytes = sync.OnceFunc(func() { wal.SegmentSizeBytes = walSegmentBytes })

// StartEmbedded starts the member and returns when it serves, which one of
// several does when a majority of them runs. ctx bounds that.
//
// A member without data looks for a cluster at the other peers. One that is
// there takes it in, in place of the dead member of its name if there was one.
// If all other peers answer and none has data either, they make a new cluster:
// the first by name begins and the others join it. While one does not answer,
// all wait: it could have the data.
func StartEmbedded(ctx context.Context, o EmbeddedOptions) (*Embedded, error) {
	if o.Dir == "" {
		return nil, errors.New("embedded etcd: no directory given")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Name, o.JoinTimeout = cmp.Or(o.Name, "coldbrook"), cmp.Or(o.JoinTimeout, defaultJoinTimeout)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, defaultRequestTimeout)
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
	m := &member{o: o, dir: dir, socket: socket, quiet: &atomic.Bool{}}
	e, err := m.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd in %s: %w", dir, err)
	}
	return e, nil
}

// embeddedConfig is a member's, but for what it is to its cluster.
func embeddedConfig(o EmbeddedOptions, dir, socket string, quiet *atomic.Bool) (*embed.Config, error) {
	c := embed.NewConfig()
	c.Name, c.Dir = o.Name, dir
	// A member that is alone has no peers: it advertises an address that it need
	// not listen on.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	client := url.URL{Scheme: "unix", Path: socket}
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	// Ticks decide how long a single member waits to elect itself, one to five of
	// them, and what it costs idle: 1.5 % of a core at 10 ms, 0.7 % at 40 ms.
	c.TickMs, c.ElectionMs = 40, 200
	// No follower has to catch up, so little of the raft log stays in memory.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 2_000, 100
	c.InitialCluster = c.Name + "=" + peer.String()
	if err := addAddresses(c, o); err != nil {
		return nil, err
	}
	c.MaxTxnOps, c.MaxRequestBytes = embeddedMaxTxnOps, maxRequestBytes
	c.QuotaBackendBytes = cmp.Or(o.QuotaBytes, defaultQuotaBytes)
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, "10000"
	c.EnableGRPCGateway = false
	c.UnsafeNoFsync, c.ForceNewCluster = o.Unsafe, o.forced
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(o.Logger, slog.LevelWarn, quiet))
	return c, nil
}

// addAddresses adds what a member among others needs.
func addAddresses(c *embed.Config, o EmbeddedOptions) error {
	// A broker may come from behind a NAT: its certificate must be signed by our
	// CA, and need not name the address it comes from.
	c.PeerTLSInfo.CertFile, c.PeerTLSInfo.KeyFile, c.PeerTLSInfo.TrustedCAFile = o.CertFile, o.KeyFile, o.CAFile
	c.PeerTLSInfo.ClientCertAuth, c.PeerTLSInfo.SkipClientSANVerify = o.CAFile != "", true
	c.ClientTLSInfo = c.PeerTLSInfo
	listen, err := parseURLs(o.ListenClients)
	if err != nil {
		return err
	}
	told, err := parseURLs(o.AdvertiseClients)
	if err != nil {
		return err
	}
	if len(told) == 0 {
		told = listen
	}
	c.ListenClientUrls = append(c.ListenClientUrls, listen...)
	if len(told) > 0 {
		c.AdvertiseClientUrls = told
	}
	if len(o.Peers) == 0 {
		return nil
	}
	own, ok := o.self()
	switch {
	case !ok:
		return fmt.Errorf("%s is not one of the peers %v", o.Name, o.Peers)
	case len(o.ListenPeers) == 0 || len(o.ListenClients) == 0:
		return errors.New("a member among others must listen for peers and for clients")
	}
	if c.AdvertisePeerUrls, err = parseURLs([]string{own.URL}); err != nil {
		return err
	}
	if c.ListenPeerUrls, err = parseURLs(o.ListenPeers); err != nil {
		return err
	}
	c.InitialCluster = own.Name + "=" + own.URL
	c.TickMs, c.ElectionMs = memberTick, memberElection
	c.SnapshotCount, c.SnapshotCatchUpEntries = 10_000, 2_000
	return nil
}

func parseURLs(list []string) ([]url.URL, error) {
	var out []url.URL
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, *u)
	}
	return out, nil
}

// self is this member among its peers.
func (o EmbeddedOptions) self() (Peer, bool) {
	i := slices.IndexFunc(o.Peers, func(p Peer) bool { return p.Name == o.Name })
	if i < 0 {
		return Peer{}, false
	}
	return o.Peers[i], true
}

// others are its peers without it.
func (o EmbeddedOptions) others() []Peer {
	return slices.DeleteFunc(slices.Clone(o.Peers), func(p Peer) bool { return p.Name == o.Name })
}

// socketPath keeps the path short enough for a socket's address, and free of what etcd's client, which is given it as a
// URL, would take for something else.
func socketPath(dir, wanted string) string {
	if wanted == "" {
		wanted = filepath.Join(dir, "client.sock")
	}
	if len(wanted) <= maxSocketPath && !strings.ContainsFunc(wanted, notInSocket) {
		return wanted
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(wanted)) // a hash does not fail
	return filepath.Join(os.TempDir(), fmt.Sprintf("coldbrook-etcd-%016x.sock", h.Sum64()))
}

// notInSocket reports what has a meaning in URLs, and what is not ASCII, which they escape.
func notInSocket(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`#%?:"<>[\]^{|}`+"`", r)
}

// KV returns the store. Its calls do not pass a socket. Embedded.Close closes it.
func (e *Embedded) KV() KV { return e.kv }

// Size is how large this member's database is.
func (e *Embedded) Size() Size {
	b := e.etcd.Server.Backend()
	return Size{Bytes: b.Size(), InUse: b.SizeInUse(), Quota: e.etcd.Config().QuotaBackendBytes}
}

// Endpoint is what etcdctl wants after --endpoints.
func (e *Embedded) Endpoint() string { return "unix://" + e.socket }

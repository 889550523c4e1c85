package kv

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// SaveSnapshot writes what one member has into a file that etcd's own tools and [RestoreSnapshot] read, and returns
// its size. It needs no majority: of a cluster that lost it, take the member that was last in touch. The file is there
// as a whole or not at all.
func SaveSnapshot(ctx context.Context, o DialOptions, file string) (size int64, err error) {
	if len(o.Endpoints) != 1 {
		return 0, fmt.Errorf("a snapshot is of one member, %d are named", len(o.Endpoints))
	}
	c, err := clientv3.New(clientv3.Config{
		Context: context.WithoutCancel(ctx), Endpoints: o.Endpoints, Username: o.Username, Password: o.Password, TLS: o.TLS,
		DialTimeout: dialTimeout, Logger: quietZap(),
	})
	if err != nil {
		return 0, dialError(ctx, o, mapError(err))
	}
	defer c.Close()
	if _, err := withTimeout(ctx, func(ctx context.Context) (*clientv3.StatusResponse, error) { return c.Status(ctx, o.Endpoints[0]) }); err != nil {
		return 0, dialError(ctx, o, fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	from, err := c.Snapshot(ctx)
	if err != nil {
		return 0, fmt.Errorf("snapshot of %s: %w", o.Endpoints[0], mapError(err))
	}
	defer from.Close()
	part := file + ".part"
	to, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // it holds credentials
	if err != nil {
		return 0, err
	}
	size, err = io.Copy(to, from)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err == nil {
		err = os.Rename(part, file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	if err != nil {
		_ = os.Remove(part) // the reason is err
		return 0, fmt.Errorf("snapshot of %s: %w", o.Endpoints[0], err)
	}
	return size, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// errHasData keeps what is there from being written over.
var errHasData = errors.New("there is a member with data: move its directory away first")

// RestoreSnapshot makes the data directory of the one member of a new cluster out of a snapshot. The others, with
// empty directories, join it when they start.
func RestoreSnapshot(o EmbeddedOptions, file string) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("embedded etcd: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "member")); err == nil {
		return fmt.Errorf("embedded etcd in %s: %w", dir, errHasData)
	}
	// etcd's restore wants a directory that does not exist, and the broker's may, empty.
	fresh := dir + ".restored"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	own := Peer{Name: cmp.Or(o.Name, "coldbrook"), URL: "http://127.0.0.1:2380"}
	if p, ok := o.self(); ok {
		own = p
	}
	err = snapshot.NewV3(quietZap()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, OutputDataDir: fresh, Name: own.Name, PeerURLs: []string{own.URL},
		InitialCluster: own.Name + "=" + own.URL, InitialClusterToken: rand.Text(),
	})
	if err == nil {
		err = os.Rename(filepath.Join(fresh, "member"), filepath.Join(dir, "member"))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err = errors.Join(err, os.RemoveAll(fresh)); err != nil {
		return fmt.Errorf("restore %s: %w", file, err)
	}
	return nil
}

// ForceNewCluster makes a member that stopped, and whose cluster lost its majority for good, the only one of its
// cluster, with the data it has. The others must never come back with theirs: wipe them, and they join.
func ForceNewCluster(ctx context.Context, o EmbeddedOptions) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("embedded etcd: %w", err)
	}
	if !wal.Exist(filepath.Join(dir, "member", "wal")) {
		return fmt.Errorf("embedded etcd in %s: it has no data: nothing could be kept", dir)
	}
	// It needs neither its addresses nor its peers for that.
	o.Peers, o.ListenPeers, o.ListenClients, o.AdvertiseClients = nil, nil, nil, nil
	o.forced = true
	e, err := StartEmbedded(ctx, o)
	if err != nil {
		return err
	}
	return e.Close()
}

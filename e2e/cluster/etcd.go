package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/coldbrook/coldbrook/e2e/ports"
)

// Etcd is an etcd of one member in this process, that brokers reach by TCP. It
// keeps its data and its address over Stop and Start.
type Etcd struct {
	client, peer url.URL
	dir          string
	run          *embed.Etcd
}

// NewEtcd prepares an etcd that listens on a free port of host; Start starts it.
func NewEtcd(dir, host string) (*Etcd, error) {
	e := &Etcd{dir: dir}
	for _, u := range []*url.URL{&e.client, &e.peer} {
		addr, err := ports.Free(host)
		if err != nil {
			return nil, err
		}
		*u = url.URL{Scheme: "http", Host: addr}
	}
	return e, nil
}

// Endpoint is its client URL.
func (e *Etcd) Endpoint() string { return e.client.String() }

// Start returns when it serves.
func (e *Etcd) Start(ctx context.Context) error {
	c := embed.NewConfig()
	c.Name, c.Dir = "test", e.dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{e.client}, []url.URL{e.client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{e.peer}, []url.URL{e.peer}
	c.InitialCluster = c.Name + "=" + e.peer.String()
	c.TickMs, c.ElectionMs = 10, 100 // alone, it waits for nobody's vote
	c.LogLevel = "fatal"             // it says much when it is stopped
	run, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	e.run = run
	select {
	case <-run.Server.ReadyNotify():
		return nil
	case err = <-run.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(fmt.Errorf("etcd: %w", err), e.Stop())
}

// Stop takes it away at once: asked to end, it would stop renewing leases first
// and still expire them.
func (e *Etcd) Stop() error {
	if e.run != nil {
		e.run.Server.HardStop()
		e.run.Close()
		e.run = nil
	}
	return nil
}

// Writes is how many changes it has agreed on so far: of keys and of leases.
// Renewed leases are none.
func (e *Etcd) Writes() int64 { return int64(e.run.Server.AppliedIndex()) }

package servers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/coldbrook/coldbrook/e2e/ports"
)

// EtcdServer is one member of an etcd cluster, with etcd's own defaults for
// everything but its addresses. Its methods are safe for concurrent use.
type EtcdServer struct {
	Name   string // m1, m2, …
	Client string // http://127.0.0.1:port
	Peer   string // http://127.0.0.1:port
	Dir    string // its data

	Server
}

// StartEtcd starts a new etcd cluster of so many members below dir, building
// etcd first when it is not cached. flags are given to all of them. The caller
// stops them.
func StartEtcd(ctx context.Context, dir string, members int, flags ...string) ([]*EtcdServer, error) {
	path, err := Binary(ctx, EtcdTool())
	if err != nil {
		return nil, err
	}
	var list []*EtcdServer
	var cluster []string
	for i := range members {
		s := &EtcdServer{Name: fmt.Sprintf("m%d", i+1)}
		for _, u := range []*string{&s.Client, &s.Peer} {
			addr, err := ports.Free("127.0.0.1")
			if err != nil {
				return nil, err
			}
			*u = "http://" + addr
		}
		s.Dir = filepath.Join(dir, s.Name)
		s.path, s.ready = path, s.Client+"/health"
		list, cluster = append(list, s), append(cluster, s.Name+"="+s.Peer)
	}
	for _, s := range list {
		s.args = append([]string{
			"--name", s.Name, "--data-dir", s.Dir, "--log-level", "warn",
			"--listen-client-urls", s.Client, "--advertise-client-urls", s.Client,
			"--listen-peer-urls", s.Peer, "--initial-advertise-peer-urls", s.Peer,
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-token", filepath.Base(dir),
		}, flags...)
		if _, err := s.spawn(); err != nil { // none is ready before a majority runs
			return nil, stopAll(list, err)
		}
	}
	for _, s := range list {
		if err := s.Start(ctx); err != nil {
			return nil, stopAll(list, err)
		}
	}
	return list, nil
}

// stopAll stops what runs after an error.
func stopAll(list []*EtcdServer, err error) error {
	errs := []error{err}
	for _, s := range list {
		errs = append(errs, s.Stop())
	}
	return errors.Join(errs...)
}

// ClientURLs are what --etcd of a broker wants.
func ClientURLs(list []*EtcdServer) string {
	urls := make([]string, len(list))
	for i, s := range list {
		urls[i] = s.Client
	}
	return strings.Join(urls, ",")
}

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

const (
	etcdCheck = "etcd"
	// manyAhead is where clocks differ so much that timestamps of records and
	// retention suffer.
	manyAhead = 2 * time.Second
)

// etcd checks where the metadata is: each member, and what they make together.
func (d *doctor) etcd(ctx context.Context) []finding {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	e := d.c.Etcd
	o := kv.DialOptions{Endpoints: e.Endpoints, Username: e.Username, Password: e.Password}
	var err error
	if o.TLS, err = e.TLSConfig(); err != nil {
		return []finding{bad(etcdCheck, "see the etcd.tls.* settings", "%v", err)}
	}
	switch {
	case !e.Embedded:
	case d.node != nil && len(e.AdvertiseClients) > 0:
		o.Endpoints = e.AdvertiseClients
	case d.node != nil && there(kv.SocketEndpoint(e.DataDir)):
		o.Endpoints, o.TLS = []string{kv.SocketEndpoint(e.DataDir)}, nil
	case len(e.Peers) > 0:
		return d.etcdPeers(ctx)
	default:
		return []finding{good(etcdCheck, "inside, in %s", e.DataDir)}
	}
	h, err := kv.Inspect(ctx, o)
	if err != nil {
		return []finding{bad(etcdCheck, "see --etcd and the etcd.* settings", "%v", err)}
	}
	return etcdFindings(h)
}

// there says whether the socket of an embedded etcd exists: the broker that runs may be one of another
// data directory.
func there(socket string) bool {
	_, err := os.Stat(strings.TrimPrefix(socket, "unix://"))
	return err == nil
}

// etcdFindings judges what etcd says of itself.
func etcdFindings(h kv.Health) []finding {
	var out, silent []string
	leader := "no leader"
	var more []finding
	for _, m := range h.Members {
		name := m.Name
		if name == "" {
			name = m.ID
		}
		if m.Err != nil {
			silent = append(silent, fmt.Sprintf("%s at %s: %v", name, m.URL, m.Err))
			continue
		}
		out = append(out, m.Version)
		if m.Leader {
			leader = "leader " + name + " answers in " + span(m.Took)
		}
		if m.Learner {
			more = append(more, warn(etcdCheck, "it gets its vote by itself when it has the data", "member %s has no vote yet", name))
		}
		if m.Ahead.Abs() >= manyAhead {
			more = append(more, warn(etcdCheck, "let both machines follow the same time servers", "the clock of member %s at %s differs from this machine's by %s", name, m.URL, span(m.Ahead.Abs())))
		}
		if m.Quota > 0 && m.Bytes > m.Quota/5*4 {
			more = append(more, warn(etcdCheck, "defragment it (etcdctl defrag), or give it a larger --quota-backend-bytes", "member %s uses %s of at most %s", name, size(m.Bytes), size(m.Quota)))
		}
	}
	slices.Sort(out)
	versions := strings.Join(slices.Compact(out), " and ")
	state := fmt.Sprintf("cluster %s: %d of %d members answer, %s, version %s", h.Cluster, len(h.Members)-len(silent), len(h.Members), leader, versions)
	first := good(etcdCheck, "%s", state)
	switch {
	case h.Quorum != nil:
		first = bad(etcdCheck, "start members until a majority runs: "+strings.Join(silent, "; "), "%s, and there is no quorum: %v", state, h.Quorum)
	case len(silent) > 0:
		first = warn(etcdCheck, "a majority is enough to go on, and there is less to spare", "%s; %s", state, strings.Join(silent, "; "))
	}
	all := append([]finding{first}, more...)
	if len(h.Alarms) > 0 {
		all = append(all, bad(etcdCheck, "compact and defragment it, then etcdctl alarm disarm", "it refuses writes: %s", strings.Join(h.Alarms, ", ")))
	}
	if h.Uncompacted > 0 {
		all = append(all, warn(etcdCheck, "start its members with --auto-compaction-mode=revision --auto-compaction-retention=10000",
			"nothing compacts it: it keeps %d revisions, and will be full one day", h.Uncompacted))
	}
	return all
}

// etcdPeers asks the other members while this broker does not run.
func (d *doctor) etcdPeers(ctx context.Context) []finding {
	e := d.c.Etcd
	answers, err := kv.AskPeers(ctx, memberOptions(e, d.c.NodeID))
	if err != nil {
		return []finding{bad(etcdCheck, "see --etcd-peers and the etcd.* settings", "%v", err)}
	}
	var out []finding
	cluster := ""
	for _, a := range answers {
		where := fmt.Sprintf("the member of node %s at %s", a.Peer.Name, a.Peer.URL)
		switch {
		case a.Cluster != "" && cluster != "" && a.Cluster != cluster:
			out = append(out, bad(etcdCheck, "one of them has another cluster's etcd.data.dir", "%s belongs to etcd cluster %s, others to %s", where, a.Cluster, cluster))
		case a.Cluster != "":
			cluster = a.Cluster
			out = append(out, good(etcdCheck, "%s answers, cluster %s", where, a.Cluster))
		case a.Waiting:
			out = append(out, good(etcdCheck, "%s has no data and waits for the others", where))
		default:
			out = append(out, warn(etcdCheck, "a start waits for a majority of the members, the very first one for all", "%s does not answer: %v", where, a.Err))
		}
	}
	if len(out) == 0 {
		out = append(out, good(etcdCheck, "inside, in %s", e.DataDir))
	}
	return out
}

// memberOptions are those of the member inside a broker, as far as others are
// asked with them.
func memberOptions(e config.Etcd, node int32) kv.EmbeddedOptions {
	o := kv.EmbeddedOptions{
		Dir: e.DataDir, Name: strconv.Itoa(int(node)), ListenPeers: e.ListenPeers, ListenClients: e.ListenClients, AdvertiseClients: e.AdvertiseClients,
		CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile,
	}
	for _, p := range e.Peers {
		o.Peers = append(o.Peers, kv.Peer{Name: strconv.Itoa(int(p.Node)), URL: p.URL})
	}
	return o
}

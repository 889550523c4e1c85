package kv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// origin is how a member without data begins.
type origin struct {
	created bool   // it makes the cluster
	initial string // else it joins these members, NAME=URL,…
}

func (b origin) apply(c *embed.Config) {
	if b.created {
		// etcd makes the cluster's id of this and of the URLs: without it, every
		// cluster that was ever made on these addresses would have the same one.
		c.InitialClusterToken = rand.Text()
		return
	}
	c.ClusterState, c.InitialCluster = embed.ClusterStateFlagExisting, b.initial
}

// formPoll is how often a member without data looks around.
const formPoll = 100 * time.Millisecond

// form finds the cluster of a member without data, or finds that it is to make
// one. Meanwhile it answers others that ask.
func (p *peers) form(ctx context.Context) (born origin, err error) {
	stop, err := p.answer(ctx)
	if err != nil {
		return origin{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var since, said time.Time // a cluster was first seen; what we wait for was last said
	begun := time.Now()
	for {
		seen := p.ask(ctx)
		if err := ctx.Err(); err != nil {
			return origin{}, context.Cause(ctx)
		}
		waits := ""
		if at := slices.IndexFunc(seen, func(s sighting) bool { return s.cluster != "" }); at >= 0 {
			if since.IsZero() {
				since = time.Now()
			}
			born, err := p.join(ctx, seen)
			if err == nil || !errors.Is(err, errTryAgain) {
				return born, err
			}
			if time.Since(since) > p.o.JoinTimeout {
				return origin{}, fmt.Errorf("cannot join etcd cluster %s: %w", seen[at].cluster, err)
			}
			waits = err.Error()
		} else if waits = p.awaits(seen); waits == "" {
			p.log.Info("etcd makes a new cluster", "members", listing(p.o.Peers))
			return origin{created: true}, nil
		}
		if time.Since(begun) >= askEvery && time.Since(said) >= sayEvery {
			said = time.Now()
			p.log.Warn("etcd is not ready", "waits_for", waits, "took", time.Since(begun).Round(time.Second))
		}
		select {
		case <-ctx.Done():
		case <-time.After(formPoll):
		}
	}
}

// awaits is what is missing for a new cluster, where no one has data; empty if
// this member is the one to make it.
func (p *peers) awaits(seen []sighting) string {
	var silent []string
	for _, s := range seen {
		switch {
		case s.waiting == nil:
			silent = append(silent, s.peer.Name+" at "+s.peer.URL)
		case s.waiting.Name != s.peer.Name:
			return fmt.Sprintf("the list of peers to be right: at %s, of node %s, answers node %s", s.peer.URL, s.peer.Name, s.waiting.Name)
		case s.waiting.Peers != listing(p.o.Peers):
			return fmt.Sprintf("the same list of peers in all members: node %s has %s, this one %s", s.peer.Name, s.waiting.Peers, listing(p.o.Peers))
		}
	}
	if len(silent) > 0 {
		return "the other members, as one could have the data of a cluster; these do not answer: " + strings.Join(silent, ", ")
	}
	first := slices.MinFunc(p.o.Peers, comparePeers)
	if first.Name != p.o.Name {
		return "node " + first.Name + " to make the cluster"
	}
	return ""
}

// comparePeers orders numbers as numbers.
func comparePeers(a, b Peer) int {
	if len(a.Name) != len(b.Name) {
		return len(a.Name) - len(b.Name)
	}
	return strings.Compare(a.Name, b.Name)
}

// errTryAgain is in the chain of errors that may go away.
var errTryAgain = errors.New("not yet")

// join makes this member one of a living cluster, in place of a dead one with
// its name or address.
func (p *peers) join(ctx context.Context, seen []sighting) (origin, error) {
	var cluster, at string
	var endpoints []string
	for _, s := range seen {
		if s.cluster == "" {
			continue
		}
		if cluster != "" && cluster != s.cluster {
			return origin{}, fmt.Errorf("the peers belong to two clusters: %s at %s, and %s at %s", cluster, at, s.cluster, s.peer.URL)
		}
		cluster, at = s.cluster, s.peer.URL
		for _, m := range s.members {
			if !m.Learner {
				endpoints = append(endpoints, m.ClientURLs...)
			}
		}
	}
	slices.Sort(endpoints)
	if len(endpoints) == 0 {
		return origin{}, fmt.Errorf("%w: no member of cluster %s has told where its clients connect", errTryAgain, cluster)
	}
	c, err := clientv3.New(clientv3.Config{
		Context: context.WithoutCancel(ctx), Endpoints: slices.Compact(endpoints), TLS: p.clientOf, DialTimeout: askTimeout, Logger: quietZap(),
	})
	if err != nil {
		return origin{}, err
	}
	defer c.Close()
	return p.enter(ctx, c, cluster, seen)
}

// enter goes through the changes of membership.
func (p *peers) enter(ctx context.Context, c *clientv3.Client, cluster string, seen []sighting) (origin, error) {
	ctx = clientv3.WithRequireLeader(ctx)
	list, err := step(ctx, c.MemberList)
	if err != nil {
		return origin{}, fmt.Errorf("%w: it has no quorum, of its members%s: %w. Start those that have their data first", errTryAgain, whoAnswers(seen), err)
	}
	if !reachable(list.Members, seen) {
		return origin{}, fmt.Errorf("%w: the members have not told the cluster their addresses", errTryAgain)
	}
	own, _ := p.o.self()
	for _, m := range list.Members {
		if m.Name != own.Name && !slices.Contains(m.PeerURLs, own.URL) {
			continue
		}
		if url, alive := p.alive(ctx, cluster, m); alive {
			return origin{}, fmt.Errorf("etcd cluster %s has a member %s (%s) already, which answers at %s, and this directory is empty: is another broker running with node.id %s?", cluster, own.Name, hexID(m.ID), url, own.Name)
		}
		p.log.Warn("etcd removes the dead member whose place this one takes", "member", hexID(m.ID), "name", m.Name, "urls", m.PeerURLs)
		_, err := step(ctx, func(ctx context.Context, _ ...clientv3.OpOption) (*clientv3.MemberRemoveResponse, error) {
			return c.MemberRemove(ctx, m.ID)
		})
		if err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
			return origin{}, fmt.Errorf("%w: remove the dead member %s: %w", errTryAgain, hexID(m.ID), err)
		}
	}
	if joining := learner(list.Members, own.Name); joining != "" {
		return origin{}, fmt.Errorf("%w: etcd takes one member at a time, and %s is joining", errTryAgain, joining)
	}
	added, err := step(ctx, func(ctx context.Context, _ ...clientv3.OpOption) (*clientv3.MemberAddResponse, error) {
		return c.MemberAddAsLearner(ctx, []string{own.URL})
	})
	if err != nil {
		return origin{}, fmt.Errorf("%w: %w", errTryAgain, err)
	}
	p.log.Info("etcd joins a cluster", "cluster", cluster, "member", hexID(added.Member.ID), "name", own.Name)
	return origin{initial: initialCluster(added.Members, added.Member.ID, own.Name)}, nil
}

// stepTimeout bounds one change of membership. Of two changes at a time etcd
// drops one without a word.
const stepTimeout = time.Second

func step[T any](ctx context.Context, call func(context.Context, ...clientv3.OpOption) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return call(ctx)
}

// alive reports whether a listed member answers at one of its addresses. At our
// own it is us who answer, unless somebody else is there.
func (p *peers) alive(ctx context.Context, cluster string, m *etcdserverpb.Member) (url string, ok bool) {
	for _, u := range m.PeerURLs {
		if s := p.askOne(ctx, Peer{Name: m.Name, URL: u}); s.cluster == cluster {
			return u, true
		}
	}
	return "", false
}

// reachable reports whether a member answered at an address that the cluster
// has of it.
func reachable(list []*etcdserverpb.Member, seen []sighting) bool {
	return slices.ContainsFunc(list, func(m *etcdserverpb.Member) bool {
		return slices.ContainsFunc(seen, func(s sighting) bool { return s.cluster != "" && slices.Contains(m.PeerURLs, s.peer.URL) })
	})
}

// whoAnswers says which members of a cluster can be reached, for a sentence.
func whoAnswers(seen []sighting) string {
	var out []string
	for _, s := range seen {
		state := "does not answer"
		switch {
		case s.cluster != "":
			state = "answers"
		case s.waiting != nil:
			state = "has no data"
		}
		out = append(out, fmt.Sprintf(" %s (%s) %s", s.peer.Name, s.peer.URL, state))
	}
	return strings.Join(out, ",")
}

// learner names another member that is still joining.
func learner(list []*etcdserverpb.Member, self string) string {
	for _, m := range list {
		if m.IsLearner && m.Name != self {
			return strings.TrimSpace(m.Name + " at " + strings.Join(m.PeerURLs, ","))
		}
	}
	return ""
}

// initialCluster is etcd's way to write the members down. Those that never
// started have no name and get their id's.
func initialCluster(members []*etcdserverpb.Member, self uint64, name string) string {
	var out []string
	for _, m := range members {
		as := m.Name
		switch {
		case m.ID == self:
			as = name
		case as == "" || as == name:
			as = hexID(m.ID)
		}
		for _, u := range m.PeerURLs {
			out = append(out, as+"="+u)
		}
	}
	return strings.Join(out, ",")
}

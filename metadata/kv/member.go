package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// member is an Embedded that is being started.
type member struct {
	o           EmbeddedOptions
	dir, socket string
	quiet       *atomic.Bool
	cluster     *peers // how the other members are asked; nil if there are none
}

var errStopped = errors.New("etcd stopped")

// errRemoved is the end of a member whose place was taken.
var errRemoved = errors.New("this member was removed from its etcd cluster; to let it join anew, stop the broker and delete the directory")

func (m *member) start(ctx context.Context) (*Embedded, error) {
	c, err := embeddedConfig(m.o, m.dir, m.socket, m.quiet)
	if err != nil {
		return nil, err
	}
	if len(m.o.Peers) > 0 {
		if m.cluster, err = newPeers(m.o, c.PeerTLSInfo, c.ClientTLSInfo); err != nil {
			return nil, err
		}
		defer m.cluster.close()
	}
	e, born, err := m.run(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := m.settle(ctx, e, born); err != nil {
		m.quiet.Store(true)
		if !ready(e) {
			e.Server.HardStop() // Close would wait for its listeners, and they for it
		}
		e.Close()
		return nil, err
	}
	kv := &etcd{client: v3client.New(e.Server), maxOps: embeddedMaxTxnOps, timeout: m.o.RequestTimeout, newLeader: e.Server.LeaderChangedNotify}
	emb := &Embedded{etcd: e, kv: kv, socket: m.socket, unlink: filepath.Dir(m.socket) != m.dir, quiet: m.quiet}
	if err := m.moved(ctx, emb); err != nil {
		return nil, errors.Join(err, emb.Close())
	}
	return emb, m.care(ctx, emb, c)
}

// care starts the member's housekeeping, which Close ends.
func (m *member) care(ctx context.Context, e *Embedded, c *embed.Config) error {
	k := &keeper{e: e, size: e.Size, log: m.o.Logger}
	if m.o.CertFile != "" {
		var err error
		if k.tls, err = c.ClientTLSInfo.ClientConfig(); err != nil {
			return errors.Join(err, e.Close())
		}
	}
	ctx, e.endCare = context.WithCancel(context.WithoutCancel(ctx))
	e.caring.Go(func() { k.keep(ctx, cmp.Or(m.o.LookEvery, defaultLookEvery)) })
	return nil
}

// joinAttempts is how often a member tries to begin. The list of members that it
// was given may be old by the time it starts with it.
const joinAttempts = 3

// run starts etcd with its data, or as a new member of its cluster.
func (m *member) run(ctx context.Context, c *embed.Config) (*embed.Etcd, origin, error) {
	for attempt := 1; ; attempt++ {
		if m.cluster == nil || wal.Exist(filepath.Join(m.dir, "member", "wal")) {
			e, err := embed.StartEtcd(c)
			return e, origin{}, err
		}
		born, err := m.cluster.form(ctx)
		if err != nil {
			return nil, origin{}, err
		}
		born.apply(c)
		// etcd would have members wait for 5 s before the next one may join. Those
		// that have just begun only add learners, which is safe at any time.
		c.StrictReconfigCheck = false
		e, err := embed.StartEtcd(c)
		if err == nil || born.created || attempt == joinAttempts {
			return e, born, err
		}
		m.o.Logger.Warn("etcd could not join", "err", err)
	}
}

func ready(e *embed.Etcd) bool {
	select {
	case <-e.Server.ReadyNotify():
		return true
	default:
		return false
	}
}

const (
	settlePoll = 20 * time.Millisecond // of our own member's state
	askEvery   = 2 * time.Second       // other members are asked what they see
	sayEvery   = 10 * time.Second      // what is waited for is said again
)

// settle returns when the member serves as a voter of a cluster that has all it
// needs.
func (m *member) settle(ctx context.Context, e *embed.Etcd, born origin) error {
	poll := time.NewTicker(settlePoll)
	defer poll.Stop()
	var asked, said time.Time
	begun := time.Now()
	for {
		select {
		case err := <-e.Err():
			return m.stopped(ctx, e, err)
		case <-e.Server.StopNotify():
			return m.stopped(ctx, e, errStopped)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
		missing := m.missing(ctx, e, born)
		if missing == "" {
			return m.sameCluster(ctx, e)
		}
		if m.cluster == nil || time.Since(asked) < askEvery || time.Since(begun) < askEvery {
			continue
		}
		asked = time.Now()
		if err := m.sameCluster(ctx, e); err != nil {
			return err
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			m.o.Logger.Warn("etcd is not ready", "waits_for", missing, "took", time.Since(begun).Round(time.Second))
		}
	}
}

// missing is what the member waits for, empty when it is ready.
func (m *member) missing(ctx context.Context, e *embed.Etcd, born origin) string {
	switch {
	case !ready(e) && m.cluster == nil:
		return "its election"
	case !ready(e):
		return "a majority of the members " + namesOf(m.o.Peers) + m.cluster.silent(ctx)
	case e.Server.IsLearner():
		if e.Server.Leader() == 0 {
			return "a leader"
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		// It is refused until the leader has sent all there is.
		if _, err := e.Server.PromoteMember(ctx, uint64(e.Server.MemberID())); err != nil {
			return "the data of the cluster: " + err.Error()
		}
		return "its vote"
	case born.created && voters(e) <= len(m.o.Peers)/2:
		return "a majority of the members " + namesOf(m.o.Peers) + " to join the new cluster"
	}
	return ""
}

func voters(e *embed.Etcd) int {
	n := 0
	for _, m := range e.Server.Cluster().Members() {
		if !m.IsLearner {
			n++
		}
	}
	return n
}

// sameCluster is an error when another member belongs to another cluster.
func (m *member) sameCluster(ctx context.Context, e *embed.Etcd) error {
	if m.cluster == nil {
		return nil
	}
	ours := e.Server.Cluster().ID().String()
	for _, s := range m.cluster.ask(ctx) {
		if s.cluster != "" && s.cluster != ours {
			return fmt.Errorf("the data is of etcd cluster %s, and the member at %s belongs to cluster %s: this directory is another cluster's, or the list of peers is", ours, s.peer.URL, s.cluster)
		}
	}
	return nil
}

// stopped says why the member stopped by itself.
func (m *member) stopped(ctx context.Context, e *embed.Etcd, err error) error {
	if m.cluster != nil {
		for _, s := range m.cluster.ask(ctx) {
			known := slices.ContainsFunc(s.members, func(o memberInfo) bool { return o.ID == uint64(e.Server.MemberID()) })
			if s.cluster == e.Server.Cluster().ID().String() && !known {
				return errRemoved
			}
		}
	}
	return err
}

// moved tells the cluster when this member has another address than it had.
func (m *member) moved(ctx context.Context, e *Embedded) error {
	own, ok := m.o.self()
	if !ok {
		return nil
	}
	id := e.etcd.Server.MemberID()
	if me := e.etcd.Server.Cluster().Member(id); me == nil || slices.Equal(me.PeerURLs, []string{own.URL}) {
		return nil
	}
	m.o.Logger.Info("etcd member has a new address", "url", own.URL)
	if _, err := e.kv.client.MemberUpdate(ctx, uint64(id), []string{own.URL}); err != nil {
		return fmt.Errorf("tell the cluster the address %s: %w", own.URL, err)
	}
	return nil
}

// Wait returns nil when ctx ends, or the error with which the member stopped.
func (e *Embedded) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-e.etcd.Server.StopNotify():
		if s := e.etcd.Server; s.Cluster().Member(s.MemberID()) == nil {
			return fmt.Errorf("embedded etcd: %w", errRemoved)
		}
		return fmt.Errorf("embedded: %w", errStopped)
	case err, ok := <-e.etcd.Err():
		if !ok {
			return nil
		}
		return fmt.Errorf("embedded etcd: %w", err)
	}
}

// Cluster is etcd's number of the cluster, as its tools show it.
func (e *Embedded) Cluster() string { return e.etcd.Server.Cluster().ID().String() }

// Leading reports whether this member is the leader of its cluster.
func (e *Embedded) Leading() bool { return e.etcd.Server.Leader() == e.etcd.Server.MemberID() }

// HasLeader reports whether this member knows a leader, which it does while a majority of the members is there.
func (e *Embedded) HasLeader() bool { return e.etcd.Server.Leader() != 0 }

// Close stops the member and returns when it has let go of its files.
func (e *Embedded) Close() error {
	var err error
	e.once.Do(func() {
		e.quiet.Store(true)
		if e.endCare != nil {
			e.endCare()
			e.caring.Wait()
		}
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

// hexID is how etcd writes ids.
func hexID(id uint64) string { return strconv.FormatUint(id, 16) }

package kv

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Health is the state of an etcd cluster, for a person.
type Health struct {
	Cluster string // etcd's number of it
	Quorum  error  // nil: it has one
	Members []MemberHealth
	Alarms  []string // as etcd says them
	// Uncompacted is how many revisions are kept because nothing ever compacted
	// them; 0: something does, or there are few.
	Uncompacted int64
}

// MemberHealth is one member.
type MemberHealth struct {
	Name    string // empty: it never started
	ID      string
	URL     string // for clients
	Err     error  // it does not answer
	Version string
	Leader  bool
	Learner bool          // it has no vote yet
	Bytes   int64         // of its database
	Quota   int64         // largest size of that
	Ahead   time.Duration // its clock, to the second; 0 if not known
	Took    time.Duration // of the answer
}

// manyRevisions is where it shows that nobody compacts.
const manyRevisions = 20_000

// Inspect asks all members of a cluster. The error says that not even one
// answers.
func Inspect(ctx context.Context, o DialOptions) (Health, error) {
	c, err := clientv3.New(clientv3.Config{
		Context: context.WithoutCancel(ctx), Endpoints: o.Endpoints, Username: o.Username, Password: o.Password, TLS: o.TLS,
		DialTimeout: dialTimeout, Logger: quietZap(),
	})
	if err != nil {
		return Health{}, dialError(ctx, o, mapError(err))
	}
	defer c.Close()
	var h Health
	list, err := withTimeout(ctx, func(ctx context.Context) (*clientv3.MemberListResponse, error) {
		return c.MemberList(clientv3.WithRequireLeader(ctx))
	})
	if err != nil {
		h.Quorum = mapError(err)
		list, err = withTimeout(ctx, func(ctx context.Context) (*clientv3.MemberListResponse, error) {
			return c.MemberList(ctx, clientv3.WithSerializable())
		})
		if err != nil {
			return Health{}, dialError(ctx, o, fmt.Errorf("%w: %w", ErrUnavailable, err))
		}
	}
	h.Cluster = hexID(list.Header.ClusterId)
	h.Members = make([]MemberHealth, len(list.Members))
	alarms := make([][]string, len(list.Members))
	var wg sync.WaitGroup
	for i, m := range list.Members {
		wg.Go(func() { h.Members[i], alarms[i] = inspectMember(ctx, c, m, o.TLS) })
	}
	wg.Wait()
	slices.SortFunc(h.Members, func(a, b MemberHealth) int { return cmp.Compare(a.Name, b.Name) })
	h.Alarms = slices.Concat(alarms...)
	slices.Sort(h.Alarms)
	h.Alarms = slices.Compact(h.Alarms)
	if h.Quorum == nil {
		h.Uncompacted = uncompacted(ctx, c)
	}
	return h, nil
}

func withTimeout[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return call(ctx)
}

func inspectMember(ctx context.Context, c *clientv3.Client, m *etcdserverpb.Member, config *tls.Config) (MemberHealth, []string) {
	h := MemberHealth{Name: m.Name, ID: hexID(m.ID), Learner: m.IsLearner, URL: strings.Join(m.ClientURLs, ",")}
	h.Err = errors.New("it never started")
	for _, u := range m.ClientURLs {
		begun := time.Now()
		s, err := withTimeout(ctx, func(ctx context.Context) (*clientv3.StatusResponse, error) { return c.Status(ctx, u) })
		if h.Err = err; err != nil {
			if why := reach(ctx, u, config); why != nil {
				h.Err = why // etcd's client says no more than that time is up
			}
			continue
		}
		h.URL, h.Took = u, time.Since(begun)
		h.Version, h.Bytes, h.Quota, h.Leader = s.Version, s.DbSize, s.DbSizeQuota, s.Leader == m.ID
		h.Ahead = clock(ctx, u, config)
		return h, s.Errors
	}
	return h, nil
}

// clock is how far the clock of a member is ahead of ours, as far as the date
// of an answer tells: a difference of a second is none.
func clock(ctx context.Context, base string, config *tls.Config) time.Duration {
	if !strings.HasPrefix(base, "http") {
		return 0
	}
	tr := &http.Transport{DisableKeepAlives: true, Proxy: nil, TLSClientConfig: config.Clone()}
	client := &http.Client{Transport: tr, Timeout: askTimeout}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/version", nil)
	if err != nil {
		return 0
	}
	begun := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // only its date counts
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0
	}
	now := begun.Add(time.Since(begun) / 2)
	ahead := at.Add(500 * time.Millisecond).Sub(now).Round(time.Second) // the date is cut to the second
	if ahead.Abs() <= time.Second {
		return 0
	}
	return ahead
}

// uncompacted is how many revisions there are if the first is still kept.
func uncompacted(ctx context.Context, c *clientv3.Client) int64 {
	resp, err := withTimeout(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.Get(ctx, "/coldbrook/", clientv3.WithRev(1), clientv3.WithCountOnly())
	})
	if err != nil || resp.Header.Revision < manyRevisions {
		return 0 // most of all rpctypes.ErrCompacted
	}
	return resp.Header.Revision
}

// allowed reports whether an answer shows that etcd knows the user: what a role
// of its own may not do elsewhere is no concern.
func allowed(err error) bool { return err == nil || errors.Is(err, rpctypes.ErrPermissionDenied) }

// SocketEndpoint is where an embedded member with that data directory serves
// etcdctl, if it runs.
func SocketEndpoint(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return "unix://" + socketPath(dir, "")
}

// PeerState is what another member of an embedded cluster answers.
type PeerState struct {
	Peer    Peer
	Cluster string // etcd's number of its cluster
	Waiting bool   // it has no data and waits for the others
	Err     error  // it does not answer
}

// AskPeers asks the other members of an embedded cluster at their addresses.
func AskPeers(ctx context.Context, o EmbeddedOptions) ([]PeerState, error) {
	c, err := embeddedConfig(o, o.Dir, "", nil)
	if err != nil {
		return nil, err
	}
	p, err := newPeers(o, c.PeerTLSInfo, c.ClientTLSInfo)
	if err != nil {
		return nil, err
	}
	defer p.close()
	var out []PeerState
	for _, s := range p.ask(ctx) {
		out = append(out, PeerState{Peer: s.peer, Cluster: s.cluster, Waiting: s.waiting != nil, Err: s.err})
	}
	return out, nil
}

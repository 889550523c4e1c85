package kv

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// peers asks the other members of a cluster what they are, at the addresses
// where etcd serves its members.
type peers struct {
	o        EmbeddedOptions
	log      *slog.Logger
	http     *http.Client
	serving  *tls.Config // of our address; nil: plain
	clientOf *tls.Config // to reach other members as a client; nil: plain
}

// tlsSource is what etcd makes TLS configurations from.
type tlsSource interface {
	ServerConfig() (*tls.Config, error)
	ClientConfig() (*tls.Config, error)
}

func newPeers(o EmbeddedOptions, peer, client tlsSource) (*peers, error) {
	p := &peers{o: o, log: o.Logger}
	tr := &http.Transport{DisableKeepAlives: true, Proxy: nil}
	if o.CertFile != "" {
		var err error
		if p.serving, err = peer.ServerConfig(); err != nil {
			return nil, err
		}
		if tr.TLSClientConfig, err = peer.ClientConfig(); err != nil {
			return nil, err
		}
		if p.clientOf, err = client.ClientConfig(); err != nil {
			return nil, err
		}
	}
	p.http = &http.Client{Transport: tr, Timeout: askTimeout}
	return p, nil
}

func (p *peers) close() { p.http.CloseIdleConnections() }

// membersPath is where etcd lists the members of its cluster to other members.
const membersPath = "/members"

const (
	askTimeout    = 2 * time.Second
	maxAnswer     = 1 << 20
	clusterHeader = "X-Etcd-Cluster-Id"
)

// sighting is what was seen at a peer's address.
type sighting struct {
	peer    Peer
	cluster string       // of the etcd that answers there
	members []memberInfo // as that etcd knows them; it may be behind
	waiting *waiting     // a member without data answers there
	err     error        // nothing does
}

// memberInfo is etcd's description of a member.
type memberInfo struct {
	ID         uint64   `json:"id"`
	Name       string   `json:"name"` // empty: it never started
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	Learner    bool     `json:"isLearner"`
}

// waiting is what a member without data answers until it has a cluster.
type waiting struct {
	Name  string `json:"name"`
	Peers string `json:"peers"` // its list
}

// ask asks all other members at once.
func (p *peers) ask(ctx context.Context) []sighting {
	others := p.o.others()
	out := make([]sighting, len(others))
	var wg sync.WaitGroup
	for i, peer := range others {
		wg.Go(func() { out[i] = p.askOne(ctx, peer) })
	}
	wg.Wait()
	return out
}

func (p *peers) askOne(ctx context.Context, peer Peer) sighting {
	s := sighting{peer: peer}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peer.URL+membersPath, nil)
	if err != nil {
		s.err = err
		return s
	}
	resp, err := p.http.Do(req)
	if err != nil {
		s.err = err
		return s
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		s.err = err
		return s
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		s.waiting = &waiting{}
		s.err = json.Unmarshal(body, s.waiting)
		return s
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get(clusterHeader) == "" {
		s.err = fmt.Errorf("%s is no etcd: %s", peer.URL, resp.Status)
		return s
	}
	if s.err = json.Unmarshal(body, &s.members); s.err == nil {
		s.cluster = resp.Header.Get(clusterHeader)
	}
	return s
}

// silent names the other members that do not answer, for a sentence.
func (p *peers) silent(ctx context.Context) string {
	var names []string
	for _, s := range p.ask(ctx) {
		if s.cluster == "" {
			names = append(names, s.peer.Name+" at "+s.peer.URL)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ", of which these do not answer: " + strings.Join(names, ", ")
}

func namesOf(list []Peer) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// listing is a list of peers that does not depend on its order.
func listing(list []Peer) string {
	entries := make([]string, len(list))
	for i, p := range list {
		entries[i] = p.Name + "=" + p.URL
	}
	slices.Sort(entries)
	return strings.Join(entries, ",")
}

// answer serves on this member's address, until stop, that it has no data.
func (p *peers) answer(ctx context.Context) (stop func() error, err error) {
	body, err := json.Marshal(waiting{Name: p.o.Name, Peers: listing(p.o.Peers)})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+membersPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(body) // who asked asks again
	})
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: askTimeout, IdleTimeout: askTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // others' handshakes
	}
	var serving sync.WaitGroup
	stop = func() error {
		err := srv.Close()
		serving.Wait()
		return err
	}
	for _, raw := range p.o.ListenPeers {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", u.Host)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for peers: %w", err), stop())
		}
		if u.Scheme == "https" {
			l = tls.NewListener(l, p.serving)
		}
		serving.Go(func() { _ = srv.Serve(l) }) // it ends with stop
	}
	return stop, nil
}

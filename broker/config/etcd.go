package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Etcd says where the metadata is.
type Etcd struct {
	Endpoints []string // empty: Embedded

	Embedded         bool       // a member runs in this process
	Peers            []EtcdPeer // all members, this one too, by node; empty: it is alone
	ListenPeers      []string   // URLs of addresses; empty if it is alone
	ListenClients    []string   // URLs of addresses; empty: only its socket
	AdvertiseClients []string   // URLs; for each of ListenClients, or more
	DataDir          string     // of the member, absolute

	Username       string
	Password       string
	CAFile         string
	CertFile       string
	KeyFile        string
	ServerName     string
	QuotaBytes     int64 // of the member's file
	RequestTimeout time.Duration
}

// EtcdPeer is a broker with an etcd member inside.
type EtcdPeer struct {
	Node int32
	URL  string // where other members reach it
}

// resolveEtcd fills where etcd is, and what the one inside listens on.
func (s *Settings) resolveEtcd(r *reader, b *Broker) error {
	e := Etcd{
		Endpoints:        r.list("etcd.endpoints"),
		ListenPeers:      r.list("etcd.listen.peer.urls"),
		ListenClients:    r.list("etcd.listen.client.urls"),
		AdvertiseClients: r.list("etcd.advertise.client.urls"),
		DataDir:          filepath.Join(b.DataDir, "etcd"),
		Username:         r.text("etcd.username"),
		Password:         r.text("etcd.password"),
		CAFile:           r.text("etcd.tls.ca.file"),
		CertFile:         r.text("etcd.tls.cert.file"),
		KeyFile:          r.text("etcd.tls.key.file"),
		ServerName:       r.text("etcd.tls.server.name"),
		QuotaBytes:       r.long("etcd.quota.bytes"),
		RequestTimeout:   r.ms("etcd.request.timeout.ms"),
	}
	if dir := r.text("etcd.data.dir"); dir != "" {
		e.DataDir = absolute(dir)
	}
	e.Embedded = len(e.Endpoints) == 0
	if _, given := r.get("etcd.embedded"); given {
		e.Embedded = r.flag("etcd.embedded")
	}
	var err error
	if e.Peers, err = parsePeers(r.text("etcd.peers")); err != nil {
		return s.at("etcd.peers", "%v", err)
	}
	if err := s.checkEtcd(&e); err != nil {
		return err
	}
	b.Etcd = e
	if !e.Embedded {
		return nil
	}
	return s.resolveMember(b)
}

// checkEtcd holds the rules between the settings of etcd.
func (s *Settings) checkEtcd(e *Etcd) error {
	switch {
	case (e.CertFile == "") != (e.KeyFile == ""):
		return s.at("etcd.tls.cert.file", "etcd.tls.cert.file and etcd.tls.key.file go together")
	case e.Embedded && len(e.Endpoints) > 0:
		return s.at("etcd.endpoints", "etcd.endpoints is an etcd elsewhere and etcd.embedded one inside: choose one; the members inside are listed in etcd.peers")
	case !e.Embedded && len(e.Endpoints) == 0:
		return s.at("etcd.embedded", "without an etcd inside, etcd.endpoints must say where it is")
	case e.Embedded && e.Username != "":
		return s.at("etcd.username", "etcd.username needs etcd.endpoints: the embedded etcd has no users")
	case e.Embedded:
		return nil
	}
	for _, name := range []string{"etcd.peers", "etcd.listen.peer.urls", "etcd.listen.client.urls", "etcd.advertise.client.urls"} {
		if v, ok := s.Get(name); ok && v != "" {
			return s.at(name, "%s is for an etcd inside (etcd.embedded), and etcd.endpoints says it is elsewhere", name)
		}
	}
	return nil
}

// resolveMember fills the addresses of the member inside.
func (s *Settings) resolveMember(b *Broker) error {
	e := &b.Etcd
	if len(e.Peers) == 0 {
		if len(e.ListenPeers) > 0 {
			return s.at("etcd.listen.peer.urls", "etcd.listen.peer.urls needs etcd.peers")
		}
		if len(e.AdvertiseClients) == 0 {
			e.AdvertiseClients = slices.Clone(e.ListenClients)
		}
		return s.checkMember(e, nil)
	}
	at := slices.IndexFunc(e.Peers, func(p EtcdPeer) bool { return p.Node == b.NodeID })
	if at < 0 {
		return s.at("etcd.peers", "this is node %d, which etcd.peers does not list: a broker without an etcd member inside has etcd.endpoints (--etcd)", b.NodeID)
	}
	own, err := url.Parse(e.Peers[at].URL)
	if err != nil {
		return s.at("etcd.peers", "%s: not a URL", e.Peers[at].URL)
	}
	if len(e.ListenPeers) == 0 {
		host := own.Hostname()
		if net.ParseIP(host) == nil && host != "localhost" {
			host = "0.0.0.0" // a name may be an address of something in front of this machine
		}
		e.ListenPeers = []string{own.Scheme + "://" + net.JoinHostPort(host, own.Port())}
	}
	if len(e.ListenClients) == 0 {
		for _, peer := range e.ListenPeers {
			e.ListenClients = append(e.ListenClients, portBelow(peer))
		}
	}
	if len(e.AdvertiseClients) == 0 {
		for _, listen := range e.ListenClients {
			e.AdvertiseClients = append(e.AdvertiseClients, reachable(listen, own.Hostname()))
		}
	}
	return s.checkMember(e, own)
}

// checkMember refuses addresses that others could not use. own is this member's URL, nil if it is alone.
func (s *Settings) checkMember(e *Etcd, own *url.URL) error {
	for _, u := range e.AdvertiseClients {
		if ip := net.ParseIP(hostOf(u)); ip != nil && ip.IsUnspecified() {
			return s.at("etcd.listen.client.urls", "nobody can connect to %s: set etcd.advertise.client.urls", u)
		}
	}
	secure := own != nil && own.Scheme == "https"
	for _, u := range slices.Concat(e.ListenPeers, e.ListenClients) {
		secure = secure || strings.HasPrefix(u, "https:")
	}
	if secure && (e.CertFile == "" || e.CAFile == "") {
		return s.at("etcd.peers", "an etcd inside with https needs etcd.tls.cert.file, etcd.tls.key.file and etcd.tls.ca.file")
	}
	return nil
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// portBelow is the URL with the port one below: etcd's two ports are neighbours.
func portBelow(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return raw
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), strconv.Itoa(port-1))
}

// reachable is the URL with another host if it is that of every interface.
func reachable(raw, host string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsUnspecified() {
		return raw
	}
	return u.Scheme + "://" + net.JoinHostPort(host, u.Port())
}

// parsePeers reads NODE=URL,….
func parsePeers(value string) ([]EtcdPeer, error) {
	var out []EtcdPeer
	for _, part := range splitList(value) {
		node, address, found := strings.Cut(part, "=")
		if !found {
			return nil, fmt.Errorf("%s: want NODE=http://HOST:PORT", part)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(node), 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s: %q is not a node.id", part, node)
		}
		p := EtcdPeer{Node: int32(n), URL: strings.TrimSuffix(strings.TrimSpace(address), "/")}
		if err := checkURL(p.URL); err != nil {
			return nil, err
		}
		if port := portOf(p.URL); port < 2 {
			return nil, fmt.Errorf("%s: want a port of 2 or more", part)
		}
		for _, q := range out {
			if q.Node == p.Node || q.URL == p.URL {
				return nil, fmt.Errorf("%s is there twice", part)
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b EtcdPeer) int { return cmp.Compare(a.Node, b.Node) })
	return out, nil
}

func portOf(raw string) int {
	u, err := url.Parse(raw)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		return 0
	}
	return n
}

func checkPeers(v string) error {
	_, err := parsePeers(v)
	return err
}

func checkURLs(v string) error {
	for _, part := range splitList(v) {
		if err := checkURL(part); err != nil {
			return err
		}
	}
	return nil
}

// checkListenURLs refuses what etcd cannot listen on: names of hosts.
func checkListenURLs(v string) error {
	if err := checkURLs(v); err != nil {
		return err
	}
	for _, part := range splitList(v) {
		if host := hostOf(part); host != "localhost" && net.ParseIP(host) == nil {
			return fmt.Errorf("%s: want an IP address to listen on; 0.0.0.0 is every interface", part)
		}
	}
	return nil
}

func checkURL(v string) error {
	u, err := url.Parse(v)
	if err != nil {
		return fmt.Errorf("%s: not a URL", v)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" {
		return fmt.Errorf("%s: want http://HOST:PORT or https://HOST:PORT", v)
	}
	if _, err := strconv.ParseUint(u.Port(), 10, 16); err != nil {
		return errors.New(v + ": the port is missing or not between 0 and 65535")
	}
	return nil
}

func checkEndpoints(v string) error {
	for _, part := range splitList(v) {
		u, err := url.Parse(part)
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
			continue
		}
		if err == nil && (u.Scheme == "unix" || u.Scheme == "unixs") {
			continue
		}
		_, port, err := net.SplitHostPort(part)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return fmt.Errorf("%s: want http://HOST:PORT, https://HOST:PORT or HOST:PORT", part)
		}
	}
	return nil
}

package console

import (
	"crypto/subtle"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// TokenHeader is what every request must bring that changes something or reads the whole store. A browser sends a
// header of that name for another site's page only after asking, and is never answered. Its value is the token of
// http.token where there is one, else anything.
const TokenHeader = "X-Coldbrook-Token"

// Access says who gets in. The zero Access is that of a listener on the loopback: names of this machine, no secret.
type Access struct {
	// Hosts are names, beside addresses and localhost, under which this broker is asked; "*" is every name. Any other
	// name is another site's, whose owner let it point here (DNS rebinding).
	Hosts []string
	// Remote says that the listener is not on the loopback: profiles and changes are refused to all but this machine.
	Remote bool
	// Admin allows them to all, or with false to none; nil leaves it to Remote.
	Admin *bool
	Token string // empty: there is none
}

// guarded answers requests that come from where they may.
func (s *Server) guarded(w http.ResponseWriter, r *http.Request) {
	switch {
	case !s.known(r.Host):
		answer(w, http.StatusForbidden, problem{Error: "this broker is not asked under the name " + clipped(r.Host) +
			": use its address, or add the name to http.allowed.hosts"})
	case crossSite(r):
		answer(w, http.StatusForbidden, problem{Error: "a page of another site asks"})
	default:
		s.mux.ServeHTTP(w, r)
	}
}

// clipped bounds what is shown of a header.
func clipped(v string) string {
	if len(v) > 100 {
		return v[:100] + "…"
	}
	return v
}

// known says whether a Host header names this broker. Programs without one are no browsers. An address cannot be made
// to point here by anybody else; its port may be that of a tunnel.
func (s *Server) known(host string) bool {
	name := hostOnly(host)
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return name != "" || host == ""
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return slices.ContainsFunc(s.o.Access.Hosts, func(h string) bool { return h == "*" || h != "" && hostOnly(h) == name })
}

// hostOnly is the name or address of HOST, HOST:PORT or [HOST]:PORT, in lower case and without the final dot.
func hostOnly(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// crossSite says whether a browser asks for a page that is not ours. A link that somebody follows is no such thing.
func crossSite(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || !strings.EqualFold(u.Host, r.Host) {
			return true // "null" is a page in a sandbox, or of a file
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Method != http.MethodGet
}

// deliberate lets only requests through that no page of another site can make a browser send: with the token's header.
func (s *Server) deliberate(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		given, want := r.Header.Get(TokenHeader), s.o.Access.Token
		switch {
		case given == "":
			answer(w, http.StatusForbidden, problem{Error: "want the header " + TokenHeader})
		case want != "" && subtle.ConstantTimeCompare([]byte(given), []byte(want)) != 1:
			answer(w, http.StatusForbidden, problem{Error: "the token in " + TokenHeader + " is not the one of http.token (COLDBROOK_HTTP_TOKEN)"})
		default:
			next(w, r)
		}
	}
}

// changing is for requests that change something: a POST of JSON, deliberate, from who may.
func (s *Server) changing(next http.HandlerFunc) http.HandlerFunc {
	return s.admin(func(w http.ResponseWriter, r *http.Request) {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			answer(w, http.StatusUnsupportedMediaType, problem{Error: "want Content-Type: application/json"})
			return
		}
		s.deliberate(next)(w, r)
	})
}

// admin refuses profiles and changes to those who only reach the port, unless a setting says otherwise.
func (s *Server) admin(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.mayAdmin(r) {
			answer(w, http.StatusForbidden, problem{Error: "profiles and changes are for this machine only, or for all with http.admin.enable=true"})
			return
		}
		next(w, r)
	}
}

func (s *Server) mayAdmin(r *http.Request) bool {
	if s.o.Access.Admin != nil {
		return *s.o.Access.Admin
	}
	return !s.o.Access.Remote || loopback(r.RemoteAddr) && loopback(r.Host)
}

// loopback says whether HOST:PORT or HOST is on this machine.
func loopback(hostport string) bool {
	host := hostOnly(hostport)
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.Unmap().IsLoopback()
}

// single lets one long check run at a time: each reads as much of the store as it is let.
type single struct {
	mu    sync.Mutex
	name  string // of the check that runs; empty: none
	since time.Time
}

// begin returns what ends the check, or the name of the one that runs and for how long it has.
func (c *single) begin(name string) (end func(), busy string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.name != "" {
		return nil, c.name, time.Since(c.since)
	}
	c.name, c.since = name, time.Now()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.name = ""
	}, "", 0
}

package console_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coldbrook/coldbrook/broker/console"
)

// asked is the answer to one request with the given headers, "Name: value" each.
func asked(t *testing.T, s *console.Server, method, path, host string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Host, r.RemoteAddr = host, "192.0.2.7:5000"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "From" {
			r.RemoteAddr = value
			continue
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// A name that another site's owner let point here is that site to a browser: what it gets, the site reads.
func TestBrokerAnswersUnderItsOwnNamesOnly(t *testing.T) {
	s := console.New(console.Options{Access: console.Access{Hosts: []string{"broker-1.example.com", "", "Broker2"}},
		Topics: func(context.Context) ([]console.Topic, error) { return nil, nil }})
	for _, path := range []string{"/", "/healthz", "/readyz", "/api/v1/topics", "/debug/pprof/", "/nothing"} {
		for host, good := range map[string]bool{
			"": true, "127.0.0.1": true, "127.0.0.1:9644": true, "10.1.2.3:80": true, "[::1]": true, "[::1]:9644": true, "[fe80::1%25eth0]:1": true,
			"localhost": true, "LOCALHOST:1": true, "localhost.": true, "a.localhost:5": true, "broker-1.example.com": true, "BROKER-1.example.com.:9644": true, "broker2:1": true,
			"evil.example": false, "evil.example:9644": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "broker-1.example.com.evil": false,
			"127.0.0.1@evil.example": false, "notlocalhost": false, ":9644": false, " ": false, "x.broker-1.example.com": false, strings.Repeat("a", 4000): false,
		} {
			w := asked(t, s, http.MethodGet, path, host)
			if refused := w.Code == http.StatusForbidden; refused == good {
				t.Errorf("%s of %.60q: %d", path, host, w.Code)
			}
			if !good && (!strings.Contains(w.Body.String(), "http.allowed.hosts") || w.Body.Len() > 600) {
				t.Errorf("of %.60q: %s", host, w.Body)
			}
		}
	}
	any := console.New(console.Options{Access: console.Access{Hosts: []string{"*"}}})
	if w := asked(t, any, http.MethodGet, "/healthz", "whatever.example"); w.Code != 200 {
		t.Errorf("every name: %d", w.Code)
	}
}

// What a page of another site asks for is refused, whether it would get to see the answer or not.
func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	s := console.New(console.Options{})
	const host = "127.0.0.1:9644"
	for header, good := range map[string]bool{
		"Origin: http://127.0.0.1:9644": true, "Origin: http://evil.example": false, "Origin: null": false, "Origin: http://127.0.0.1:9645": false, "Origin: file://": false,
		"Origin: http://127.0.0.1:9644.evil.example": false, "Origin: ": false, "Origin: https://127.0.0.1:9644": true,
		"Sec-Fetch-Site: cross-site": false, "Sec-Fetch-Site: same-site": false, "Sec-Fetch-Site: same-origin": true, "Sec-Fetch-Site: none": true, "Referer: http://wiki.example/": true,
	} {
		if w := asked(t, s, http.MethodGet, "/healthz", host, header); (w.Code == 200) != good {
			t.Errorf("%s: %d", header, w.Code)
		}
	}
	if w := asked(t, s, http.MethodGet, "/", host, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"); w.Code != 200 {
		t.Errorf("a link that somebody follows: %d", w.Code)
	}
}

// The token's header is what makes a request one that somebody meant.
func TestChangesAndChecksNeedTheTokensHeader(t *testing.T) {
	ran := 0
	options := console.Options{
		Fsck:     func(context.Context, console.TierCheck, func(console.TierLine)) error { ran++; return nil },
		Verify:   func(context.Context, console.TierCheck, func(console.TierLine)) error { ran++; return nil },
		Undelete: func(context.Context, string) (console.Undeleted, error) { ran++; return console.Undeleted{}, nil },
		KeepLog: func(context.Context, string, []int32) (console.KeptLogs, error) {
			ran++
			return console.KeptLogs{}, nil
		},
		Recover: func(context.Context, console.RecoverQuery, func(console.TierLine)) error { ran++; return nil },
	}
	const jsonType = "Content-Type: application/json"
	paths := []string{"GET /api/v1/tier/fsck", "GET /api/v1/tier/verify", "POST /api/v1/tier/fsck", "POST /api/v1/tier/verify", "POST /api/v1/topics/undelete?topic=a", "POST /api/v1/topics/recover?topic=a", "POST /api/v1/tier/adopt?topic=a"}
	for _, token := range []string{"", "secret"} {
		options.Access.Token = token
		s := console.New(options)
		for _, p := range paths {
			method, path, _ := strings.Cut(p, " ")
			for _, headers := range [][]string{nil, {console.TokenHeader + ": "}, {"X-HTTP-Method-Override: POST"}, {"Cookie: " + console.TokenHeader + "=secret"}, {"Authorization: Bearer secret"}} {
				if w := asked(t, s, method, path, "localhost", append(headers, jsonType)...); w.Code != http.StatusForbidden {
					t.Errorf("%s with %v: %d", p, headers, w.Code)
				}
			}
			wrong := asked(t, s, method, path, "localhost", jsonType, console.TokenHeader+": other")
			if want := map[string]int{"": 200, "secret": 403}[token]; wrong.Code != want {
				t.Errorf("%s with another token than %q: %d", p, token, wrong.Code)
			}
			ran = 0
			if w := asked(t, s, method, path, "localhost", jsonType, console.TokenHeader+": secret"); w.Code != 200 || ran != 1 {
				t.Errorf("%s with the token: %d, ran %d times", p, w.Code, ran)
			}
			ran = 0
		}
		if w := asked(t, s, http.MethodGet, "/api/v1/topics/undelete?topic=a", "localhost", jsonType, console.TokenHeader+": secret", "X-HTTP-Method-Override: POST"); w.Code == 200 || ran > 0 {
			t.Errorf("a GET that would be a POST: %d", w.Code)
		}
	}
}

// Who only reaches the port gets neither profiles nor changes.
func TestProfilesAndChangesAreForThisMachine(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		access     console.Access
		from, host string
		want       bool
	}{
		{console.Access{}, "192.0.2.7:5000", "localhost", true},
		{console.Access{Remote: true}, "192.0.2.7:5000", "10.0.0.1:9644", false},
		{console.Access{Remote: true}, "127.0.0.1:5000", "127.0.0.1:9644", true},
		{console.Access{Remote: true}, "[::ffff:127.0.0.1]:5000", "localhost:9644", true},
		{console.Access{Remote: true}, "[::1]:5000", "[::1]:9644", true},
		{console.Access{Remote: true}, "127.0.0.1:5000", "10.0.0.1:9644", false}, // a proxy on this machine
		{console.Access{Remote: true, Admin: &yes}, "192.0.2.7:5000", "10.0.0.1:9644", true},
		{console.Access{Admin: &no}, "127.0.0.1:5000", "localhost", false},
	} {
		ran := 0
		s := console.New(console.Options{Access: c.access, Fsck: func(context.Context, console.TierCheck, func(console.TierLine)) error { ran++; return nil }})
		headers := []string{"From: " + c.from, "Content-Type: application/json", console.TokenHeader + ": any"}
		if w := asked(t, s, http.MethodGet, "/debug/pprof/", c.host, headers...); (w.Code == 200) != c.want {
			t.Errorf("%+v: profiles: %d", c, w.Code)
		}
		if w := asked(t, s, http.MethodGet, "/debug/pprof/cmdline", c.host, headers...); (w.Code == 200) != c.want {
			t.Errorf("%+v: command line: %d", c, w.Code)
		}
		if w := asked(t, s, http.MethodPost, "/api/v1/tier/fsck", c.host, headers...); (w.Code == 200) != c.want || (ran == 1) != c.want {
			t.Errorf("%+v: repair: %d", c, w.Code)
		}
		if w := asked(t, s, http.MethodGet, "/api/v1/tier/fsck", c.host, headers...); w.Code != 200 {
			t.Errorf("%+v: a look: %d", c, w.Code)
		}
		if w := asked(t, s, http.MethodGet, "/", c.host, headers...); w.Code != 200 || strings.Contains(w.Body.String(), "pprof") != c.want {
			t.Errorf("%+v: the page: %d", c, w.Code)
		}
	}
}

// Each check reads as much of the store as it may: two of them take what readers need.
func TestOneCheckRunsAtATime(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	s := console.New(console.Options{
		Verify: func(context.Context, console.TierCheck, func(console.TierLine)) error {
			close(begun)
			<-end
			return nil
		},
		Fsck: func(context.Context, console.TierCheck, func(console.TierLine)) error { return nil },
	})
	done := make(chan int)
	go func() {
		done <- asked(t, s, http.MethodGet, "/api/v1/tier/verify", "localhost", console.TokenHeader+": any").Code
	}()
	<-begun
	for _, path := range []string{"/api/v1/tier/verify", "/api/v1/tier/fsck"} {
		if w := asked(t, s, http.MethodGet, path, "localhost", console.TokenHeader+": any"); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "a verify runs here") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	close(end)
	if code := <-done; code != 200 {
		t.Errorf("the first: %d", code)
	}
	if w := asked(t, s, http.MethodGet, "/api/v1/tier/fsck", "localhost", console.TokenHeader+": any"); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

package console_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coldbrook/coldbrook/broker/console"
)

// TestNothingChangesButByAPostThatNoFormCanSend: a page of another site can make a browser send forms.
func TestNothingChangesButByAPostThatNoFormCanSend(t *testing.T) {
	repairs, undeletes := 0, 0
	s := console.New(console.Options{
		Fsck: func(_ context.Context, q console.TierCheck, line func(console.TierLine)) error {
			if q.Repair {
				repairs++
			}
			line(console.TierLine{Summary: 1})
			return nil
		},
		Undelete: func(context.Context, string) (console.Undeleted, error) {
			undeletes++
			return console.Undeleted{}, nil
		},
	})
	for _, c := range []struct {
		method, path, contentType string
		want                      int
	}{
		{http.MethodGet, "/api/v1/tier/fsck", "", 200}, {http.MethodGet, "/api/v1/tier/fsck", "application/json", 200},
		{http.MethodPost, "/api/v1/tier/fsck", "application/jsonx", 415}, {http.MethodPost, "/api/v1/tier/fsck", "text/plain; application/json", 415},
		{http.MethodPost, "/api/v1/tier/fsck", "", 415}, {http.MethodPost, "/api/v1/tier/fsck", "text/plain", 415},
		{http.MethodPost, "/api/v1/topics/undelete?topic=a", "application/x-www-form-urlencoded", 415},
		{http.MethodGet, "/api/v1/topics/undelete?topic=a", "application/json", 404},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil)
		r.Host = "[::1]:9644"
		r.Header.Set("Content-Type", c.contentType)
		r.Header.Set(console.TokenHeader, "any")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.want || repairs+undeletes != 0 {
			t.Errorf("%s %s as %q: %d, want %d; %d repairs, %d undeletes", c.method, c.path, c.contentType, w.Code, c.want, repairs, undeletes)
		}
	}
	for _, path := range []string{"/api/v1/tier/fsck", "/api/v1/topics/undelete?topic=a"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil)
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		r.Header.Set(console.TokenHeader, "any")
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	if repairs != 1 || undeletes != 1 {
		t.Errorf("%d repairs, %d undeletes", repairs, undeletes)
	}
}

func TestChecksStreamTheirLines(t *testing.T) {
	s := console.New(console.Options{Verify: func(_ context.Context, q console.TierCheck, line func(console.TierLine)) error {
		if q.Topic == "nope" {
			return console.ErrNotFound
		}
		for range 100 {
			line(console.TierLine{Progress: 1}) // more than anybody wants to see
		}
		line(console.TierLine{Problem: "p"})
		line(console.TierLine{Summary: 1})
		return errors.New("half of it was away")
	}})
	get := func(query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/v1/tier/verify"+query, nil)
		r.Header.Set(console.TokenHeader, "any")
		s.ServeHTTP(w, r)
		return w
	}
	w := get("")
	want := `{"progress":1}` + "\n" + `{"problem":"p"}` + "\n" + `{"summary":1}` + "\n" + `{"error":"half of it was away"}` + "\n"
	if w.Code != 200 || w.Body.String() != want || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/x-ndjson") {
		t.Errorf("%d %s: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	if w := get("?topic=nope"); w.Code != 404 {
		t.Errorf("unknown topic: %d", w.Code)
	}
	if w := get("?rate=x"); w.Code != 400 {
		t.Errorf("bad rate: %d", w.Code)
	}
}

package console_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/broker/console"
)

func TestLagIsAskedForByOffset(t *testing.T) {
	var asked []console.LagAt
	var alone bool
	s := console.New(console.Options{Lags: func(_ context.Context, at []console.LagAt, local bool) (console.Lags, error) {
		asked, alone = at, local
		return console.Lags{}, nil
	}})
	get := func(query string) int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/v1/lag?"+query, nil))
		return w.Code
	}
	want := []console.LagAt{{Topic: "a.b_c-d", Partition: 3, Offset: 1 << 40}, {Topic: "x"}}
	if code := get("local=true&at=" + want[0].String() + "&at=" + want[1].String()); code != 200 || !cmp.Equal(asked, want) || !alone {
		t.Errorf("%d, asked for %v, local %v", code, asked, alone)
	}
	for _, bad := range []string{"at=", "at=a", "at=a:0", "at=:0:0", "at=a:b:0", "at=a:0:-1", "at=a:-1:0", "at=a:0:0:0", "at=a:4294967296:0",
		strings.Repeat("at=a:0:0&", console.MaxLags+1)} {
		if code := get(bad); code != 400 {
			t.Errorf("%.40s: %d", bad, code)
		}
	}
}

func TestCostsOfOneTopic(t *testing.T) {
	s := console.New(console.Options{Costs: func(_ context.Context, local bool) (console.TierCosts, error) {
		return console.TierCosts{Topics: []console.TierCost{{Topic: "a", Put: 7}, {Topic: "b", Put: 8}}}, nil
	}})
	for query, want := range map[string]string{"?topic=b": `"put": 8`, "?topic=c": "not found", "": `"put": 7`} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/v1/tier/cost"+query, nil))
		if !strings.Contains(w.Body.String(), want) || query == "?topic=b" && strings.Contains(w.Body.String(), `"put": 7`) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

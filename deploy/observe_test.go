package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.yaml.in/yaml/v3"

	"github.com/coldbrook/coldbrook/broker"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/otel"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const dashboardFile = "grafana/tier.json"

// rule is one alert of alerts.yaml.
type rule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func rules(t *testing.T) []rule {
	t.Helper()
	b, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(b)))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatalf("alerts.yaml: %v", err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("alerts.yaml has no rules")
	}
	return all
}

// panel is what the test reads of a dashboard's panel.
type panel struct {
	ID      int
	Title   string
	Type    string
	GridPos struct{ H, W, X, Y int }
	Targets []struct{ Expr, LegendFormat, RefID string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Title, UID string
		Panels     []panel
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	if file.Title == "" || file.UID == "" || len(file.Panels) == 0 {
		t.Fatalf("%s has no title, no uid or no panels", dashboardFile)
	}
	return file.Panels
}

// Who is woken up reads what is wrong, and finds out what to do.
func TestEveryAlertHasASummaryAndARunbook(t *testing.T) {
	b, err := os.ReadFile("RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(b), "\n### ")[1:] {
		name, text, _ := strings.Cut(s, "\n")
		sections[name] = text
	}
	seen := map[string]bool{}
	for _, r := range rules(t) {
		if seen[r.Alert] {
			t.Errorf("%s is there twice", r.Alert)
		}
		seen[r.Alert] = true
		if len(r.Annotations["summary"]) < 20 || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: summary %q, severity %q", r.Alert, r.Annotations["summary"], r.Labels["severity"])
		}
		if want := "deploy/RUNBOOK.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: runbook is %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		text := sections[r.Alert]
		if !strings.Contains(text, "**Means**: ") || !strings.Contains(text, "**Do**: ") {
			t.Errorf("RUNBOOK.md does not say what %s means and what to do", r.Alert)
		}
		if r.For != "" {
			if _, err := time.ParseDuration(r.For); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
		}
	}
	for name := range sections {
		if !seen[name] {
			t.Errorf("RUNBOOK.md has a section %s, and there is no such alert", name)
		}
	}
}

func TestDashboardsPanelsDoNotOverlap(t *testing.T) {
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range panels(t) {
		if ids[p.ID] {
			t.Errorf("panel id %d is there twice", p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("%s lies at %+v, a dashboard is 24 wide", p.Title, p.GridPos)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
	}
}

var metricName = regexp.MustCompile(`\bcoldbrook_[a-z0-9_]+`)

// balanced says whether every bracket of an expression is closed.
func balanced(expr string) bool {
	var open []rune
	pairs := map[rune]rune{')': '(', ']': '[', '}': '{'}
	for _, c := range expr {
		switch c {
		case '(', '[', '{':
			open = append(open, c)
		case ')', ']', '}':
			if len(open) == 0 || open[len(open)-1] != pairs[c] {
				return false
			}
			open = open[:len(open)-1]
		}
	}
	return len(open) == 0
}

// An alert on a metric that does not exist never fires.
func TestAlertsAndDashboardUseMetricsThatABrokerHas(t *testing.T) {
	wanted := map[string]string{}
	want := func(expr, where string) {
		names := metricName.FindAllString(expr, -1)
		if !balanced(expr) || len(names) == 0 && !strings.HasPrefix(expr, "up{") {
			t.Errorf("%s: %q", where, expr)
		}
		for _, name := range names {
			wanted[name] = where
		}
	}
	for _, r := range rules(t) {
		want(r.Expr, "alert "+r.Alert)
	}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			want(target.Expr, "panel "+p.Title)
		}
	}
	url := observed(t)
	deadline := time.Now().Add(time.Minute)
	for {
		there := scrape(t, url)
		var missing []string
		for name, where := range wanted {
			if !there[name] {
				missing = append(missing, name+" of "+where)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(missing)
			t.Fatalf("/metrics does not have\n%s", strings.Join(missing, "\n"))
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// scrape returns the names of the series of a broker.
func scrape(t *testing.T, url string) map[string]bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	names := map[string]bool{}
	for line := range strings.SplitSeq(string(b), "\n") {
		if name := metricName.FindString(line); name != "" && strings.HasPrefix(line, name) {
			names[name] = true
		}
	}
	return names
}

// observed runs a broker to which everything has happened that its metrics can tell of: uploads, one of which fails
// first, retention, a group that reads old records and lags behind. It returns where its metrics are.
func observed(t *testing.T) string {
	t.Helper()
	settings, err := config.Load("", nil, map[string]string{
		"data.dir": "/data", "listeners": "PLAINTEXT://127.0.0.1:0", "http.listen": "127.0.0.1:0", "num.partitions": "1",
		"log.segment.bytes": "1048576", "log.retention.check.interval.ms": "100", "log.local.retention.ms": "1",
		"remote.log.manager.task.retry.backoff.ms": "10", "remote.gc.interval.ms": "100", "group.initial.rebalance.delay.ms": "0", "metrics.group.lag.interval.ms": "100",
	})
	if err != nil {
		t.Fatal(err)
	}
	tel, err := otel.Start(t.Context(), otel.Options{LogOutput: io.Discard, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	var failed atomic.Bool
	store := object.WithFaults(object.NewMem(), func(_ context.Context, op object.Op) error {
		if op.Kind == object.OpPut && strings.Contains(op.Key, "/segments/") && failed.CompareAndSwap(false, true) {
			return errors.New("once")
		}
		return nil
	})
	b, err := broker.New(broker.Options{
		Settings: settings, Logger: tel.Logger, Meter: tel.Meter, Metrics: tel.MetricsHandler(), FS: vfs.NewMem(), KV: kv.NewMem(), Objects: store,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan broker.Addresses, 1), make(chan error, 1)
	go func() { ended <- b.Run(ctx, func(at broker.Addresses) { ready <- at }) }()
	var at broker.Addresses
	select {
	case at = <-ready:
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	case err := <-ended:
		stop()
		t.Fatal(err)
	}
	use(t, at.Kafka[0])
	return "http://" + at.HTTP + "/metrics"
}

// use writes some segments, waits until the first are in the tier only, and reads them as a group that stops half-way.
func use(t *testing.T, addr string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(100_000))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	const records = 400
	for range records {
		cl.Produce(t.Context(), kgo.SliceRecord(make([]byte, 10_000)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(cl)
	for { // -4 is the first offset on the local disk (KIP-405)
		local, err := adm.ListOffsetsAfterMilli(t.Context(), -4, "t")
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := local.Lookup("t", 0); ok && o.Err == nil && o.Offset > 0 {
			break
		}
	}
	group, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	got := group.PollRecords(t.Context(), 10)
	if err := got.Err(); err != nil {
		t.Fatal(err)
	}
	if err := group.CommitRecords(t.Context(), got.Records()...); err != nil {
		t.Fatal(err)
	}
}

package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/config"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "127.0.0.1:9644"
	s.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	var missing []Reason
	s := New(Options{NotReady: func() []Reason { return missing }})
	if code, body := get(t, s, "/readyz"); code != 200 || !strings.Contains(body, `"status": "ready"`) {
		t.Errorf("ready: %d %s", code, body)
	}
	missing = []Reason{{"etcd", "no leader"}, {"log directory /data", "recovering 3 of 9 partitions"}}
	code, body := get(t, s, "/readyz")
	var got struct {
		Status  string
		Reasons []Reason
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if code != 503 || got.Status != "not ready" || !reflect.DeepEqual(got.Reasons, missing) {
		t.Errorf("not ready: %d %s", code, body)
	}
	if code, _ := get(t, s, "/healthz"); code != 200 {
		t.Errorf("not ready made it unhealthy: %d", code)
	}
	if _, body := get(t, s, "/"); !strings.Contains(body, "etcd: no leader") {
		t.Errorf("page: %s", body)
	}
}

// The names are in the issue and in scripts; a change of one of them is a break.
func TestTierFieldsAreThePromisedOnes(t *testing.T) {
	s := New(Options{Tier: func(context.Context) ([]TierPartition, error) {
		return []TierPartition{{"a", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "why"}, {Topic: "b"}}, nil
	}})
	code, body := get(t, s, "/api/v1/tier?topic=a")
	want := `[
  {
    "topic": "a",
    "partition": 1,
    "log_start_offset": 2,
    "local_log_start_offset": 3,
    "highest_remote_offset": 4,
    "high_watermark": 5,
    "log_end_offset": 6,
    "local_bytes": 7,
    "remote_bytes": 8,
    "remote_segments": 9,
    "pending_segments": 10,
    "oldest_unuploaded_age_ms": 11,
    "held": "why"
  }
]
`
	if code != 200 || body != want {
		t.Errorf("%d\n%s", code, body)
	}
	if code, body := get(t, s, "/api/v1/tier?topic=c"); code != 404 || !strings.Contains(body, "error") {
		t.Errorf("unknown topic: %d %s", code, body)
	}
}

func TestEmptyListIsAnArray(t *testing.T) {
	s := New(Options{
		Tier:     func(context.Context) ([]TierPartition, error) { return nil, nil },
		Topics:   func(context.Context) ([]Topic, error) { return nil, nil },
		Segments: func(context.Context, SegmentQuery) ([]TierSegment, error) { return nil, nil },
	})
	for _, path := range []string{"/api/v1/tier", "/api/v1/topics", "/api/v1/tier/segments?topic=a&partition=0"} {
		if code, body := get(t, s, path); code != 200 || body != "[]\n" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

func TestErrorsHaveTheirStatus(t *testing.T) {
	var err error
	s := New(Options{Segments: func(context.Context, SegmentQuery) ([]TierSegment, error) { return nil, err }})
	for _, c := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("topic x: %w", ErrNotFound), 404}, {ErrUnavailable, 503}, {context.DeadlineExceeded, 504}, {errors.New("boom"), 500},
	} {
		err = c.err
		if code, body := get(t, s, "/api/v1/tier/segments?topic=a&partition=0"); code != c.want || !strings.Contains(body, c.err.Error()) {
			t.Errorf("%v: %d %s", c.err, code, body)
		}
	}
	err = nil
	for _, q := range []string{"", "?topic=a", "?topic=a&partition=x", "?topic=a&partition=-1", "?topic=a&partition=1&from=-2", "?topic=a&partition=1&limit=10001", "?topic=a&partition=9999999999"} {
		if code, _ := get(t, s, "/api/v1/tier/segments"+q); code != 400 {
			t.Errorf("%q: %d", q, code)
		}
	}
	if code, _ := get(t, s, "/api/v1/nothing"); code != 404 {
		t.Errorf("unknown page: %d", code)
	}
	if code, _ := get(t, s, "/api/v1/tier"); code != 404 {
		t.Errorf("page without a function: %d", code)
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest("POST", "http://localhost/healthz", nil))
	if rec.Code != 405 {
		t.Errorf("POST: %d", rec.Code)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	settings, err := config.Load("", nil, map[string]string{"etcd.endpoints": "http://e:2379", "etcd.username": "root", "etcd.password": "hunter2", "listeners": "PLAINTEXT://10.0.0.1:9092"})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Settings: func() []Setting { return BrokerSettings(settings) },
		TopicSettings: func(_ context.Context, topic string) ([]Setting, error) {
			return TopicSettings(settings, map[string]string{"retention.ms": "5"}), nil
		}})
	code, body := get(t, s, "/api/v1/config")
	if code != 200 || strings.Contains(body, "hunter2") || !strings.Contains(body, `"source": "flag --listen"`) {
		t.Errorf("%d %s", code, body)
	}
	_, body = get(t, s, "/api/v1/config?topic=a")
	var rows []Setting
	if err := json.Unmarshal([]byte(body), &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		switch r.Name {
		case "retention.ms":
			if *r.Value != "5" || r.Source != "topic" || *r.Default != "604800000" {
				t.Errorf("%+v", r)
			}
		case "segment.ms":
			if *r.Value != "604800000" || r.Source != "default log.roll.hours" {
				t.Errorf("%+v", r)
			}
		}
	}
}

func TestPagesThatExist(t *testing.T) {
	s := New(Options{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "coldbrook_x 1\n") }),
		Version: func() Version { return Version{Version: "<v1>", NodeID: 3, ClusterID: "abc"} },
		Brokers: func(context.Context) (Cluster, error) { return Cluster{ClusterID: "abc", Controller: -1}, nil },
	})
	for path, want := range map[string]string{
		"/metrics": "coldbrook_x 1", "/debug/pprof/": "goroutine", "/api/v1/version": `"node_id": 3`, "/api/v1/brokers": `"controller": -1`,
		"/": "version &lt;v1&gt;, node 3, cluster abc", "/debug/pprof/goroutine?debug=1": "goroutine profile",
	} {
		if code, body := get(t, s, path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// A profile that takes minutes must not keep the broker from stopping, and a page must not hang on a slow part.
func TestRunStopsAndBoundsRequests(t *testing.T) {
	s := New(Options{RequestTimeout: 20 * time.Millisecond, Tier: func(ctx context.Context) ([]TierPartition, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	base := "http://" + l.Addr().String()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	resp, err := client.Get(base + "/api/v1/tier")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 504 {
		t.Errorf("slow page: %d", resp.StatusCode)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /debug/pprof/trace?seconds=600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := bufio.NewReader(c).ReadByte(); err != nil { // the trace has begun
		t.Fatal(err)
	}
	begun := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func TestClusterPageNamesPartitionsInTrouble(t *testing.T) {
	brokers := []Broker{{ID: 1, Leaders: 1, Partitions: 3}, {ID: 2, State: StateStopping, Rack: "b"}, {ID: 3, State: StateAway}, {ID: 4, Role: "replay"}}
	parts := []Partition{
		{Partition: 0, Leader: 1, Replicas: []int32{1, 2}, ISR: []int32{1, 2}},
		{Partition: 1, Leader: 1, Replicas: []int32{1, 3}, ISR: []int32{1}},
		{Partition: 2, Leader: -1, Replicas: []int32{3}, ISR: []int32{3}},
		{Partition: 3, Leader: 1, Replicas: []int32{1, 2}, ISR: []int32{1}, Adding: []int32{2}}, // new, so not behind
	}
	var failed error
	s := New(Options{
		Brokers: func(context.Context) (Cluster, error) {
			return Cluster{ClusterID: "c", Controller: 1, Brokers: brokers}, failed
		},
		Topics: func(context.Context) ([]Topic, error) { return []Topic{{Name: "a", Partitions: parts}}, nil },
	})
	code, body := get(t, s, "/api/v1/cluster")
	var got Health
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
		t.Fatalf("%d %v %s", code, err, body)
	}
	want := Health{
		Cluster: Cluster{ClusterID: "c", Controller: 1, Brokers: brokers}, Live: 3, Partitions: 4,
		Leaderless: []PartitionRef{{"a", parts[2]}}, UnderReplicated: []PartitionRef{{"a", parts[1]}}, Reassigning: []PartitionRef{{"a", parts[3]}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%s", got, body)
	}
	_, body = get(t, s, "/")
	for _, want := range []string{"3 of 4 brokers live, 4 partitions, 1 without a leader, 1 under-replicated,\n1 being reassigned", "<td>live, controller</td>", "<td>replay</td>", "<td>stopping</td>", "<td>away</td>", "/api/v1/cluster"} {
		if !strings.Contains(body, want) {
			t.Errorf("page lacks %s:\n%s", want, body)
		}
	}
	parts = parts[:1]
	if _, body = get(t, s, "/api/v1/cluster"); !strings.Contains(body, `"in_sync": true`) || !strings.Contains(body, `"leaderless": []`) {
		t.Errorf("%s", body)
	}
	failed = ErrUnavailable
	if code, _ := get(t, s, "/api/v1/cluster"); code != 503 {
		t.Errorf("without an answer: %d", code)
	}
	if code, body := get(t, s, "/"); code != 200 || strings.Contains(body, "Cluster:") {
		t.Errorf("page without an answer: %d %s", code, body)
	}
}

package otel

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/e2e/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Telemetry {
	t.Helper()
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.LogOutput == nil {
		o.LogOutput = io.Discard
	}
	tel, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if err := tel.Shutdown(ctx); err != nil && len(tel.Exports()) == 0 {
			t.Errorf("shutdown: %v", err)
		}
	})
	return tel
}

func scrape(tel *Telemetry) string {
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

func TestEveryMetricHasThePrefixOnceAndNoScope(t *testing.T) {
	tel := start(t, Options{Version: "v1", Instance: "7"})
	m := tel.Meter("wire")
	for _, name := range []string{"request.duration", "coldbrook_object_request_seconds"} {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription("d"))
		if err != nil {
			t.Fatal(err)
		}
		h.Record(t.Context(), 0.003)
	}
	sizes, err := m.Int64Histogram("request.size", metric.WithUnit("By"), metric.WithExplicitBucketBoundaries(10, 1000))
	if err != nil {
		t.Fatal(err)
	}
	sizes.Record(t.Context(), 500)
	c, err := m.Int64Counter("remote.copy.bytes", metric.WithUnit("By"))
	if err != nil {
		t.Fatal(err)
	}
	c.Add(t.Context(), 3)
	for name, unit := range map[string]string{"remote.copy.lag.segments": "1", "oldest.age.ms": "ms", "wait": "ms"} {
		g, err := m.Int64Gauge(name, metric.WithUnit(unit))
		if err != nil {
			t.Fatal(err)
		}
		g.Record(t.Context(), 1)
	}
	body := scrape(tel)
	for _, want := range []string{
		`coldbrook_request_duration_seconds_bucket{le="0.0025"} 0`, `coldbrook_request_duration_seconds_bucket{le="0.005"} 1`,
		"coldbrook_object_request_seconds_count 1", `coldbrook_request_size_bytes_bucket{le="1000"} 1`, "coldbrook_remote_copy_bytes_total 3",
		"coldbrook_remote_copy_lag_segments 1", "coldbrook_oldest_age_ms 1", "coldbrook_wait_milliseconds 1",
		"coldbrook_process_memory_resident_bytes ", "coldbrook_go_goroutines ", "coldbrook_go_gc_cpu_time_seconds_total ", "coldbrook_process_cpu_time_seconds_total ",
		`service_instance_id="7"`, `service_version="v1"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	for l := range strings.Lines(body) {
		if !strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "coldbrook_") && !strings.HasPrefix(l, "target_info") {
			t.Errorf("without prefix: %s", l)
		}
	}
	for _, bad := range []string{"otel_scope", "coldbrook_coldbrook", "seconds_seconds"} {
		if strings.Contains(body, bad) {
			t.Errorf("%q in\n%s", bad, body)
		}
	}
}

func TestLogFormatsAndLevels(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, Options{LogFormat: "json", LogLevel: "warn", LogOutput: &out})
	tel.Logger.Info("not this")
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled}))
	tel.Logger.With("topic", "a").WarnContext(ctx, "this", "took", 1500*time.Millisecond)
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	for k, want := range map[string]string{"msg": "this", "topic": "a", "took": "1.5s", "trace_id": "01000000000000000000000000000000", "span_id": "0200000000000000"} {
		if got[k] != want {
			t.Errorf("%s = %v, want %s", k, got[k], want)
		}
	}
	out.Reset()
	if err := tel.SetLevel("debug"); err != nil {
		t.Fatal(err)
	}
	tel.Logger.Debug("now this")
	if !strings.Contains(out.String(), "now this") {
		t.Errorf("SetLevel did not lower the level: %q", out.String())
	}
	if err := tel.SetLevel("loud"); err == nil {
		t.Error("level loud was accepted")
	}
	if _, err := Start(t.Context(), Options{LogFormat: "xml"}); err == nil {
		t.Error("format xml was accepted")
	}
}

func TestNothingIsExportedUnlessAsked(t *testing.T) {
	tel := start(t, Options{})
	if len(tel.Exports()) != 0 {
		t.Fatalf("exports %v", tel.Exports())
	}
	_, span := tel.Tracer("wire").Start(t.Context(), "request")
	if span.IsRecording() {
		t.Error("a span is recorded though nobody asked for traces")
	}
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "x"}, "metrics traces"},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "x"}, "traces"},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_METRICS_EXPORTER": "none"}, "traces"},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_SDK_DISABLED": "true"}, ""},
	} {
		var got []string
		for _, signal := range []string{"METRICS", "TRACES"} {
			if wanted(func(k string) string { return c.env[k] }, signal) {
				got = append(got, strings.ToLower(signal))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: %v, want %s", c.env, got, c.want)
		}
	}
}

// A collector that is away must not keep the broker from starting or stopping.
func TestCollectorAwayDoesNotHoldUsUp(t *testing.T) {
	nobody, err := ports.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+nobody)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	begun := time.Now()
	tel, err := Start(t.Context(), Options{LogOutput: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tel.Tracer("wire").Start(t.Context(), "request")
	if !span.IsRecording() {
		t.Error("no span is recorded")
	}
	span.End()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := tel.Shutdown(ctx); err == nil {
		t.Error("shutdown says it delivered")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

var _ slog.Handler = traced{}

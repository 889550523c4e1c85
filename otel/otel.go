// Package otel sets telemetry up, once, in main: the OpenTelemetry SDK and the log handler. Everything
// else uses the OpenTelemetry API and log/slog, and gets its Meter, Tracer and Logger passed in.
//
// It hides exporters. Metrics are always there to be scraped (Telemetry.MetricsHandler); when the
// standard variables OTEL_EXPORTER_OTLP_ENDPOINT, …_TRACES_ENDPOINT or …_METRICS_ENDPOINT are set,
// traces and metrics also go out over OTLP/gRPC, which reads the other OTEL_ variables itself.
// Without them a span costs nothing: there is no trace provider.
//
// Every metric's name starts with coldbrook: an instrument that is called "request.duration" or
// "coldbrook_request_duration" with unit "s" is coldbrook_request_duration_seconds when scraped.
package otel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelapi "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Options say who is observed and where the log goes.
type Options struct {
	Version   string
	Instance  string    // service.instance.id: the node id
	LogFormat string    // text (default) or json
	LogLevel  string    // debug, info (default), warn or error
	LogOutput io.Writer // default: standard error
	// Getenv reads the OTEL_ variables that decide whether there is an exporter. Default: os.Getenv.
	Getenv func(string) string
}

// Telemetry is the SDK, set up. Its methods are safe for concurrent use.
type Telemetry struct {
	Logger *slog.Logger

	level    *slog.LevelVar
	meters   *sdkmetric.MeterProvider
	tracers  trace.TracerProvider
	registry *prometheus.Registry
	stop     []func(context.Context) error
	exports  []string
}

// Start sets everything up. It does not connect: an OTLP collector that is away costs log lines, not
// a start. Shutdown stops it.
func Start(ctx context.Context, o Options) (*Telemetry, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.LogOutput == nil {
		o.LogOutput = os.Stderr
	}
	t := &Telemetry{level: new(slog.LevelVar), registry: prometheus.NewRegistry(), tracers: noop.NewTracerProvider()}
	if err := t.SetLevel(o.LogLevel); err != nil {
		return nil, err
	}
	handler, err := newHandler(o.LogOutput, o.LogFormat, t.level)
	if err != nil {
		return nil, err
	}
	t.Logger = slog.New(handler)
	// The SDK has one error handler a process. Its default writes past our log.
	otelapi.SetErrorHandler(otelapi.ErrorHandlerFunc(func(err error) { t.Logger.Warn("telemetry export failed", "err", err) }))
	res, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "coldbrook"), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance)),
		resource.WithFromEnv()) // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES beat what is above
	if err != nil {
		return nil, fmt.Errorf("describe this process: %w", err)
	}
	if err := t.startMetrics(ctx, o, res); err != nil {
		return nil, err
	}
	if err := t.startTraces(ctx, o, res); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Telemetry) startMetrics(ctx context.Context, o Options, res *resource.Resource) error {
	scrape, err := promexporter.New(promexporter.WithRegisterer(t.registry), promexporter.WithoutScopeInfo(),
		promexporter.WithAggregationSelector(aggregation))
	if err != nil {
		return fmt.Errorf("set up prometheus exporter: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(scrape),
		sdkmetric.WithView(prefixed), sdkmetric.WithCardinalityLimit(maxSeries)}
	if wanted(o.Getenv, "METRICS") {
		exporter, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithAggregationSelector(aggregation))
		if err != nil {
			return fmt.Errorf("set up OTLP metrics: %w", err)
		}
		opts = append(opts, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
		t.exports = append(t.exports, "metrics")
	}
	t.meters = sdkmetric.NewMeterProvider(opts...)
	t.stop = append(t.stop, t.meters.Shutdown)
	return observeProcess(t.Meter("process"), time.Now())
}

func (t *Telemetry) startTraces(ctx context.Context, o Options, res *resource.Resource) error {
	if !wanted(o.Getenv, "TRACES") {
		return nil
	}
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return fmt.Errorf("set up OTLP traces: %w", err)
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithBatcher(exporter)}
	if o.Getenv("OTEL_TRACES_SAMPLER") == "" {
		// A span per request at full rate is more than anybody looks at. A client that sends a sampled
		// parent is always followed.
		opts = append(opts, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(defaultSampling))))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	t.tracers = provider
	t.stop = append(t.stop, func(ctx context.Context) error {
		err := provider.Shutdown(ctx)
		if err != nil {
			// The provider gave up waiting, but its last export goes on retrying until the exporter ends it.
			err = errors.Join(err, exporter.Shutdown(ctx))
		}
		return err
	})
	t.exports = append(t.exports, "traces")
	return nil
}

const (
	// maxSeries bounds the series of one metric; more are folded into one with otel_metric_overflow.
	maxSeries = 20_000
	// defaultSampling is the part of traces that is kept unless OTEL_TRACES_SAMPLER says otherwise.
	defaultSampling = 0.01
)

// wanted reports whether a signal has somewhere to go.
func wanted(getenv func(string) string, signal string) bool {
	if off, err := strconv.ParseBool(getenv("OTEL_SDK_DISABLED")); err == nil && off {
		return false
	}
	if getenv("OTEL_"+signal+"_EXPORTER") == "none" {
		return false
	}
	return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// seconds are the buckets of a histogram that does not bring its own: 100 µs to a minute.
var seconds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

func aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	if k == sdkmetric.InstrumentKindHistogram {
		return sdkmetric.AggregationExplicitBucketHistogram{Boundaries: seconds}
	}
	return sdkmetric.DefaultAggregationSelector(k)
}

// prefixed gives every instrument the product's name, whether its author did or not, and keeps the
// exporter from adding a unit where it says nothing ("1" would become _ratio) or is there already.
func prefixed(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	if i.Unit == "1" || i.Unit == "ms" && strings.HasSuffix(i.Name, "ms") {
		i.Unit = ""
	}
	name := i.Name
	if !strings.HasPrefix(name, "coldbrook") {
		name = "coldbrook." + name
	}
	return sdkmetric.Stream{Name: name, Description: i.Description, Unit: i.Unit}, true
}

// Meter returns the meter of a package. The name is for OTLP only; scrapes do not show it.
func (t *Telemetry) Meter(name string) metric.Meter { return t.meters.Meter("coldbrook/" + name) }

// Tracer returns the tracer of a package.
func (t *Telemetry) Tracer(name string) trace.Tracer { return t.tracers.Tracer("coldbrook/" + name) }

// Exports lists what goes out over OTLP: metrics, traces, both or nothing.
func (t *Telemetry) Exports() []string { return t.exports }

// MetricsHandler serves the metrics in Prometheus' text format.
func (t *Telemetry) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{ErrorLog: scrapeErrors{t.Logger}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}

// scrapeErrors puts promhttp's complaints into the log.
type scrapeErrors struct{ log *slog.Logger }

// Println logs one complaint.
func (s scrapeErrors) Println(v ...any) { s.log.Warn("metrics incomplete", "err", fmt.Sprint(v...)) }

// SetLevel changes the lowest level that is logged: debug, info, warn, error; empty is info.
func (t *Telemetry) SetLevel(level string) error {
	l, err := parseLevel(level)
	if err != nil {
		return err
	}
	t.level.Set(l)
	return nil
}

// Shutdown sends what is still to be sent and stops. ctx bounds it.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var errs []error
	for i := len(t.stop) - 1; i >= 0; i-- {
		errs = append(errs, t.stop[i](ctx))
	}
	return errors.Join(errs...)
}

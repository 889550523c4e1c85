package wire

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// phase is a part of a request's time, in Kafka's words.
type phase int

const (
	phaseTotal  phase = iota // from the frame's first bytes to the end of the response's write
	phaseQueue               // reading the frame and waiting for its memory, when it needed some
	phaseLocal               // the ordered phase
	phaseRemote              // waiting in Pending, and for the responses before it
	phaseSend                // writing, for responses with payloads
	phases
)

var phaseNames = [phases]string{"total", "queue", "local", "remote", "send"}

// metrics are the instruments of a server. What is counted per request is counted in atomics and read when metrics are
// collected; the attribute sets of the histograms are made once, so a request allocates nothing here.
type metrics struct {
	byKey        []apiMetrics // by API key
	listeners    map[string]*listenerMetrics
	unknownAPIs  atomic.Int64
	panics       atomic.Int64
	time         metric.Float64Histogram
	registration metric.Registration
}

type apiMetrics struct {
	requests, failed, in, out atomic.Int64
	attributes                metric.MeasurementOption
	phases                    [phases][]metric.RecordOption
}

type listenerMetrics struct {
	open, opened, refused atomic.Int64
	attributes            metric.MeasurementOption
}

func newMetrics(meter metric.Meter, s *Server) (*metrics, error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	m := &metrics{byKey: make([]apiMetrics, kmsg.MaxKey+1), listeners: make(map[string]*listenerMetrics)}
	for key := range m.byKey {
		name := kmsg.Key(key).Name()
		if name == "" {
			name = "Unknown" + strconv.Itoa(key)
		}
		api := attribute.String("request", name)
		m.byKey[key].attributes = metric.WithAttributeSet(attribute.NewSet(api))
		for p, phase := range phaseNames {
			set := attribute.NewSet(api, attribute.String("phase", phase))
			m.byKey[key].phases[p] = []metric.RecordOption{metric.WithAttributeSet(set)}
		}
	}
	for _, l := range s.o.Listeners {
		m.listeners[l.Name] = &listenerMetrics{
			attributes: metric.WithAttributeSet(attribute.NewSet(attribute.String("listener", l.Name)))}
	}
	return m, m.register(meter, s)
}

// register makes the instruments of a server.
func (m *metrics) register(meter metric.Meter, s *Server) error {
	var errs []error
	counter := func(name, unit, doc string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter("coldbrook_"+name, metric.WithUnit(unit), metric.WithDescription(doc))
		errs = append(errs, err)
		return c
	}
	requests := counter("requests", "{request}", "Requests answered, by API.")
	failed := counter("request_errors", "{request}", "Requests answered with an error or not at all, by API.")
	in := counter("request_bytes", "By", "Bytes of requests, by API.")
	out := counter("response_bytes", "By", "Bytes of responses, by API.")
	unknown := counter("unknown_requests", "{request}", "Connections closed for an API key or version that is not served.")
	panics := counter("request_panics", "{request}", "Requests whose handler panicked.")
	opened := counter("connections_opened", "{connection}", "Connections accepted, by listener.")
	refused := counter("connections_refused", "{connection}", "Connections closed at once because of a limit, by listener.")
	open, err := meter.Int64ObservableGauge("coldbrook_connections", metric.WithUnit("{connection}"),
		metric.WithDescription("Open connections, by listener."))
	errs = append(errs, err)
	memory, err := meter.Int64ObservableGauge("coldbrook_request_memory", metric.WithUnit("By"),
		metric.WithDescription("Memory that requests hold, from the arrival of their bytes until their answers are written."))
	errs = append(errs, err)
	m.time, err = meter.Float64Histogram("coldbrook_request_time", metric.WithUnit("s"),
		metric.WithDescription("Time of requests, by API and phase."), metric.WithExplicitBucketBoundaries(
			.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.registration, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for key := range m.byKey {
			a := &m.byKey[key]
			n := a.requests.Load()
			if n == 0 {
				continue
			}
			o.ObserveInt64(requests, n, a.attributes)
			o.ObserveInt64(failed, a.failed.Load(), a.attributes)
			o.ObserveInt64(in, a.in.Load(), a.attributes)
			o.ObserveInt64(out, a.out.Load(), a.attributes)
		}
		for _, l := range m.listeners {
			o.ObserveInt64(open, l.open.Load(), l.attributes)
			o.ObserveInt64(opened, l.opened.Load(), l.attributes)
			o.ObserveInt64(refused, l.refused.Load(), l.attributes)
		}
		o.ObserveInt64(unknown, m.unknownAPIs.Load())
		o.ObserveInt64(panics, m.panics.Load())
		o.ObserveInt64(memory, s.budget.inUse())
		return nil
	}, memory, requests, failed, in, out, unknown, panics, open, opened, refused)
	return err
}

// close ends the reports of the server.
func (m *metrics) close() {
	// It can only fail when it was done before.
	_ = m.registration.Unregister()
}

// request counts a finished request.
func (m *metrics) request(ctx context.Context, cl *call, now int64) {
	key := int(cl.req.Key)
	if key < 0 || key >= len(m.byKey) {
		return
	}
	a := &m.byKey[key]
	a.requests.Add(1)
	a.in.Add(int64(cl.req.Size) + 4)
	a.out.Add(cl.written)
	if cl.resp.Failed {
		a.failed.Add(1)
	}
	m.record(ctx, a, phaseTotal, now-cl.began)
	m.record(ctx, a, phaseLocal, cl.handled-cl.received)
	if cl.req.Size > readAhead-4 {
		m.record(ctx, a, phaseQueue, cl.received-cl.began)
	}
	if cl.pending != nil {
		m.record(ctx, a, phaseRemote, cl.ready-cl.handled)
	}
	if len(cl.resp.Payloads) > 0 {
		m.record(ctx, a, phaseSend, now-cl.ready)
	}
}

func (m *metrics) record(ctx context.Context, a *apiMetrics, p phase, d int64) {
	m.time.Record(ctx, time.Duration(d).Seconds(), a.phases[p]...)
}

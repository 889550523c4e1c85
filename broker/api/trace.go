package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// traced gives each request a span, from the beginning of its ordered part to
// its response; what remote storage does for it hangs below.
type traced struct {
	wire.Handler
	tracer trace.Tracer
}

// Traced is a handler whose requests are traced. Without an exporter a broker
// uses the handler itself, so that tracing costs nothing then.
func Traced(h wire.Handler, tracer trace.Tracer) wire.Handler { return traced{h, tracer} }

func (t traced) Handle(ctx context.Context, r *wire.Request) (wire.Response, wire.Pending) {
	ctx, span := t.tracer.Start(ctx, kmsg.NameForKey(r.Key), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Received),
		trace.WithAttributes(attribute.Int("version", int(r.Version)), attribute.String("client", r.ClientID), attribute.Int("bytes", r.Size)))
	resp, pending := t.Handler.Handle(ctx, r)
	if pending == nil {
		end(span, resp.Failed, nil)
		return resp, nil
	}
	return resp, func(ctx context.Context) (wire.Response, error) {
		resp, err := pending(trace.ContextWithSpan(ctx, span))
		end(span, resp.Failed, err)
		return resp, err
	}
}

func end(span trace.Span, failed bool, err error) {
	if err != nil {
		span.RecordError(err)
	}
	if failed || err != nil {
		span.SetStatus(otelcodes.Error, "answered with an error")
	}
	span.End()
}

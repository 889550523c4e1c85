package api

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// pendingHandler answers from its pending part and says whether a span was there.
type pendingHandler struct{ sawSpan bool }

func (h *pendingHandler) Terms(int16, int16) (wire.Terms, bool) { return wire.Terms{}, true }

func (h *pendingHandler) Handle(context.Context, *wire.Request) (wire.Response, wire.Pending) {
	return wire.Response{}, func(ctx context.Context) (wire.Response, error) {
		h.sawSpan = trace.SpanFromContext(ctx).IsRecording()
		return wire.Response{Failed: true}, nil
	}
}

func TestEveryRequestHasASpanThatEndsWithItsResponse(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	h := &pendingHandler{}
	traced := Traced(h, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test"))
	_, pending := traced.Handle(t.Context(), &wire.Request{Key: kmsg.Fetch.Int16(), Version: 12, ClientID: "c"})
	if n := len(spans.Ended()); n != 0 {
		t.Fatalf("%d spans ended before the response", n)
	}
	if _, err := pending(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Name() != "Fetch" || ended[0].Status().Code.String() != "Error" || !h.sawSpan {
		t.Errorf("spans %v, seen by the pending part: %v", ended, h.sawSpan)
	}
}

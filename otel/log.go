package otel

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

func parseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q: want debug, info, warn or error", name)
}

func newHandler(w io.Writer, format string, level slog.Leveler) (slog.Handler, error) {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	switch format {
	case "", "text":
		return traced{slog.NewTextHandler(w, o)}, nil
	case "json":
		return traced{slog.NewJSONHandler(w, o)}, nil
	}
	return nil, fmt.Errorf("log format %q: want text or json", format)
}

// readable writes durations as 1.5s in both formats; slog's JSON would write nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// traced adds the ids of the span a line was logged in.
type traced struct{ slog.Handler }

// Handle adds trace_id and span_id if ctx has a span that is recorded.
func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the wrapper around the derived handler.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup keeps the wrapper around the derived handler.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

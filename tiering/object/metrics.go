package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metered counts what passes through a store.
type metered struct {
	Store
	latency metric.Float64Histogram
	errors  metric.Int64Counter
	read    metric.Int64Counter
	written metric.Int64Counter
	attrs   [OpList + 1]metric.MeasurementOption
	count   Count
}

// Count is told of each operation on a key, when it is done or has failed, and of the bytes it moved: what a
// store asks money for. OpRead comes with the bytes of a get's body when that is closed, and with no request. A
// list's key is its prefix; it counts a request for each thousand objects seen. A delete is told key by key. What
// a driver repeats, or takes apart to upload, is not seen here. It is called concurrently and must not wait.
type Count func(op OpKind, key string, requests, bytes int64)

// WithMetrics counts requests (by the count of the latency histogram), failures and bytes of s by
// operation. A list counts once for all its pages; a get's latency ends where its body begins.
func WithMetrics(s Store, m metric.Meter) (Store, error) {
	return WithCount(s, m, func(OpKind, string, int64, int64) {})
}

// WithCount is WithMetrics, and tells count of all that passes.
func WithCount(s Store, m metric.Meter, count Count) (Store, error) {
	w := &metered{Store: s, count: count}
	var err error
	if w.latency, err = m.Float64Histogram("coldbrook_object_request_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time of requests to the object store, by operation. A get ends where its body begins."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120)); err != nil {
		return nil, fmt.Errorf("object store metrics: %w", err)
	}
	for _, c := range []struct {
		to        *metric.Int64Counter
		name, doc string
		unit      string
	}{
		{&w.errors, "coldbrook_object_errors", "Requests to the object store that failed, by operation.", "1"},
		{&w.read, "coldbrook_object_read_bytes", "Bytes read from the object store.", "By"},
		{&w.written, "coldbrook_object_written_bytes", "Bytes of objects put.", "By"},
	} {
		if *c.to, err = m.Int64Counter(c.name, metric.WithDescription(c.doc), metric.WithUnit(c.unit)); err != nil {
			return nil, fmt.Errorf("object store metrics: %w", err)
		}
	}
	for k := range w.attrs {
		w.attrs[k] = metric.WithAttributeSet(attribute.NewSet(attribute.String("op", OpKind(k).String())))
	}
	return w, nil
}

func (w *metered) done(ctx context.Context, k OpKind, start time.Time, err error) {
	w.latency.Record(ctx, time.Since(start).Seconds(), w.attrs[k])
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrExists) {
		w.errors.Add(ctx, 1, w.attrs[k])
	}
}

func (w *metered) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	start := time.Now()
	info, err := w.Store.Put(ctx, key, body, o)
	w.done(ctx, OpPut, start, err)
	if err != nil {
		w.count(OpPut, key, 1, 0)
		return info, err
	}
	w.written.Add(ctx, body.Size())
	w.count(OpPut, key, 1, body.Size())
	return info, nil
}

func (w *metered) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	start := time.Now()
	body, err := w.Store.Get(ctx, key, off, n)
	w.done(ctx, OpGet, start, err)
	if n != 0 {
		w.count(OpGet, key, 1, 0)
	}
	if err != nil {
		return nil, err
	}
	return &meteredBody{ReadCloser: body, ctx: ctx, w: w, key: key}, nil
}

// meteredBody adds its bytes up and reports them once, on Close.
type meteredBody struct {
	io.ReadCloser
	ctx context.Context // of the one Get that this body belongs to
	w   *metered
	key string
	n   int64
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	if err != nil && err != io.EOF {
		b.w.errors.Add(b.ctx, 1, b.w.attrs[OpRead])
	}
	return n, err
}

func (b *meteredBody) WriteTo(dst io.Writer) (int64, error) {
	wt, ok := b.ReadCloser.(io.WriterTo)
	if !ok { // hide WriteTo from Copy, which would come back here
		return io.Copy(dst, struct{ io.Reader }{b})
	}
	n, err := wt.WriteTo(dst)
	b.n += n
	return n, err
}

func (b *meteredBody) Close() error {
	b.w.read.Add(b.ctx, b.n)
	b.w.count(OpRead, b.key, 0, b.n)
	return b.ReadCloser.Close()
}

func (w *metered) Head(ctx context.Context, key string) (Info, error) {
	start := time.Now()
	info, err := w.Store.Head(ctx, key)
	w.done(ctx, OpHead, start, err)
	w.count(OpHead, key, 1, 0)
	return info, err
}

func (w *metered) Delete(ctx context.Context, keys ...string) error {
	start := time.Now()
	err := w.Store.Delete(ctx, keys...)
	w.done(ctx, OpDelete, start, err)
	for _, key := range keys {
		w.count(OpDelete, key, 1, 0)
	}
	return err
}

func (w *metered) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		start := time.Now()
		var failed error
		seen := int64(0)
		defer func() { w.count(OpList, prefix, max((seen+pageKeys-1)/pageKeys, 1), 0) }()
		for info, err := range w.Store.List(ctx, prefix, after) {
			failed = err
			seen++
			if !yield(info, err) {
				break
			}
		}
		w.done(ctx, OpList, start, failed)
	}
}

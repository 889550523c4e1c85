package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/segment/record"
)

// Options of a Runtime. Log and NewMachine are required.
type Options[M Machine] struct {
	// Name is the kind of coordinator, "group" or "transaction": an attribute
	// of metrics and log lines.
	Name string
	Log  Log
	// NewMachine makes the empty machine of a partition. It runs on the
	// partition's goroutine.
	NewMachine func(p *Partition) M
	// LoadBytes is how much of the log is read at a time; 0 is Kafka's 5 MiB.
	LoadBytes int
	// MaxBatchBytes bounds one batch of a split update; 0 is 1,000,000, which
	// fits Kafka's default max.message.bytes.
	MaxBatchBytes int
	// MaxRecordBytes bounds what a compressed batch of the log may hold; 0 is 256 MiB.
	MaxRecordBytes int64
	// Compression of the batches written (offsets.topic.compression.codec).
	Compression record.Compression
	// Barrier is the key of a tombstone that changes nothing when it is
	// replayed. A Read appends it when the lease does not tell that this broker
	// still leads: that it is committed does. Nil: such reads are not proven.
	Barrier []byte
	// RetryAfter is the pause before a failed partition is loaded again; 0 is a second.
	RetryAfter time.Duration
	Logger     *slog.Logger
	Meter      metric.Meter
}

// Runtime runs the machines of the partitions this broker leads. Safe for
// concurrent use.
type Runtime[M Machine] struct {
	o       Options[M]
	log     *slog.Logger
	metrics *metrics

	mu      sync.Mutex
	parts   map[int32]*host[M]
	started []*host[M] // not yet taken by Run
	closed  bool
	wake    chan struct{} // has room for one
}

// New makes a Runtime that leads nothing; it starts no goroutine.
func New[M Machine](o Options[M]) (*Runtime[M], error) {
	if o.Log == nil || o.NewMachine == nil {
		return nil, errors.New("coordinator: Log and NewMachine are required")
	}
	o.LoadBytes = orDefault(o.LoadBytes, 5<<20)
	o.MaxBatchBytes = orDefault(o.MaxBatchBytes, 1_000_000)
	o.MaxRecordBytes = orDefault(o.MaxRecordBytes, 256<<20)
	o.RetryAfter = orDefault(o.RetryAfter, time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Runtime[M]{
		o:     o,
		log:   o.Logger.With("coordinator", o.Name),
		parts: make(map[int32]*host[M]),
		wake:  make(chan struct{}, 1),
	}
	var err error
	r.metrics, err = newMetrics(o.Meter, o.Name, r.count)
	return r, err
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Run loads and runs partitions until ctx ends, and returns nil when all their
// goroutines are gone. It is called once.
func (r *Runtime[M]) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer r.close()
	for {
		for _, h := range r.take() {
			running.Go(func() { r.keep(ctx, h) })
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// Load starts to load a partition that this broker leads at epoch; until it is
// done, operations fail with ErrLoading. It never blocks. A partition that is
// held at a lower epoch, or was given up, is thrown away and loaded again; the
// same epoch again changes nothing, and a lower one is ignored.
func (r *Runtime[M]) Load(partition, epoch int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.parts[partition]
	if r.closed || old != nil && (epoch < old.epoch || epoch == old.epoch && !old.isGone()) {
		return
	}
	h := newHost(r, partition, epoch)
	if old != nil {
		old.stop()
		h.after = old.done
	}
	r.parts[partition] = h
	r.started = append(r.started, h)
	r.signal()
}

// Unload gives a partition up: waiting callers and later ones get
// ErrNotCoordinator. It never blocks. It is ignored when the partition is held
// at an epoch above epoch. It must be called before this broker follows another
// leader of the partition: then nothing of a later leadership is taken for a
// commit of this one.
func (r *Runtime[M]) Unload(partition, epoch int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.parts[partition]
	if h == nil || h.epoch > epoch {
		return
	}
	h.stop()
	delete(r.parts, partition)
}

// Partitions returns the numbers of the partitions this broker leads, sorted,
// loaded or not.
func (r *Runtime[M]) Partitions() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]int32, 0, len(r.parts))
	for id, h := range r.parts {
		if !h.isGone() {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Write runs fn on the partition's machine and returns its result when the
// records fn added are committed; if it added none, when those are that were in the
// log by then, since the result may tell of them. An error of fn drops its update. An error of
// Write besides fn's own and those of this package is the log's or the
// context's; the records may still be committed when it is the context's.
func Write[M Machine, T any](ctx context.Context, r *Runtime[M], partition int32, fn func(m M, u *Update) (T, error)) (T, error) {
	return call(ctx, r, partition, untilCommitted, fn)
}

// Submit runs fn on the partition's machine and returns its result at once,
// when the records fn added are appended; Update.OnCommitted tells the rest.
func Submit[M Machine, T any](ctx context.Context, r *Runtime[M], partition int32, fn func(m M, u *Update) (T, error)) (T, error) {
	return call(ctx, r, partition, untilAppended, fn)
}

// Read runs fn on the partition's machine and returns its result when
// everything that was in the log by then is committed, and nobody else can have
// led the partition before the call: what it shows is never behind what another
// coordinator has acknowledged.
func Read[M Machine, T any](ctx context.Context, r *Runtime[M], partition int32, fn func(m M) (T, error)) (T, error) {
	return call(ctx, r, partition, untilAllCommitted, func(m M, _ *Update) (T, error) { return fn(m) })
}

// Peek runs fn on the partition's machine and returns its result at once.
func Peek[M Machine, T any](ctx context.Context, r *Runtime[M], partition int32, fn func(m M) (T, error)) (T, error) {
	return call(ctx, r, partition, untilAppended, func(m M, _ *Update) (T, error) { return fn(m) })
}

func call[M Machine, T any](ctx context.Context, r *Runtime[M], partition int32, wait until, fn func(m M, u *Update) (T, error)) (T, error) {
	var out T
	h := r.find(partition)
	if h == nil {
		return out, ErrNotCoordinator
	}
	done := make(chan error, 1)
	err := h.submit(ctx, func(loop context.Context) {
		var u Update
		var err error
		if out, err = fn(h.machine, &u); err != nil {
			done <- err
			return
		}
		if barrier := h.r.o.Barrier; wait == untilAllCommitted && barrier != nil && !h.r.o.Log.Leased() {
			u.Append(Record{Key: barrier})
		}
		h.apply(loop, &u, wait, done)
	})
	if err != nil {
		return out, err
	}
	select {
	case err := <-done:
		if err == nil && wait == untilAllCommitted {
			err = h.r.o.Log.WaitCommitted(ctx, h.term(), -1) // says whether we lead; waits for nothing
		}
		return out, err
	case <-ctx.Done():
		var none T // out still belongs to the handler
		return none, fmt.Errorf("wait for coordinator partition %d: %w", partition, ctx.Err())
	}
}

func (r *Runtime[M]) find(partition int32) *host[M] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[partition]
}

func (r *Runtime[M]) take() []*host[M] {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.started
	r.started = nil
	return out
}

func (r *Runtime[M]) signal() {
	select {
	case r.wake <- struct{}{}:
	default: // already set
	}
}

func (r *Runtime[M]) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, h := range r.started {
		close(h.done)
	}
	r.started = nil
	clear(r.parts)
}

// keep runs a partition for as long as it is held: after a failure other than
// a lost leadership it is loaded again.
func (r *Runtime[M]) keep(ctx context.Context, h *host[M]) {
	for h != nil {
		err := h.run(ctx)
		if ctx.Err() != nil || h.stopped() {
			return
		}
		if errors.Is(err, ErrNotCoordinator) {
			r.log.Info("coordinator partition given up", "partition", h.id, "epoch", h.epoch, "err", err)
			return
		}
		r.log.Error("coordinator partition failed, loading it again", "partition", h.id, "epoch", h.epoch, "err", err)
		h = r.replace(h)
	}
}

// replace puts a fresh host in h's place; nil when h was given up meanwhile.
func (r *Runtime[M]) replace(h *host[M]) *host[M] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.parts[h.id] != h {
		return nil
	}
	next := newHost(r, h.id, h.epoch)
	next.pause = r.o.RetryAfter
	r.parts[h.id] = next
	return next
}

// count returns how many partitions are loading and active.
func (r *Runtime[M]) count() (loading, active int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.parts {
		switch h.state.Load() {
		case stateLoading:
			loading++
		case stateActive:
			active++
		}
	}
	return loading, active
}

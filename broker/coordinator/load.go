package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// load replays the partition's log from its start to its end, the part that is
// not committed yet included: this broker leads, so it will be. It returns when
// it is. Kafka's coordinators serve before that; but if this broker is deposed
// first, the next leader may not have those records, and members would have been
// told of a generation, or clients of an offset, that never was.
func (h *host[M]) load(ctx context.Context) error {
	began := time.Now()
	log := h.r.o.Log
	start, err := log.LogStart(ctx, h.term())
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	l := loader[M]{h: h, decompressor: record.NewDecompressor(h.r.o.MaxRecordBytes)}
	for from, end := start, start+1; from < end; {
		var batches []byte
		var next int64
		batches, next, end, err = log.Read(ctx, h.term(), from, h.r.o.LoadBytes)
		if err != nil {
			return fmt.Errorf("load from offset %d: %w", from, err)
		}
		if err := l.replay(batches); err != nil {
			return fmt.Errorf("load from offset %d: %w", from, err)
		}
		if next <= from && from < end {
			return fmt.Errorf("load from offset %d: the log ends at %d but nothing was read", from, end)
		}
		h.appended = end - 1
		from = next
	}
	if h.appended >= 0 {
		if err := log.WaitCommitted(ctx, h.term(), h.appended); err != nil {
			return fmt.Errorf("load: wait for commit of offset %d: %w", h.appended, err)
		}
		h.committed = h.appended
	}
	took := time.Since(began)
	h.r.metrics.loaded(ctx, took)
	level := slog.LevelInfo
	if l.records == 0 {
		level = slog.LevelDebug // most of the 50 partitions are empty, and say nothing at every start
	}
	h.r.log.Log(ctx, level, "coordinator partition loaded", "partition", h.id, "epoch", h.epoch,
		"records", l.records, "skipped", l.skipped, "end", h.appended+1, "took", took)
	return nil
}

// loader replays batches into a machine.
type loader[M Machine] struct {
	h                *host[M]
	decompressor     *record.Decompressor
	records, skipped int64
}

func (l *loader[M]) replay(batches []byte) error {
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			return err
		}
		batches = rest
		if err := l.batch(b); err != nil {
			return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
		}
	}
	return nil
}

func (l *loader[M]) batch(b record.Batch) error {
	r := Replayed{ProducerID: NoProducer, ProducerEpoch: -1}
	if b.IsTransactional() {
		r.ProducerID, r.ProducerEpoch = b.ProducerID(), b.ProducerEpoch()
	}
	return b.Each(l.decompressor, func(rec record.Record) error {
		if b.IsControl() {
			return l.control(b, rec)
		}
		r.Offset, r.Key, r.Value = rec.Offset, rec.Key, rec.Value
		l.records++
		err := l.h.machine.Replay(r)
		if !errors.Is(err, ErrUnknownRecord) {
			return err
		}
		if l.skipped++; l.skipped == 1 {
			l.h.r.log.Warn("skipping records this version does not know", "partition", l.h.id, "offset", rec.Offset, "err", err)
		}
		return nil
	})
}

// control applies a transaction marker; control records of other types are
// not for state machines.
func (l *loader[M]) control(b record.Batch, rec record.Record) error {
	kind, err := record.ParseControlType(rec.Key)
	if err != nil {
		return err
	}
	if kind == record.ControlAbort || kind == record.ControlCommit {
		l.h.machine.ReplayEndTransaction(b.ProducerID(), b.ProducerEpoch(), kind == record.ControlCommit)
	}
	return nil
}

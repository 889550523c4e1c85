package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// append writes an update's records and applies what was written.
func (h *host[M]) append(ctx context.Context, u *Update) error {
	for rest := u.records; len(rest) > 0; {
		n := len(rest)
		if u.Split {
			n = h.fitting(rest)
		}
		last, err := h.r.o.Log.Append(ctx, h.term(), h.encode(rest[:n], u.Producer))
		h.r.metrics.appended(ctx, n, err)
		if err != nil {
			h.r.log.Warn("append to coordinator partition failed", "partition", h.id, "epoch", h.epoch, "records", n, "err", err)
			return err
		}
		first := last - int64(n) + 1
		if first != h.appended+1 {
			// Somebody else wrote: what the machine knows is not what the log says.
			h.failure = fmt.Errorf("appended at offset %d, expected %d", first, h.appended+1)
			return h.failure
		}
		for i := range rest[:n] {
			if apply := rest[i].Apply; apply != nil {
				apply(first + int64(i))
			}
		}
		h.appended = last
		rest = rest[n:]
	}
	return nil
}

// recordOverhead is more than what a record takes besides its key and value.
const recordOverhead = 32

// fitting is how many of the records, at least one, fit into one batch.
func (h *host[M]) fitting(records []Record) int {
	size := record.HeaderSize
	for i, r := range records {
		size += len(r.Key) + len(r.Value) + recordOverhead
		if size > h.r.o.MaxBatchBytes && i > 0 {
			return i
		}
	}
	return len(records)
}

func (h *host[M]) encode(records []Record, p *Producer) []byte {
	o := record.BuilderOptions{Compression: h.r.o.Compression, LeaderEpoch: h.epoch}
	if p != nil {
		// No sequence: the coordinator is the only writer and never retries.
		o.Producer, o.Transactional = &record.Producer{ID: p.ID, Epoch: p.Epoch, BaseSequence: -1}, true
	}
	b := h.builder
	b.Reset(o)
	now := time.Now().UnixMilli()
	for _, r := range records {
		b.Append(now, r.Key, r.Value)
	}
	return b.Build()
}

package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// coldGrace is how long a fetch that already has its bytes waits for cold
// partitions: enough for a read from the cache, too short to be felt.
const coldGrace = 2 * time.Millisecond

// FetchRequest asks for batches of several partitions.
type FetchRequest struct {
	Replica       metadata.BrokerID // metadata.NoBroker for a consumer
	MaxWait       time.Duration
	MinBytes      int
	MaxBytes      int
	ReadCommitted bool
	Partitions    []FetchPartition
}

// FetchPartition asks for one partition's batches from Offset.
type FetchPartition struct {
	Name         metadata.TopicPartition
	ID           metadata.TopicIDPartition // checked when ByID is set
	ByID         bool
	Offset       int64
	MaxBytes     int
	CurrentEpoch int32 // the caller's leader epoch, -1 if none
	FetchedEpoch int32 // epoch of the last fetched record, -1 if none (KIP-595)
	Tag          int   // the caller's own
}

// FetchResult is one partition's answer. The caller releases Data.
type FetchResult struct {
	Err           error
	HighWatermark int64
	LastStable    int64
	LogStart      int64
	Data          segment.RemoteData // nil when there are no bytes
	Aborted       []segment.AbortedTxn
	// DivergingEpoch and DivergingEnd are set when FetchedEpoch does not fit
	// the log (KIP-595); DivergingEpoch is -1 otherwise.
	DivergingEpoch int32
	DivergingEnd   int64
}

func (r *FetchResult) size() int {
	if r.Data == nil {
		return 0
	}
	return int(r.Data.Len())
}

// fetch is one request being answered.
type fetch struct {
	m       *Manager
	req     *FetchRequest
	parts   []*Partition
	results []FetchResult
	bytes   int
	failed  bool
	cold    []int // indexes of partitions whose offset is remote
}

// Fetch answers the request, waiting up to MaxWait until MinBytes are there.
// Partitions are answered in the order of the request: MaxBytes is spent in
// that order, and the first partition with data gives at least one batch
// however large (KIP-74). An error of one partition ends the wait. The results
// are in the order of the request; every Data in them is the caller's.
func (m *Manager) Fetch(ctx context.Context, req *FetchRequest) []FetchResult {
	f := &fetch{m: m, req: req, parts: make([]*Partition, len(req.Partitions)), results: make([]FetchResult, len(req.Partitions))}
	f.readAll()
	if len(f.cold) > 0 {
		// What the remote log gave in time is the answer; what it did not give
		// is in the cache at the next poll.
		f.readCold(ctx)
		return f.results
	}
	if f.enough() || req.MaxWait <= 0 {
		return f.results
	}
	f.wait(ctx)
	return f.results
}

func (f *fetch) enough() bool { return f.failed || f.bytes >= f.req.MinBytes }

// readAll reads every partition once from local disk and notes the cold ones.
func (f *fetch) readAll() {
	f.bytes, f.failed, f.cold = 0, false, f.cold[:0]
	for i := range f.req.Partitions {
		f.read(i)
	}
}

// release gives back what was read, before another try.
func (f *fetch) release() {
	for i := range f.results {
		if f.results[i].Data != nil {
			f.results[i].Data.Release()
			f.results[i].Data = nil
		}
	}
}

func (f *fetch) find(i int) (*Partition, error) {
	if f.parts[i] != nil {
		return f.parts[i], nil
	}
	q := &f.req.Partitions[i]
	var p *Partition
	var err error
	if q.ByID {
		p, err = f.m.PartitionByID(q.ID)
	} else {
		p, err = f.m.Partition(q.Name)
	}
	f.parts[i] = p
	return p, err
}

func (f *fetch) fail(i int, err error) {
	f.results[i].Err = err
	f.failed = true
}

func (f *fetch) read(i int) {
	q, r := &f.req.Partitions[i], &f.results[i]
	*r = FetchResult{HighWatermark: -1, LastStable: -1, LogStart: -1, DivergingEpoch: -1}
	p, err := f.find(i)
	if err != nil {
		f.fail(i, err)
		return
	}
	if _, err := p.leaderState(q.CurrentEpoch); err != nil {
		f.fail(i, err)
		return
	}
	r.HighWatermark, r.LastStable, r.LogStart = p.log.HighWatermark(), p.log.LastStableOffset(), p.log.LogStart()
	if q.FetchedEpoch >= 0 && f.diverges(p, q, r) {
		f.failed = true // answered at once, though not an error
		return
	}
	upTo := p.upTo(f.req.ReadCommitted, f.req.Replica != metadata.NoBroker)
	switch {
	case q.Offset < r.LogStart || q.Offset > p.log.LogEnd():
		f.fail(i, fmt.Errorf("offset %d of %s, log is [%d, %d]: %w", q.Offset, p.tp, r.LogStart, p.log.LogEnd(), segment.ErrOffsetOutOfRange))
	case q.Offset < p.log.LocalLogStart():
		f.cold = append(f.cold, i)
	case q.Offset < upTo:
		f.readHot(i, p, upTo)
	}
}

func (f *fetch) readHot(i int, p *Partition, upTo int64) {
	q, r := &f.req.Partitions[i], &f.results[i]
	room := min(q.MaxBytes, f.req.MaxBytes-f.bytes)
	if room <= 0 && f.bytes > 0 {
		return
	}
	chunk, err := p.log.Read(q.Offset, segment.ReadOptions{UpTo: upTo, MaxBytes: max(room, 0), MinOne: f.bytes == 0})
	if errors.Is(err, segment.ErrOffsetOutOfRange) && q.Offset >= p.log.LogStart() && q.Offset < p.log.LocalLogStart() {
		f.cold = append(f.cold, i) // evicted since we looked
		return
	}
	if err != nil {
		f.fail(i, err)
		return
	}
	if chunk.Len() == 0 {
		chunk.Release()
		return
	}
	r.Data = chunk
	f.bytes += int(chunk.Len())
	if f.req.ReadCommitted {
		if r.Aborted, err = p.log.AbortedTransactions(q.Offset, chunk.NextOffset()); err != nil {
			r.Data.Release()
			r.Data = nil
			f.fail(i, err)
		}
	}
}

// diverges compares the caller's last fetched epoch with the log (KIP-595).
func (f *fetch) diverges(p *Partition, q *FetchPartition, r *FetchResult) bool {
	epoch, end := p.log.EndOffsetForEpoch(q.FetchedEpoch)
	if epoch < 0 {
		return false // the epoch has left the log: the offset decides
	}
	if epoch < q.FetchedEpoch || end < q.Offset {
		r.DivergingEpoch, r.DivergingEnd = epoch, end
		return true
	}
	return false
}

// wait reads again at each wake-up until there is enough or time is up.
// While it waits it holds no bytes.
func (f *fetch) wait(ctx context.Context) {
	timer := time.NewTimer(f.req.MaxWait)
	defer timer.Stop()
	wake := make(chan struct{}, 1)
	for _, p := range f.parts {
		if p != nil {
			p.fetches.add(wake)
			defer p.fetches.remove(wake)
		}
	}
	for {
		// Read after registering: what arrived before is seen here, what
		// arrives after wakes.
		f.release()
		f.readAll()
		// A partition that is cold has had its wait: the answer goes out as it
		// is, and the next poll finds the bytes in the cache.
		if f.enough() || len(f.cold) > 0 {
			return
		}
		select {
		case <-wake:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

type coldRead struct {
	index   int
	data    segment.RemoteData
	aborted []segment.AbortedTxn
	err     error
}

// readCold reads all cold partitions in parallel. One that is not done in time
// is left to the cache.
func (f *fetch) readCold(ctx context.Context) {
	limit := min(f.m.o.RemoteWait, f.req.MaxWait)
	if f.bytes >= f.req.MinBytes && f.bytes > 0 || limit < coldGrace {
		limit = coldGrace
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cold := f.cold
	f.cold = nil
	share := max((f.req.MaxBytes-f.bytes)/len(cold), 1)
	if len(cold) == 1 {
		f.takeCold(ctx, f.readOneCold(ctx, cold[0], share, f.bytes == 0))
		return
	}
	done := make(chan coldRead, len(cold))
	for n, i := range cold {
		minOne := f.bytes == 0 && n == 0
		go func() { done <- f.readOneCold(ctx, i, share, minOne) }()
	}
	// Every reader returns when ctx ends at the latest, so none outlives us.
	for range cold {
		f.takeCold(ctx, <-done)
	}
}

// readOneCold only reads what no other goroutine changes.
func (f *fetch) readOneCold(ctx context.Context, i, share int, minOne bool) coldRead {
	q, p := &f.req.Partitions[i], f.parts[i]
	o := segment.ReadOptions{UpTo: p.upTo(f.req.ReadCommitted, false), MaxBytes: min(q.MaxBytes, share), MinOne: minOne}
	data, err := f.m.o.Remote.Read(ctx, p.tip, q.Offset, o)
	if err != nil {
		return coldRead{index: i, err: err}
	}
	c := coldRead{index: i, data: data}
	if f.req.ReadCommitted && data.Len() > 0 {
		if c.aborted, c.err = f.m.o.Remote.AbortedTransactions(ctx, p.tip, q.Offset, data.NextOffset()); c.err != nil {
			data.Release()
			c.data = nil
		}
	}
	return c
}

func (f *fetch) takeCold(ctx context.Context, c coldRead) {
	r := &f.results[c.index]
	switch {
	case errors.Is(c.err, context.DeadlineExceeded), errors.Is(c.err, context.Canceled):
		f.m.metrics.coldLate(ctx)
	case c.err != nil:
		f.fail(c.index, c.err)
	case c.data == nil:
	case c.data.Len() == 0:
		c.data.Release()
	default:
		r.Data, r.Aborted = c.data, c.aborted
		f.bytes += int(c.data.Len())
	}
}

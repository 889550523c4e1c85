package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment"
)

const (
	// coldGrace is how long a fetch that already has its bytes waits for cold
	// partitions: enough for a read from the cache, too short to be felt.
	coldGrace = 2 * time.Millisecond
	// maxCold is how many cold partitions one request reads; the next request
	// begins with others.
	maxCold = 64
	// coldShare is the least that a cold partition is read for when the caller's
	// quota has not enough for all: fewer partitions then, and others next time.
	coldShare = 256 << 10
)

type coldRead struct {
	index   int
	data    segment.RemoteData
	aborted []segment.AbortedTxn
	err     error

	stable    int64 // of a partition without a replica here: up to where the tier knows how transactions ended; 0: not asked
	undecided bool  // the offset is not below it
}

// admitCold reserves what the cold partitions may give, before anything is read
// for them: fetches beside this one see what is left.
func (f *fetch) admitCold() {
	f.granted, f.refused = 0, 0
	if len(f.cold) > 0 {
		f.granted, f.refused = f.req.Remote.Reserve(f.wantCold(), f.now)
	}
}

func (f *fetch) wantCold() int {
	want := 0
	for _, i := range f.cold[:min(len(f.cold), maxCold)] {
		want += max(f.req.Partitions[i].MaxBytes, 0)
	}
	return max(min(want, f.req.MaxBytes), 1)
}

// coldDue says that cold partitions can be read now, or that there is nothing
// else to wait for.
func (f *fetch) coldDue() bool { return len(f.cold) > 0 && (f.refused == 0 || f.onlyCold()) }

func (f *fetch) onlyCold() bool { return len(f.cold) == len(f.req.Partitions) }

// leaveOut answers without the cold partitions. Only a caller that asks for
// nothing else is told to stay away: what is hot must not wait for what is cold.
func (f *fetch) leaveOut() {
	f.req.Remote.Refused()
	if f.onlyCold() {
		f.req.Remote.Throttle(f.refused)
	}
}

// settle pays for what was read, and says when there will be more.
func (f *fetch) settle(used int) {
	now := time.Now()
	f.req.Remote.Settle(used, now)
	if used > 0 && f.onlyCold() {
		f.req.Remote.Throttle(f.req.Remote.Wait(f.wantCold(), now))
	}
}

// readCold reads the cold partitions in parallel. One that is not done in time
// is left to the cache.
func (f *fetch) readCold(ctx context.Context) {
	limit := min(f.m.o.RemoteWait, f.req.MaxWait)
	if f.urgent || f.bytes > 0 && f.enough() {
		limit = 0
	}
	ctx, cancel := context.WithTimeout(ctx, max(limit, coldGrace))
	defer cancel()
	cold := f.cold[:min(len(f.cold), maxCold)]
	budget := max(min(f.req.MaxBytes-f.bytes, f.granted), 0)
	if f.granted < f.wantCold() {
		cold = cold[:min(len(cold), max(budget/coldShare, 1))]
	}
	f.reader = f.req.User + "/" + f.req.ClientID
	share, before := budget/len(cold), f.bytes
	defer func() { f.settle(f.bytes - before) }()
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
	o := segment.ReadOptions{UpTo: f.upTo(p, &f.results[i]), MaxBytes: min(q.MaxBytes, share), MinOne: minOne, Reader: f.reader, Holder: f.req.Conn}
	if o.MaxBytes <= 0 && !minOne {
		return coldRead{index: i}
	}
	c := coldRead{index: i}
	var err error
	if p == nil && f.req.ReadCommitted {
		if c.stable, err = f.m.o.Remote.LastStableOffset(ctx, q.ID); err != nil {
			return coldRead{index: i, err: f.remoteError(p, q, err)}
		}
		if o.UpTo = min(o.UpTo, c.stable); q.Offset >= c.stable {
			c.undecided = true
			return c
		}
	}
	data, err := f.m.o.Remote.Read(ctx, q.ID, q.Offset, o)
	if err != nil {
		return coldRead{index: i, err: f.remoteError(p, q, err)}
	}
	c.data = data
	if f.req.ReadCommitted && data.Len() > 0 {
		if p != nil {
			c.aborted, c.err = f.m.aborted(ctx, p, q.Offset, data.NextOffset())
		} else if c.aborted, err = f.m.o.Remote.AbortedTransactions(ctx, q.ID, q.Offset, data.NextOffset()); err != nil {
			c.err = f.remoteError(p, q, err)
		}
		if c.err != nil {
			data.Release()
			c.data = nil
		}
	}
	return c
}

func (f *fetch) remoteError(p *Partition, q *FetchPartition, err error) error {
	if p != nil {
		return p.remoteError(q.Offset, err)
	}
	pointer, _ := f.m.o.Metadata.Image().RemotePointer(q.ID)
	return remoteError(q.ID, q.Offset, pointer.StartOffset, err)
}

// remoteError judges an error of the remote log. An offset that is in the log
// and not in the tier must not look out of range to a consumer, which would
// skip to another offset.
func (p *Partition) remoteError(offset int64, err error) error {
	return remoteError(p.tp, offset, p.log.LogStart(), err)
}

func remoteError(partition fmt.Stringer, offset, logStart int64, err error) error {
	switch {
	case offset < logStart:
		return fmt.Errorf("offset %d of %s, the log starts at %d: %w", offset, partition, logStart, segment.ErrOffsetOutOfRange)
	case late(err):
		return err
	}
	return fmt.Errorf("%w: %s at offset %d: %w", ErrRemote, partition, offset, err)
}

// late says that an operation ended because nobody waits for it any more.
func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (f *fetch) takeCold(ctx context.Context, c coldRead) {
	r := &f.results[c.index]
	if c.stable > 0 {
		r.LastStable = min(r.LastStable, c.stable)
	}
	switch {
	case c.undecided:
		if err := f.sendBack(c.index); err != nil {
			f.fail(c.index, err)
		}
	case c.err != nil && late(c.err):
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

// aborted lists the aborted transactions with records in [from, to). The tier
// knows what its segments' markers say, the local log the rest.
func (m *Manager) aborted(ctx context.Context, p *Partition, from, to int64) ([]segment.AbortedTxn, error) {
	// The local log first: what is evicted meanwhile is in the tier by then.
	local, err := p.log.AbortedTransactions(from, to)
	for errors.Is(err, segment.ErrOffsetOutOfRange) && ctx.Err() == nil {
		local, err = p.log.AbortedTransactions(from, to) // a segment went away under it
	}
	if err != nil || from >= p.log.LocalLogStart() {
		return local, err
	}
	cold, err := m.o.Remote.AbortedTransactions(ctx, p.tip, from, to)
	if err != nil {
		return nil, p.remoteError(from, err)
	}
	for _, t := range local { // the two overlap
		if !slices.Contains(cold, t) {
			cold = append(cold, t)
		}
	}
	return cold, nil
}

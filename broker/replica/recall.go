package replica

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/segment"
)

const (
	// recallsAtOnce is how many partitions read the tier for their producers.
	recallsAtOnce = 8
	// recallChunk bounds one read of the tier for that.
	recallChunk = 1 << 20
	// recallExcess is how many times larger than wanted a run of records may turn
	// out to be before a shorter one is read in its place.
	recallExcess = 4
)

// recallForgotten reads for the producer state of led partitions what producers
// sent before the tier's end, until ctx ends: a replica that began there knows the
// last batch of each. Who sends an earlier one again is told to try later, and
// each try has a little more read.
func (m *Manager) recallForgotten(ctx context.Context) error {
	for {
		select {
		case <-m.forgot.wake:
		case <-ctx.Done():
			return nil
		}
		var g errgroup.Group
		g.SetLimit(recallsAtOnce)
		for p := range m.forgot.take() {
			g.Go(func() error {
				if err := m.recallSome(ctx, p); err != nil && ctx.Err() == nil {
					m.log.Warn("producers' batches cannot be looked up in the tier, they try on", "partition", p.tp, "err", err)
				}
				return nil
			})
		}
		_ = g.Wait() // nobody returns one
	}
}

// recallSome reads one run of records.
func (m *Manager) recallSome(ctx context.Context, p *Partition) error {
	ctx, cancel := context.WithTimeout(ctx, auxTimeout)
	defer cancel()
	for shorter := int64(1); ; shorter *= 2 * recallExcess {
		r := p.log.Recollect()
		if r == nil {
			return nil
		}
		from := max(p.log.LogStart(), r.UpTo()-max(1, m.recordsIn(p, r.Size())/shorter))
		whole, err := m.recallRun(ctx, p, r, from)
		if err != nil {
			return err
		}
		if whole {
			r.Done(from)
			return nil
		}
	}
}

// recordsIn guesses how many records of the tier are so many bytes.
func (m *Manager) recordsIn(p *Partition, bytes int64) int64 {
	v := m.o.Remote.View(p.tip)
	records := v.HighestOffset - v.StartOffset + 1
	if v.Bytes <= 0 || records <= 0 {
		return 1000
	}
	return bytes * records / v.Bytes
}

// recallRun reads the records from an offset on. False means that they are far
// more bytes than wanted.
func (m *Manager) recallRun(ctx context.Context, p *Partition, r *segment.Recollection, from int64) (bool, error) {
	var b []byte
	read := int64(0)
	for at := from; at < r.UpTo(); {
		if read > recallExcess*r.Size() && r.UpTo()-from > 1 {
			return false, nil
		}
		data, err := m.o.Remote.Read(ctx, p.tip, at, segment.ReadOptions{UpTo: r.UpTo(), MaxBytes: recallChunk, MinOne: true})
		if err != nil {
			return false, err
		}
		b, err = data.AppendTo(b[:0])
		next := data.NextOffset()
		data.Release()
		if err != nil {
			return false, err
		}
		if len(b) == 0 || next <= at {
			return false, fmt.Errorf("%w: nothing of %s at offset %d", ErrRemote, p.tp, at)
		}
		if err := r.Add(b); err != nil {
			return false, err
		}
		at, read = next, read+int64(len(b))
	}
	return true, nil
}

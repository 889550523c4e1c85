// Package memlog is an internal topic in memory for the tests of the coordinators:
// it commits, holds back and fails as it is told.
package memlog

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// Log is an internal topic in memory. Batches are committed when appended,
// unless held; appends can be made to fail; leadership moves at will.
type Log struct {
	mu         sync.Mutex
	partitions map[int32]*partition
	held       bool
	unleased   bool
	fail       func(partition int32, batch record.Batch) error
	reads      error
	moved      chan struct{} // closed and replaced when anything changes
}

type partition struct {
	batches []record.Batch
	epoch   int32 // that appends must have, -1 any
	start   int64
	end, hw int64
}

// New returns a log without batches that commits at once.
func New() *Log {
	return &Log{partitions: make(map[int32]*partition), moved: make(chan struct{})}
}

func (l *Log) at(id int32) *partition {
	p := l.partitions[id]
	if p == nil {
		p = &partition{epoch: -1}
		l.partitions[id] = p
	}
	return p
}

func (l *Log) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.moved)
	l.moved = make(chan struct{})
}

// Commit moves the high watermark to the log's end.
func (l *Log) Commit(id int32) { l.change(func() { p := l.at(id); p.hw = p.end }) }

// Hold keeps appended batches from being committed.
func (l *Log) Hold(on bool) { l.change(func() { l.held = on }) }

// Unlease makes the log say that somebody else may lead, or not any more.
func (l *Log) Unlease(on bool) { l.change(func() { l.unleased = on }) }

// Leased is [coordinator.Log]'s.
func (l *Log) Leased() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.unleased
}

// FailAppends lets fn decide whether an append fails; nil lets all succeed.
func (l *Log) FailAppends(fn func(partition int32, batch record.Batch) error) {
	l.change(func() { l.fail = fn })
}

// FailReads makes reads fail with err; nil lets them succeed.
func (l *Log) FailReads(err error) { l.change(func() { l.reads = err }) }

// Lead makes this broker the leader at epoch; what was not committed is lost.
func (l *Log) Lead(id, epoch int32) {
	l.change(func() {
		p := l.at(id)
		p.epoch = epoch
		for len(p.batches) > 0 && p.batches[len(p.batches)-1].NextOffset() > p.hw {
			p.batches = p.batches[:len(p.batches)-1]
		}
		p.end = p.hw
	})
}

// Put appends a batch as it is.
func (l *Log) Put(id int32, b record.Batch) {
	l.change(func() {
		p := l.at(id)
		b.SetBaseOffset(p.end)
		p.batches = append(p.batches, b)
		p.end = b.NextOffset()
		p.hw = p.end
	})
}

// Append is [coordinator.Log]'s.
func (l *Log) Append(_ context.Context, t coordinator.Term, batch []byte) (last int64, err error) {
	b := record.Batch(bytes.Clone(batch))
	l.change(func() {
		p := l.at(t.Partition)
		if l.fail != nil {
			err = l.fail(t.Partition, b)
		}
		if b.LeaderEpoch() != t.Epoch {
			err = fmt.Errorf("batch of epoch %d in term %v", b.LeaderEpoch(), t)
		}
		if !p.ledAt(t) {
			err = coordinator.ErrNotCoordinator
		}
		if err != nil {
			return
		}
		b.SetBaseOffset(p.end)
		p.batches = append(p.batches, b)
		p.end = b.NextOffset()
		if !l.held {
			p.hw = p.end
		}
		last = b.LastOffset()
	})
	return last, err
}

// WaitCommitted is [coordinator.Log]'s.
func (l *Log) WaitCommitted(ctx context.Context, t coordinator.Term, offset int64) error {
	for {
		l.mu.Lock()
		p, moved := *l.at(t.Partition), l.moved
		l.mu.Unlock()
		switch {
		case !p.ledAt(t):
			return coordinator.ErrNotCoordinator
		case p.hw > offset:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Read is [coordinator.Log]'s.
func (l *Log) Read(_ context.Context, t coordinator.Term, from int64, maxBytes int) (out []byte, next, end int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads != nil {
		return nil, 0, 0, l.reads
	}
	p := l.at(t.Partition)
	if !p.ledAt(t) {
		return nil, 0, 0, coordinator.ErrNotCoordinator
	}
	next = from
	for _, b := range p.batches {
		if b.NextOffset() <= from {
			continue
		}
		if len(out) > 0 && len(out)+len(b) > maxBytes {
			break
		}
		out = append(out, b...)
		next = b.NextOffset()
	}
	if len(out) == 0 {
		next = p.end
	}
	return out, next, p.end, nil
}

// LogStart is [coordinator.Log]'s.
func (l *Log) LogStart(_ context.Context, t coordinator.Term) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.at(t.Partition)
	if !p.ledAt(t) {
		return -1, coordinator.ErrNotCoordinator
	}
	return p.start, nil
}

// ledAt says whether this broker leads the partition in the term.
func (p *partition) ledAt(t coordinator.Term) bool { return p.epoch == -1 || p.epoch == t.Epoch }

// End is the offset of the next record.
func (l *Log) End(id int32) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at(id).end
}

package coordinator_test

import (
	"bytes"
	"context"
	"sync"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// memLog is an internal topic in memory. Batches are committed when appended,
// unless held; appends can be made to fail; leadership moves at will.
type memLog struct {
	mu         sync.Mutex
	partitions map[int32]*memPartition
	held       bool
	fail       func(partition int32, batch record.Batch) error
	reads      func() error
	moved      chan struct{} // closed and replaced when anything changes
}

type memPartition struct {
	batches []record.Batch
	epoch   int32 // that appends must have, -1 any
	start   int64
	end, hw int64
}

func newMemLog() *memLog {
	return &memLog{partitions: make(map[int32]*memPartition), moved: make(chan struct{})}
}

func (l *memLog) at(id int32) *memPartition {
	p := l.partitions[id]
	if p == nil {
		p = &memPartition{epoch: -1}
		l.partitions[id] = p
	}
	return p
}

func (l *memLog) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.moved)
	l.moved = make(chan struct{})
}

// commit moves the high watermark to the log's end.
func (l *memLog) commit(id int32) { l.change(func() { p := l.at(id); p.hw = p.end }) }

func (l *memLog) hold(on bool) { l.change(func() { l.held = on }) }

func (l *memLog) failAppends(fn func(partition int32, batch record.Batch) error) {
	l.change(func() { l.fail = fn })
}

// lead makes this broker the leader at epoch; what was not committed is lost.
func (l *memLog) lead(id, epoch int32) {
	l.change(func() {
		p := l.at(id)
		p.epoch = epoch
		for len(p.batches) > 0 && p.batches[len(p.batches)-1].NextOffset() > p.hw {
			p.batches = p.batches[:len(p.batches)-1]
		}
		p.end = p.hw
	})
}

// put appends a batch as it is.
func (l *memLog) put(id int32, b record.Batch) {
	l.change(func() {
		p := l.at(id)
		b.SetBaseOffset(p.end)
		p.batches = append(p.batches, b)
		p.end = b.NextOffset()
		p.hw = p.end
	})
}

func (l *memLog) Append(_ context.Context, id int32, batch []byte) (last int64, err error) {
	b := record.Batch(bytes.Clone(batch))
	l.change(func() {
		p := l.at(id)
		if l.fail != nil {
			err = l.fail(id, b)
		}
		if p.epoch >= 0 && b.LeaderEpoch() != p.epoch {
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

func (l *memLog) WaitCommitted(ctx context.Context, id int32, offset int64) error {
	l.mu.Lock()
	epoch := l.at(id).epoch
	l.mu.Unlock()
	for {
		l.mu.Lock()
		p, moved := *l.at(id), l.moved
		l.mu.Unlock()
		switch {
		case p.epoch != epoch:
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

func (l *memLog) Read(_ context.Context, id int32, from int64, maxBytes int) (out []byte, next, end int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads != nil {
		if err := l.reads(); err != nil {
			return nil, 0, 0, err
		}
	}
	p := l.at(id)
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

func (l *memLog) LogStart(_ context.Context, id int32) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at(id).start, nil
}

func (l *memLog) end(id int32) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at(id).end
}

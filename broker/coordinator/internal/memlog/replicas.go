package memlog

import (
	"bytes"
	"context"
	"sync"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// Replicas is one partition of an internal topic on several brokers, with
// Kafka's rules: a leader is elected among the in-sync replicas, followers copy
// what it has and cut what it has not, and the high watermark is the lowest end
// that the in-sync replicas reported in this epoch. A broker knows of an election
// only when it is told, and until then a deposed leader goes on as before.
type Replicas struct {
	mu     sync.Mutex
	copies []*replica
	leader int
	epoch  int32
	moved  chan struct{} // closed and replaced when anything changes
}

// replica is one broker's copy and what it believes.
type replica struct {
	batches  []record.Batch
	hw       int64
	term     int32 // the epoch it leads at as far as it knows, -1 follows
	leased   bool
	inSync   bool
	reported int64 // its end as the leader of this epoch knows it, -1 not yet
}

func (r *replica) end() int64 {
	if len(r.batches) == 0 {
		return 0
	}
	return r.batches[len(r.batches)-1].NextOffset()
}

// NewReplicas returns n copies without a leader; see Elect.
func NewReplicas(n int) *Replicas {
	rs := &Replicas{leader: -1, moved: make(chan struct{})}
	for range n {
		rs.copies = append(rs.copies, &replica{term: -1, inSync: true, reported: -1})
	}
	return rs
}

func (rs *Replicas) change(fn func()) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	fn()
	close(rs.moved)
	rs.moved = make(chan struct{})
}

// Elect makes an in-sync broker the leader; nobody is told. If the old leader's
// lease is lost, it is out of sync from now on. It returns false if the broker
// may not lead.
func (rs *Replicas) Elect(broker int, leaseLost bool) (elected bool) {
	rs.change(func() {
		if !rs.copies[broker].inSync || broker == rs.leader {
			return
		}
		if old := rs.leader; leaseLost && old >= 0 {
			rs.copies[old].inSync, rs.copies[old].leased = false, false
		}
		rs.leader, elected = broker, true
		rs.epoch++
		for _, r := range rs.copies {
			r.reported = -1
		}
	})
	return elected
}

// Tell makes a broker know who leads; it returns the epoch, and whether the
// broker leads and did not know.
func (rs *Replicas) Tell(broker int) (epoch int32, began bool) {
	rs.change(func() {
		r := rs.copies[broker]
		epoch = rs.epoch
		if broker != rs.leader {
			r.term = -1
			return
		}
		began = r.term != epoch
		r.term, r.leased = epoch, true
		rs.commit()
	})
	return epoch, began
}

// Leader is the broker that leads.
func (rs *Replicas) Leader() int {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.leader
}

// Replicate lets a follower fetch one batch.
func (rs *Replicas) Replicate(follower int) {
	rs.change(func() {
		f, l := rs.copies[follower], rs.copies[rs.leader]
		if f.term >= 0 || l.term != rs.epoch {
			return // one of them does not know
		}
		same := 0
		for same < len(f.batches) && same < len(l.batches) && bytes.Equal(f.batches[same], l.batches[same]) {
			same++
		}
		f.batches = f.batches[:same:same]
		if same < len(l.batches) {
			f.batches = append(f.batches, l.batches[same])
		}
		f.reported = f.end()
		if f.reported >= l.hw && l.hw >= 0 {
			f.inSync = true
		}
		rs.commit()
		f.hw = max(f.hw, min(l.hw, f.end()))
	})
}

// commit moves the leader's high watermark.
func (rs *Replicas) commit() {
	l := rs.copies[rs.leader]
	end := l.end()
	for _, r := range rs.copies {
		if r != l && r.inSync {
			end = min(end, r.reported)
		}
	}
	l.hw = max(l.hw, end)
}

// Log is the partition as one broker sees it.
func (rs *Replicas) Log(broker int) coordinator.Log { return replicaLog{rs, rs.copies[broker]} }

type replicaLog struct {
	rs *Replicas
	r  *replica
}

func (l replicaLog) Append(_ context.Context, t coordinator.Term, batch []byte) (last int64, err error) {
	b := record.Batch(bytes.Clone(batch))
	l.rs.change(func() {
		if l.r.term != t.Epoch {
			err = coordinator.ErrNotCoordinator
			return
		}
		b.SetBaseOffset(l.r.end())
		l.r.batches = append(l.r.batches, b)
		last = b.LastOffset()
		if l.rs.copies[l.rs.leader] == l.r {
			l.rs.commit()
		}
	})
	return last, err
}

func (l replicaLog) WaitCommitted(ctx context.Context, t coordinator.Term, offset int64) error {
	for {
		l.rs.mu.Lock()
		term, hw, moved := l.r.term, l.r.hw, l.rs.moved
		l.rs.mu.Unlock()
		switch {
		case term != t.Epoch:
			return coordinator.ErrNotCoordinator
		case hw > offset:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l replicaLog) Read(_ context.Context, t coordinator.Term, from int64, _ int) (out []byte, next, end int64, err error) {
	l.rs.mu.Lock()
	defer l.rs.mu.Unlock()
	if l.r.term != t.Epoch {
		return nil, 0, 0, coordinator.ErrNotCoordinator
	}
	for _, b := range l.r.batches {
		if b.NextOffset() > from {
			out = append(out, b...)
		}
	}
	return out, l.r.end(), l.r.end(), nil
}

func (l replicaLog) LogStart(context.Context, coordinator.Term) (int64, error) { return 0, nil }

func (l replicaLog) Leased() bool {
	l.rs.mu.Lock()
	defer l.rs.mu.Unlock()
	return l.r.leased
}

package producer

import (
	"math"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

const (
	// kept is how many batches of a producer are remembered, which is how many a
	// client may have in flight: ProducerStateEntry.NUM_BATCHES_TO_RETAIN.
	kept = 5

	noEpoch int16 = -1

	// maxRun bounds a run of sequence numbers, so that "before" stays unambiguous
	// when they wrap.
	maxRun = 1 << 30
)

// batch is one of the last batches of a producer.
type batch struct {
	first, last int32 // sequence numbers
	lastOffset  int64
	delta       int32 // last minus first offset
	timestamp   int64
}

// entry is the state of one producer. It is copied by value.
type entry struct {
	id               int64
	epoch            int16
	coordinatorEpoch int32
	lastTimestamp    int64
	txnFirst         int64 // of the open transaction, -1: none
	batches          [kept]batch
	n                int // batches, oldest first
	// run counts the sequence numbers before and with the last one that are known
	// to have been appended without a gap in this epoch. Snapshots do not hold it.
	run int64
	// silentSince is when Expire first found the producer silent, if its
	// timestamps do not tell.
	silentSince time.Time
}

// dated reports whether the last timestamp says when the producer was heard.
func (e *entry) dated(now time.Time) bool {
	return e.lastTimestamp >= 0 && e.lastTimestamp <= now.UnixMilli()
}

func newEntry(id int64) *entry {
	return &entry{id: id, epoch: noEpoch, coordinatorEpoch: -1, lastTimestamp: record.NoTimestamp, txnFirst: -1}
}

func (e *entry) empty() bool { return e == nil || e.n == 0 }

func (e *entry) inTransaction(epoch int16) bool {
	return e != nil && e.txnFirst >= 0 && e.epoch == epoch
}

func (e *entry) lastSequence() int32 {
	if e.empty() {
		return record.NoSequence
	}
	return e.batches[e.n-1].last
}

// setEpoch starts an epoch, in which there are no batches yet. A lower one comes
// only from a log whose leader allowed it.
func (e *entry) setEpoch(epoch int16) {
	if e.epoch != epoch {
		e.epoch, e.n, e.run = epoch, 0, 0
	}
}

func (e *entry) add(b BatchInfo) {
	e.setEpoch(b.Epoch)
	e.extendRun(b)
	if e.n == kept {
		copy(e.batches[:], e.batches[1:])
		e.n--
	}
	e.batches[e.n] = batch{
		first: b.FirstSequence, last: b.LastSequence,
		lastOffset: b.LastOffset, delta: int32(b.LastOffset - b.FirstOffset), timestamp: b.Timestamp,
	}
	e.n++
	e.lastTimestamp, e.silentSince = b.Timestamp, time.Time{}
	if b.Transactional && e.txnFirst < 0 {
		e.txnFirst = b.FirstOffset
	}
}

// recall puts the batches of o, a former state of the producer, before e's.
func (e *entry) recall(o *entry) {
	older := o.batches[:o.n]
	for len(older) > 0 && e.n > 0 && older[len(older)-1].lastOffset >= e.batches[0].lastOffset {
		older = older[:len(older)-1] // the two overlap
	}
	older = older[max(0, len(older)-(kept-e.n)):]
	copy(e.batches[len(older):], e.batches[:e.n])
	copy(e.batches[:], older)
	e.n += len(older)
}

func (e *entry) extendRun(b BatchInfo) {
	if b.FirstSequence < 0 {
		e.run = 0
		return
	}
	size := distance(b.FirstSequence, b.LastSequence) + 1
	if e.n > 0 && b.FirstSequence == record.AddSequence(e.lastSequence(), 1) {
		size += e.run
	}
	e.run = min(size, maxRun)
}

// distance returns how far to is after from, which may be across the wrap.
func distance(from, to int32) int64 {
	d := int64(to) - int64(from)
	if d < 0 {
		d += math.MaxInt32 + 1
	}
	return d
}

// find returns the kept batch with exactly these sequence numbers.
func (e *entry) find(b BatchInfo) (BatchInfo, bool) {
	if b.Epoch != e.epoch {
		return BatchInfo{}, false
	}
	for _, k := range e.batches[:e.n] {
		if k.first == b.FirstSequence && k.last == b.LastSequence {
			return BatchInfo{
				ProducerID: e.id, Epoch: e.epoch, FirstSequence: k.first, LastSequence: k.last,
				FirstOffset: k.lastOffset - int64(k.delta), LastOffset: k.lastOffset,
				Timestamp: k.timestamp, Transactional: b.Transactional,
			}, true
		}
	}
	return BatchInfo{}, false
}

// appended reports whether every sequence number of b lies in the run.
func (e *entry) appended(b BatchInfo) bool {
	if e.empty() || b.FirstSequence < 0 {
		return false
	}
	back := distance(b.FirstSequence, e.lastSequence())
	return back < e.run && distance(b.FirstSequence, b.LastSequence) <= back
}

// subtractSequence is DefaultRecordBatch.decrementSequence.
func subtractSequence(sequence, n int32) int32 {
	if sequence < n {
		return math.MaxInt32 - (n - sequence) + 1
	}
	return sequence - n
}

func (e *entry) state() State {
	s := State{
		ProducerID: e.id, Epoch: e.epoch, LastSequence: e.lastSequence(), LastOffset: -1,
		LastTimestamp: e.lastTimestamp, CoordinatorEpoch: e.coordinatorEpoch, TxnFirstOffset: e.txnFirst,
	}
	if e.n > 0 {
		last := e.batches[e.n-1]
		s.LastOffset, s.lastDelta = last.lastOffset, last.delta
	}
	return s
}

func entryOf(s State) *entry {
	e := newEntry(s.ProducerID)
	e.epoch, e.coordinatorEpoch, e.lastTimestamp = s.Epoch, s.CoordinatorEpoch, s.LastTimestamp
	e.txnFirst = max(s.TxnFirstOffset, -1)
	if s.LastOffset >= 0 {
		first := subtractSequence(s.LastSequence, s.lastDelta)
		e.batches[0] = batch{first: first, last: s.LastSequence, lastOffset: s.LastOffset, delta: s.lastDelta, timestamp: s.LastTimestamp}
		e.n = 1
		if s.LastSequence >= 0 {
			e.run = int64(s.lastDelta) + 1
		}
	}
	return e
}

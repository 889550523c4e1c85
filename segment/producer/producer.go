// Package producer keeps the state of the idempotent and transactional producers
// of one partition, as Kafka's ProducerStateManager does: which sequence numbers
// were appended, so that a retry is recognized and a gap refused; which epoch
// fences older ones; which transactions are open, and so which offset is the
// first whose outcome is unknown.
//
// The state is a function of the log: Check decides before an append, Update and
// EndTxn follow after it, on leader and follower alike, and replaying the log
// from a snapshot gives the same state. A [Manager] is not safe for concurrent
// use; the log's lock guards it.
//
// Snapshot file, version 1, byte for byte Kafka's (big endian):
//
//	offset size field
//	     0    2 version = 1
//	     2    4 CRC32C of 6…end
//	     6    4 number of entries, each 46 bytes:
//	     0    8   producer id
//	     8    2   epoch
//	    10    4   last sequence
//	    14    8   last offset
//	    22    4   offset delta: last minus first sequence of the last batch
//	    26    8   timestamp of the last batch
//	    34    4   coordinator epoch, -1 if no marker was seen
//	    38    8   first offset of the open transaction, -1 if none
package producer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

var (
	// ErrOutOfOrderSequence means that batches before this one are missing.
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrDuplicateSequence means that all records of the batch were appended
	// before, so long ago that their offsets are not known any more.
	ErrDuplicateSequence = errors.New("duplicate sequence number")
	// ErrInvalidProducerEpoch means that a newer instance of the producer fenced
	// this one.
	ErrInvalidProducerEpoch = errors.New("invalid producer epoch")
	// ErrInvalidTxnState means a write outside a transaction that should be in
	// one, or the other way round.
	ErrInvalidTxnState = errors.New("invalid transaction state")
	// ErrTransactionCoordinatorFenced means a marker from a coordinator that lost
	// its place to a newer one.
	ErrTransactionCoordinatorFenced = errors.New("transaction coordinator fenced")
	// ErrCorruptSnapshot means snapshot bytes that Snapshot did not write.
	ErrCorruptSnapshot = errors.New("corrupt producer snapshot")
)

// BatchInfo is what producer state needs of a batch.
type BatchInfo struct {
	ProducerID                  int64 // < 0: none
	Epoch                       int16
	FirstSequence, LastSequence int32
	FirstOffset, LastOffset     int64 // LastOffset inclusive
	Timestamp                   int64 // the batch's max timestamp, in milliseconds
	Transactional, Control      bool

	// MustVerify asks that the first batch of a transaction was announced to the
	// coordinator: Guard is what StartVerification gave (KIP-890).
	MustVerify bool
	Guard      Guard
}

// InfoOf describes a batch whose offsets are assigned.
func InfoOf(b record.Batch) BatchInfo {
	return BatchInfo{
		ProducerID: b.ProducerID(), Epoch: b.ProducerEpoch(),
		FirstSequence: b.BaseSequence(), LastSequence: b.LastSequence(),
		FirstOffset: b.BaseOffset(), LastOffset: b.LastOffset(),
		Timestamp: b.MaxTimestamp(), Transactional: b.IsTransactional(), Control: b.IsControl(),
	}
}

// Verdict is what Check found.
type Verdict struct {
	// Duplicate means that the batch is in the log already, as Of: answer with
	// its offsets and timestamp and append nothing.
	Duplicate bool
	Of        BatchInfo
}

// State is what is known of a producer, for DescribeProducers.
type State struct {
	ProducerID       int64
	Epoch            int16
	LastSequence     int32 // -1: none
	LastOffset       int64 // -1: none
	LastTimestamp    int64 // milliseconds, -1: none
	CoordinatorEpoch int32 // -1: none
	TxnFirstOffset   int64 // of the open transaction, -1: none

	lastDelta int32 // last minus first offset of the last batch
}

// Manager is the state of all producers of one partition.
type Manager struct {
	maxTxnAge, expiration time.Duration

	producers map[int64]*entry
	verifying map[int64]*verification
	lastGuard Guard

	open         []transaction // by first offset
	unreplicated []transaction // by first offset
	end          int64
}

// NewManager returns the state of an empty partition. A transaction open for
// longer than maxTxnAge is late; a producer silent for expiration is forgotten.
func NewManager(maxTxnAge, expiration time.Duration) *Manager {
	m := &Manager{maxTxnAge: maxTxnAge, expiration: expiration}
	m.Reset(0)
	return m
}

// SetExpiration changes the settings of NewManager, which are live in Kafka.
func (m *Manager) SetExpiration(maxTxnAge, expiration time.Duration) {
	m.maxTxnAge, m.expiration = maxTxnAge, expiration
}

// Reset forgets everything, for a log that starts anew at offset.
func (m *Manager) Reset(offset int64) {
	m.producers = map[int64]*entry{}
	m.verifying = map[int64]*verification{}
	m.open, m.unreplicated = nil, nil
	m.end = offset
}

// Restore replaces the state by that of a snapshot, which was taken at offset end.
// Producers that expired by now are left out, unless now is zero. Replay the log
// from end to get the state of its end.
func (m *Manager) Restore(s []State, end int64, now time.Time) {
	m.Reset(end)
	for _, st := range s {
		e := entryOf(st)
		if !now.IsZero() && m.expired(e, now) {
			continue
		}
		m.producers[st.ProducerID] = e
		if e.txnFirst >= 0 {
			m.open = append(m.open, transaction{producerID: st.ProducerID, first: e.txnFirst})
		}
	}
	slices.SortFunc(m.open, func(a, b transaction) int { return cmp.Compare(a.first, b.first) })
}

// End returns the offset up to which, exclusive, the log was taken in: where a
// snapshot taken now belongs.
func (m *Manager) End() int64 { return m.end }

// SetEnd notes that the log was taken in up to offset, whether or not the batches
// had producers.
func (m *Manager) SetEnd(offset int64) { m.end = offset }

// Len returns the number of producers known.
func (m *Manager) Len() int { return len(m.producers) }

// Check decides whether a data batch may be appended. fromClient asks for the full
// rules; the brokers' own coordinators write without sequence numbers and only
// epoch and transaction are checked. It changes nothing, and has no opinion on
// batches without producer and on control batches (see CheckEndTxn).
//
// Errors: ErrOutOfOrderSequence, ErrDuplicateSequence, ErrInvalidProducerEpoch,
// ErrInvalidTxnState.
func (m *Manager) Check(b BatchInfo, fromClient bool) (Verdict, error) {
	if b.ProducerID < 0 || b.Control {
		return Verdict{}, nil
	}
	return m.check(m.producers[b.ProducerID], b, fromClient)
}

// CheckAll is Check for batches that are appended together: each is checked as if
// those before it had been appended. Their offsets must be assigned.
func (m *Manager) CheckAll(batches []BatchInfo, fromClient bool) (Verdict, error) {
	if len(batches) == 1 {
		return m.Check(batches[0], fromClient)
	}
	staged := map[int64]*entry{}
	for _, b := range batches {
		if b.ProducerID < 0 || b.Control {
			continue
		}
		e := staged[b.ProducerID]
		if e == nil {
			e = newEntry(b.ProducerID)
			if known := m.producers[b.ProducerID]; known != nil {
				*e = *known
			}
			staged[b.ProducerID] = e
		}
		v, err := m.check(e, b, fromClient)
		if err != nil || v.Duplicate {
			return v, err
		}
		e.add(b)
	}
	return Verdict{}, nil
}

// check applies the rules to a batch of the producer with state e, nil if it is
// unknown. The order is Kafka's: UnifiedLog.analyzeAndValidateProducerState, then
// ProducerAppendInfo.appendDataBatch.
func (m *Manager) check(e *entry, b BatchInfo, fromClient bool) (Verdict, error) {
	if fromClient && e != nil {
		if of, ok := e.find(b); ok {
			return Verdict{Duplicate: true, Of: of}, nil
		}
	}
	if b.MustVerify && b.Transactional && !e.inTransaction(b.Epoch) && !m.verified(b) {
		return Verdict{}, fmt.Errorf("%w: producer %d: record is not part of an open transaction", ErrInvalidTxnState, b.ProducerID)
	}
	if e != nil && b.Epoch < e.epoch {
		return Verdict{}, fmt.Errorf("%w: producer %d has epoch %d, the last seen is %d", ErrInvalidProducerEpoch,
			b.ProducerID, b.Epoch, e.epoch)
	}
	if fromClient {
		if err := m.checkSequence(e, b); err != nil {
			return Verdict{}, err
		}
	}
	if e != nil && e.txnFirst >= 0 && !b.Transactional {
		return Verdict{}, fmt.Errorf("%w: producer %d: write outside its open transaction", ErrInvalidTxnState, b.ProducerID)
	}
	return Verdict{}, nil
}

// checkSequence is ProducerAppendInfo.checkSequence.
func (m *Manager) checkSequence(e *entry, b BatchInfo) error {
	outOfOrder := func(format string, args ...any) error {
		return fmt.Errorf("%w: producer %d sent %d, "+format,
			append([]any{ErrOutOfOrderSequence, b.ProducerID, b.FirstSequence}, args...)...)
	}
	if v := m.verifying[b.ProducerID]; v != nil {
		if v.epochBump && b.FirstSequence != 0 && e.empty() {
			return outOfOrder("want 0 for a producer without state")
		}
		if b.FirstSequence > v.lowestSequence {
			return outOfOrder("%d was seen and is not appended", v.lowestSequence)
		}
	}
	switch {
	case e == nil || e.epoch == noEpoch:
		// An unknown producer may start anywhere: its records may all have been
		// removed by retention or DeleteRecords (KIP-360).
		return nil
	case b.Epoch != e.epoch:
		if b.FirstSequence != 0 {
			return outOfOrder("want 0 for new epoch %d", b.Epoch)
		}
		return nil
	}
	last := e.lastSequence()
	if b.FirstSequence == record.AddSequence(last, 1) {
		return nil
	}
	if e.appended(b) {
		// Kafka says OutOfOrderSequence, which clients take for a loss.
		return fmt.Errorf("%w: producer %d sent %d, the last is %d", ErrDuplicateSequence, b.ProducerID, b.FirstSequence, last)
	}
	return outOfOrder("the last is %d", last)
}

// Update takes in a data batch that was appended, by leader or follower, and moves
// End behind it. It applies no rules. Control batches are for EndTxn; of them and
// of batches without producer only the offset counts.
func (m *Manager) Update(b BatchInfo) {
	m.end = max(m.end, b.LastOffset+1)
	if b.ProducerID < 0 || b.Control {
		return
	}
	e := m.entry(b.ProducerID)
	if b.Transactional {
		delete(m.verifying, b.ProducerID)
		if e.txnFirst < 0 {
			m.open = insert(m.open, transaction{producerID: b.ProducerID, first: b.FirstOffset})
		}
	}
	e.add(b)
}

func (m *Manager) entry(id int64) *entry {
	e := m.producers[id]
	if e == nil {
		e = newEntry(id)
		m.producers[id] = e
	}
	return e
}

// Incomplete returns the producers with fewer batches than are remembered: a
// snapshot has one of each.
func (m *Manager) Incomplete() map[int64]struct{} {
	ids := map[int64]struct{}{}
	for id, e := range m.producers {
		if e.n < kept {
			ids[id] = struct{}{}
		}
	}
	return ids
}

// Recall completes what is known of the producers' last batches by a state that
// was made of a run of the log that ends before the batches known here.
func (m *Manager) Recall(older *Manager) {
	for id, o := range older.producers {
		if e := m.producers[id]; e != nil && e.epoch == o.epoch {
			e.recall(o)
		}
	}
}

// Expire forgets the producers that were silent for the expiration time and have no
// open transaction, and returns how many. Where the last timestamp does not tell,
// because there is none or it lies in the future, the time counts from the first
// call on that finds the producer silent.
func (m *Manager) Expire(now time.Time) int {
	before := len(m.producers)
	maps.DeleteFunc(m.producers, func(_ int64, e *entry) bool {
		if e.dated(now) || e.txnFirst >= 0 {
			return m.expired(e, now)
		}
		if e.silentSince.IsZero() {
			e.silentSince = now
		}
		return now.Sub(e.silentSince) >= m.expiration
	})
	maps.DeleteFunc(m.verifying, func(_ int64, v *verification) bool { return now.Sub(v.since) >= m.expiration })
	return before - len(m.producers)
}

func (m *Manager) expired(e *entry, now time.Time) bool {
	return e.txnFirst < 0 && e.dated(now) && now.UnixMilli()-e.lastTimestamp >= m.expiration.Milliseconds()
}

// Producers returns what is known, ordered by producer id.
func (m *Manager) Producers() []State {
	out := make([]State, 0, len(m.producers))
	for _, e := range m.producers {
		out = append(out, e.state())
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Compare(a.ProducerID, b.ProducerID) })
	return out
}

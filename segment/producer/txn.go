package producer

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// lateTransactionBuffer is how much longer than allowed a transaction stays open
// before it counts as late: ProducerStateManager.LATE_TRANSACTION_BUFFER_MS.
const lateTransactionBuffer = 5 * time.Minute

// Marker is the end of a transaction, as its coordinator wants it written.
type Marker struct {
	ProducerID       int64
	Epoch            int16
	CoordinatorEpoch int32
	// TransactionVersion is that of WriteTxnMarkers; below 2 is legacy.
	TransactionVersion int16
}

// CompletedTxn is a transaction that a marker ended.
type CompletedTxn struct {
	ProducerID  int64
	FirstOffset int64
	LastOffset  int64 // the marker's
	Aborted     bool
	// LastStableOffset is the one that holds once the marker is replicated: what
	// the transaction index stores.
	LastStableOffset int64
}

// transaction is one that is open, or ended by a marker that is not yet below the
// high watermark.
type transaction struct {
	producerID int64
	first      int64
	last       int64 // the marker's offset
}

// CheckEndTxn decides whether a marker may be appended by the leader. Errors:
// ErrInvalidProducerEpoch, ErrTransactionCoordinatorFenced. A marker that ends
// nothing is allowed: coordinators retry.
func (m *Manager) CheckEndTxn(k Marker) error {
	e := m.producers[k.ProducerID]
	if e == nil {
		return nil
	}
	// With transactions v2 the epoch of a marker is above that of its transaction, so
	// that a late marker cannot end the next one (KIP-890, KIP-1228). A retry, which
	// finds nothing open, has the same epoch (KAFKA-19999).
	late := k.TransactionVersion >= 2 && k.Epoch == e.epoch && e.txnFirst >= 0
	if k.Epoch < e.epoch || late {
		return fmt.Errorf("%w: marker of producer %d has epoch %d, the last seen is %d", ErrInvalidProducerEpoch,
			k.ProducerID, k.Epoch, e.epoch)
	}
	if k.CoordinatorEpoch < e.coordinatorEpoch {
		return fmt.Errorf("%w: marker of producer %d has coordinator epoch %d, the last seen is %d", ErrTransactionCoordinatorFenced,
			k.ProducerID, k.CoordinatorEpoch, e.coordinatorEpoch)
	}
	return nil
}

// EndTxn takes in a marker that was appended at markerOffset with a timestamp in
// milliseconds, and moves End behind it. It returns the transaction that it ended,
// or nil if it ended nothing. The rules of CheckEndTxn are not applied again: what
// is in the log counts. The error means a marker that names no producer.
func (m *Manager) EndTxn(pid int64, epoch int16, commit bool, coordinatorEpoch int32, markerOffset, timestamp int64) (*CompletedTxn, error) {
	m.end = max(m.end, markerOffset+1)
	if pid < 0 {
		return nil, fmt.Errorf("%w: marker at offset %d has no producer", record.ErrInvalidRecord, markerOffset)
	}
	e := m.entry(pid)
	var done *CompletedTxn
	if e.txnFirst >= 0 {
		done = &CompletedTxn{ProducerID: pid, FirstOffset: e.txnFirst, LastOffset: markerOffset, Aborted: !commit}
		m.open = remove(m.open, e.txnFirst)
		m.unreplicated = insert(m.unreplicated, transaction{producerID: pid, first: e.txnFirst, last: markerOffset})
		done.LastStableOffset = markerOffset + 1
		if len(m.open) > 0 {
			done.LastStableOffset = m.open[0].first
		}
	}
	e.setEpoch(epoch)
	e.coordinatorEpoch = coordinatorEpoch
	e.txnFirst = -1
	e.lastTimestamp = timestamp
	delete(m.verifying, pid)
	return done, nil
}

func insert(list []transaction, t transaction) []transaction {
	i, _ := find(list, t.first)
	return slices.Insert(list, i, t)
}

func remove(list []transaction, first int64) []transaction {
	if i, ok := find(list, first); ok {
		return slices.Delete(list, i, i+1)
	}
	return list
}

func find(list []transaction, first int64) (int, bool) {
	return slices.BinarySearchFunc(list, first, func(t transaction, at int64) int { return cmp.Compare(t.first, at) })
}

// FirstUnstableOffset returns the first offset of the oldest transaction that is
// open, or whose marker is not below the high watermark. Without one the last
// stable offset is the high watermark.
func (m *Manager) FirstUnstableOffset() (int64, bool) {
	switch {
	case len(m.open) == 0 && len(m.unreplicated) == 0:
		return 0, false
	case len(m.unreplicated) == 0:
		return m.open[0].first, true
	case len(m.open) == 0:
		return m.unreplicated[0].first, true
	}
	return min(m.open[0].first, m.unreplicated[0].first), true
}

// FirstUndecidedOffset returns the first offset of the oldest open transaction.
func (m *Manager) FirstUndecidedOffset() (int64, bool) {
	if len(m.open) == 0 {
		return 0, false
	}
	return m.open[0].first, true
}

// OnHighWatermark forgets the ended transactions whose markers are below hw.
func (m *Manager) OnHighWatermark(hw int64) {
	if len(m.unreplicated) == 0 {
		return
	}
	m.unreplicated = slices.DeleteFunc(m.unreplicated, func(t transaction) bool { return t.last < hw })
}

// OnLogStart notes that the log now starts at offset. What is known of producers
// stays: it is worth more than the records were.
func (m *Manager) OnLogStart(offset int64) {
	m.OnHighWatermark(offset)
	m.end = max(m.end, offset)
}

// HasLateTransaction reports whether the oldest transaction is open for so much
// longer than allowed that its coordinator must have forgotten it.
func (m *Manager) HasLateTransaction(now time.Time) bool {
	if len(m.open) == 0 {
		return false
	}
	e := m.producers[m.open[0].producerID]
	return e != nil && e.lastTimestamp > 0 &&
		now.UnixMilli()-e.lastTimestamp > (m.maxTxnAge+lateTransactionBuffer).Milliseconds()
}

package segment

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
)

// TruncateFullyAndStartAt removes all records and makes the log begin and end at
// offset, with logStart ≤ offset as its start: what lies between is in the tier.
func (l *Log) TruncateFullyAndStartAt(offset, logStart int64) error {
	if offset < 0 || logStart < 0 || logStart > offset {
		return fmt.Errorf("%s: start at %d with log start %d: %w", l.tp, offset, logStart, ErrOffsetOutOfRange)
	}
	l.turn.lock()
	defer l.turn.unlock()
	l.maint.lock()
	defer l.maint.unlock()
	l.lockSlots()
	defer l.unlockSlots()
	if err := l.check(); err != nil {
		return err
	}
	return l.restart(offset, logStart)
}

// restart makes the log empty with offset as its end. turn, maint and the slots
// must be held.
func (l *Log) restart(offset, logStart int64) error {
	// Expired segments that wait to be removed: with one of them before the new log a
	// crash would leave a hole, and one of the same base would take its file away.
	err := l.unlinkFront()
	if err != nil {
		return err
	}
	// Until the new segment is there a crash may leave any beginning of the old
	// log, or nothing.
	if err = l.lowerMarks(0); err != nil {
		if !l.untidy.Load() {
			l.vouched.Store(math.MaxInt64)
		}
		return err
	}
	fresh := newActive(newPart(l.dir.files, l.path, offset))
	fresh.unborn = true
	l.mu.Lock()
	l.generation++
	l.doomLocked(0)
	l.doomSnapshotsLocked(-1)
	l.setEpochsLocked(nil)
	l.emptyLocked(fresh)
	l.hw.Store(offset)
	l.logStart.Store(logStart)
	l.mu.Unlock()
	return l.tidyLocked()
}

// RestoreFromRemote gives a log the lineage and the producer state of what lies
// below start, from the tier (KIP-405). A log that does not begin and end there, as
// after TruncateFullyAndStartAt, is made to.
func (l *Log) RestoreFromRemote(start int64, epochs []EpochEntry, snapshot []byte) error {
	if _, err := DecodeEpochs(EncodeEpochs(epochs)); err != nil {
		return fmt.Errorf("%s: lineage from the tier: %w", l.tp, err)
	}
	states, err := producer.LoadSnapshot(snapshot)
	if err != nil && len(snapshot) > 0 {
		return fmt.Errorf("%s: producer snapshot from the tier: %w", l.tp, err)
	}
	l.turn.lock()
	defer l.turn.unlock()
	l.maint.lock()
	defer l.maint.unlock()
	l.lockSlots()
	defer l.unlockSlots()
	if err := l.check(); err != nil {
		return err
	}
	if l.LogEnd() != start || l.LocalLogStart() != start {
		if err := l.restart(start, min(l.LogStart(), start)); err != nil {
			return err
		}
	} else if err := l.tidyLocked(); err != nil {
		return err
	}
	if len(snapshot) > 0 {
		if err := l.writeSnapshot(start, snapshot); err != nil {
			return err
		}
	}
	l.mu.Lock()
	before := l.epochs
	l.producers.Restore(states, start, time.Now())
	l.reloadedLocked(start)
	l.setEpochsLocked(slices.Clone(epochs))
	l.cutEpochsLocked(start)
	l.startEpochsLocked(l.logStart.Load())
	l.noteUnstableLocked()
	l.mu.Unlock()
	if err := l.flushEpochs(); err != nil {
		// No record here tells them again: the log has them when the disk has.
		l.mu.Lock()
		l.setEpochsLocked(before)
		l.mu.Unlock()
		return err
	}
	return nil
}

// restartAt replaces the empty active part by one with a higher base. turn must
// be held.
func (l *Log) restartAt(base int64) error {
	l.maint.lock()
	defer l.maint.unlock()
	l.lockSlots()
	defer l.unlockSlots()
	fresh := newActive(newPart(l.dir.files, l.path, base))
	fresh.unborn = true
	l.mu.Lock()
	i := len(l.parts) - 1
	l.doomLocked(i)
	l.parts, l.tail = append(l.parts[:i:i], fresh.part), fresh
	if i == 0 {
		l.localStart.Store(base)
		l.hw.Store(max(l.hw.Load(), base))
	}
	l.end.Store(base)
	l.mu.Unlock()
	return l.tidyLocked()
}

// beginWithin makes a log without records begin where a batch does that holds
// its end: the leader's records were deleted up to an offset within the batch.
// Partition.appendRecordsToFollowerOrFutureReplica. turn must be held.
func (l *Log) beginWithin(b record.Batch) error {
	end := l.end.Load()
	if b.BaseOffset() >= end || b.LastOffset() < end || l.localStart.Load() != end {
		return nil
	}
	l.maint.lock()
	defer l.maint.unlock()
	l.lockSlots()
	defer l.unlockSlots()
	return l.restart(b.BaseOffset(), min(b.BaseOffset(), l.logStart.Load()))
}

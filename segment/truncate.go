package segment

import (
	"fmt"
	"slices"
	"time"
)

// TruncateTo removes all batches that hold an offset of offset or above, durably.
// Snapshots, indexes, lineage, high watermark and producer state follow; epochs
// without records go from the lineage in any case. A follower does this when it
// finds that its tail is not the leader's.
func (l *Log) TruncateTo(offset int64) error {
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.check(); err != nil {
		return err
	}
	if offset >= l.end.Load() {
		l.mu.Lock()
		l.cutEpochsLocked(l.end.Load())
		l.mu.Unlock()
		return nil
	}
	l.maint.lock()
	defer l.maint.unlock()
	l.lockSlots()
	defer l.unlockSlots()
	if err := l.check(); err != nil {
		return err
	}
	if offset <= l.localStart.Load() {
		return l.resetLocked(offset, min(l.logStart.Load(), offset))
	}
	if err := l.lowerRecovery(offset); err != nil {
		return err
	}
	i, pos, end, err := l.cutPoint(offset)
	if err != nil {
		return err
	}
	if err := l.dropParts(i + 1); err != nil {
		return err
	}
	if err := l.cutPart(l.parts[i], pos, end); err != nil {
		return err
	}
	// As after recovery: a restart believes what is said about offsets below the
	// recovery point.
	if err := l.flushSideFiles(l.parts[i], false); err != nil {
		return err
	}
	return l.afterCut(end)
}

// lowerRecovery makes the recovery point on disk at most offset, before anything
// behind offset changes: a restart must read it again.
func (l *Log) lowerRecovery(offset int64) error {
	l.mu.Lock()
	if l.recovery.Load() > offset {
		l.recovery.Store(offset)
	}
	l.mu.Unlock()
	return l.persistRecoveryBelow(offset)
}

// cutPoint returns the part that holds offset, where in it the first batch to go
// begins, and what becomes the log's end. maint must be held.
func (l *Log) cutPoint(offset int64) (i int, pos, end int64, err error) {
	l.mu.Lock()
	i = max(l.floor(offset), 0)
	p := l.parts[i]
	l.mu.Unlock()
	if err := l.loadIndexHeld(p); err != nil {
		return 0, 0, 0, err
	}
	v, err := l.viewOf(p)
	if err != nil {
		return 0, 0, 0, err
	}
	defer v.release()
	from, err := v.locate(offset)
	if err != nil {
		return 0, 0, 0, l.readError("read index", p.idx.name, err)
	}
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	s.over(v.file, from, v.size, buf[:])
	b, err := s.seek(offset)
	if err != nil {
		if s.pos == v.size {
			return i, v.size, offset, nil // a gap at the part's end
		}
		return 0, 0, 0, l.readError("find where to truncate", p.log.name, err)
	}
	return i, s.at, min(offset, b.BaseOffset()), nil
}

// dropParts removes the parts from i on, newest first, durably: one that came
// back after a crash would hold offsets of another lineage.
func (l *Log) dropParts(i int) error {
	l.mu.Lock()
	l.generation++
	gone := l.parts[i:]
	l.parts = slices.Clone(l.parts[:i])
	for _, p := range gone {
		l.localBytes.Add(-p.size)
		l.unpinLocked(p)
	}
	l.mu.Unlock()
	for _, p := range slices.Backward(gone) {
		p.closeSecond()
		if err := l.unlink(p); err != nil {
			return err
		}
	}
	return nil
}

// cutPart makes p the active part with pos bytes, durably, so that what is
// appended next can never be found before old records.
func (l *Log) cutPart(p *part, pos, end int64) error {
	f, err := p.log.pin()
	if err != nil {
		return l.fail("open segment", err)
	}
	defer p.log.unpin()
	if err := f.Truncate(pos); err != nil {
		return l.fail("truncate segment", err)
	}
	if err := f.Sync(); err != nil {
		return l.failSync(fmt.Errorf("sync segment %d: %w", p.base, err))
	}
	if err := l.loadStats(p); err != nil {
		return err
	}
	l.mu.Lock()
	was := p.size
	p.full, p.sealed, p.snapshot, p.reserved = false, false, nil, 0
	offsets, times := p.offsets.view(), p.times.view()
	l.mu.Unlock()
	n, m, err := l.entriesBelow(p, offsets, times, end)
	if err != nil {
		return err
	}
	// Nobody else looks at the statistics of the part: turn and maint are held, and
	// readers see the end that is stored below.
	l.mu.Lock()
	p.offsets.cut(n)
	p.times.cut(m)
	k := 0
	for k < len(p.txns) && p.txns[k].LastOffset < end {
		k++
	}
	if k < len(p.txns) {
		p.txnTrim = p.txnTrim || p.txnFlushed > k
		p.txns, p.txnFlushed = slices.Clone(p.txns[:k]), min(p.txnFlushed, k)
	}
	l.end.Store(end)
	l.mu.Unlock()
	return l.restat(p, pos, end, was)
}

// entriesBelow returns how many entries of both indexes are about offsets below
// end. A time entry without its offset entry goes too: the scan makes it anew.
func (l *Log) entriesBelow(p *part, offsets, times entryView, end int64) (n, m int, err error) {
	if !offsets.inMemory() {
		f, err := p.idx.pin()
		if err != nil {
			return 0, 0, l.readError("open index", p.idx.name, err)
		}
		defer p.idx.unpin()
		offsets.file = f
	}
	n, err = offsets.search(func(e []byte) bool { return parseOffsetEntry(e, p.base).offset < end })
	if err != nil || n == 0 {
		return 0, 0, err
	}
	var b [offsetEntryLen]byte
	if err := offsets.at(b[:], n-1); err != nil {
		return 0, 0, err
	}
	last := parseOffsetEntry(b[:], p.base).offset
	err = l.withTimes(p, &times, func() (err error) {
		m, err = times.search(func(e []byte) bool { return parseTimeEntry(e, p.base).offset <= last })
		return err
	})
	return n, m, err
}

// cut makes the index hold n entries.
func (e *entries) cut(n int) {
	if n == e.count {
		return
	}
	if n <= e.first {
		e.reset(n)
		return
	}
	e.tail = slices.Clone(e.tail[:(n-e.first)*e.width])
	e.trim = e.trim || e.flushed > n
	e.count, e.flushed = n, min(e.flushed, n)
}

// restat brings the statistics of a part that was cut up to date.
func (l *Log) restat(p *part, size, end, was int64) error {
	fresh := *newPart(l.dir.files, l.path, p.base)
	fresh.log, fresh.idx, fresh.tim = p.log, p.idx, p.tim
	l.mu.Lock()
	fresh.offsets, fresh.times = p.offsets, p.times
	l.mu.Unlock()
	if err := l.resume(&fresh); err != nil {
		return err
	}
	if err := l.rescan(&fresh, size, false, end); err != nil {
		return l.readError("scan segment", p.log.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.offsets, p.times = fresh.offsets, fresh.times
	p.lastIndex, p.lastTime, p.maxTime, p.maxTimeAt = fresh.lastIndex, fresh.lastTime, fresh.maxTime, fresh.maxTimeAt
	p.firstTime, p.firstAppend = fresh.firstTime, fresh.firstAppend
	p.size, p.next, p.durable, p.hasIndex, p.statsKnown = size, end, size, true, true
	l.localBytes.Add(size - was)
	return nil
}

// afterCut brings everything else in line with the log's new end.
func (l *Log) afterCut(end int64) error {
	l.mu.Lock()
	l.durable.Store(min(l.durable.Load(), end))
	l.synced.Store(min(l.synced.Load(), end))
	l.hw.Store(min(l.hw.Load(), end))
	l.cutEpochsLocked(end)
	// The entries are gone below the recovery point on disk, too.
	l.recovery.Store(min(l.recovery.Load(), end))
	snapshots := slices.DeleteFunc(slices.Clone(l.snapshots), func(s int64) bool { return s <= end })
	l.snapshotBytes = 0
	l.mu.Unlock()
	if err := l.flushEpochs(); err != nil {
		return err
	}
	if err := l.removeSnapshots(snapshots); err != nil {
		return err
	}
	// A snapshot or an index of the old records that came back after a crash would
	// be believed once the log is long enough again.
	if err := l.syncNames(); err != nil {
		return err
	}
	from, err := l.loadSnapshot(end, time.Now())
	if err != nil {
		return err
	}
	// The transaction indexes hold all of what is left already.
	for _, p := range l.parts {
		if p.next > from || p == l.active() {
			if err := l.loadIndexHeld(p); err != nil {
				return err
			}
			if err := l.replayPart(p, from, end+1); err != nil {
				return err
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers.SetEnd(end)
	l.producers.OnHighWatermark(l.hw.Load())
	l.noteUnstableLocked()
	if l.durable.Load() < end {
		l.RequestSync() // segments before the one that was cut
	}
	return nil
}

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
	return l.resetLocked(offset, logStart)
}

// reset is resetLocked for a log that is being opened.
func (l *Log) reset(offset int64) error { return l.resetLocked(offset, offset) }

// resetLocked empties the log. turn, maint and the slots must be held.
func (l *Log) resetLocked(offset, logStart int64) error {
	// What a crash leaves of the old records halfway is found by a full scan.
	if err := l.lowerRecovery(0); err != nil {
		return err
	}
	l.mu.Lock()
	l.setEpochsLocked(nil)
	snapshots := l.snapshots
	l.mu.Unlock()
	if err := l.flushEpochs(); err != nil {
		return err
	}
	if err := l.dropParts(0); err != nil {
		return err
	}
	if err := l.removeSnapshots(snapshots); err != nil {
		return err
	}
	if err := l.startAt(offset); err != nil {
		return err
	}
	l.hw.Store(offset)
	l.logStart.Store(logStart)
	return l.persistLogStart()
}

// RestoreFromRemote gives a log that was just started at start by
// TruncateFullyAndStartAt the lineage and the producer state of what lies below,
// from the tier (KIP-405).
func (l *Log) RestoreFromRemote(start int64, epochs []EpochEntry, snapshot []byte) error {
	if l.LogEnd() != start || l.LocalLogStart() != start {
		if err := l.TruncateFullyAndStartAt(start, min(l.LogStart(), start)); err != nil {
			return err
		}
	}
	l.turn.lock()
	defer l.turn.unlock()
	l.maint.lock()
	defer l.maint.unlock()
	if err := l.check(); err != nil {
		return err
	}
	if _, err := DecodeEpochs(EncodeEpochs(epochs)); err != nil {
		return fmt.Errorf("%s: lineage from the tier: %w", l.tp, err)
	}
	if len(snapshot) > 0 {
		if err := l.writeSnapshot(start, snapshot); err != nil {
			return err
		}
		if _, err := l.loadSnapshot(start, time.Now()); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.setEpochsLocked(slices.Clone(epochs))
	l.cutEpochsLocked(start)
	l.startEpochsLocked(l.logStart.Load())
	l.producers.SetEnd(start)
	l.noteUnstableLocked()
	l.mu.Unlock()
	return l.flushEpochs()
}

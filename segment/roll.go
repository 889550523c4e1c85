package segment

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// rollBefore starts a new segment if the batches must not go to the active one:
// Kafka's LogSegment.shouldRoll, and our own limit for the age of what waits to
// be uploaded. turn must be held.
func (l *Log) rollBefore(list []checked, size, last int64, cfg *Config, now time.Time) error {
	p := l.head()
	if p.size == 0 {
		if last-p.base <= maxRelativeOffset {
			return nil
		}
		// A follower's gap: an empty segment cannot hold the offset either.
		return l.restartAt(list[0].batch.BaseOffset())
	}
	newest := int64(-1)
	for _, c := range list {
		newest = max(newest, c.batch.MaxTimestamp())
	}
	age := l.segmentAge(p, cfg)
	due := p.size > cfg.SegmentBytes-size ||
		p.firstTime >= 0 && newest-p.firstTime > age.Milliseconds() ||
		p.indexFull(cfg.IndexBytes) ||
		last-p.base > maxRelativeOffset ||
		l.dueByClock(p, cfg, now)
	if !due {
		return nil
	}
	base := l.end.Load()
	if last-base > maxRelativeOffset {
		base = list[0].batch.BaseOffset()
	}
	return l.roll(base)
}

// segmentAge is segment.ms less a jitter that is the same for all the life of the
// segment, so that partitions created together do not roll together.
func (l *Log) segmentAge(p *activePart, cfg *Config) time.Duration {
	if cfg.SegmentJitter <= 0 {
		return cfg.SegmentAge
	}
	h := uint64(p.base+1) * 0x9E3779B97F4A7C15
	for _, c := range []byte(l.tp.String()) {
		h = (h ^ uint64(c)) * 0x100000001B3
	}
	return cfg.SegmentAge - time.Duration(h%uint64(min(cfg.SegmentJitter, cfg.SegmentAge)+1))
}

// dueByClock reports whether the records of p have waited long enough.
func (l *Log) dueByClock(p *activePart, cfg *Config, now time.Time) bool {
	if p.size == 0 || p.firstAppend.IsZero() {
		return false
	}
	waited := now.Sub(p.firstAppend)
	return waited > l.segmentAge(p, cfg) || cfg.RemoteEnabled && cfg.CopyMaxAge > 0 && waited >= cfg.CopyMaxAge
}

// RollIfDue closes the active segment if its age asks for it, although nothing is
// appended, and reports whether it did. The owner calls it now and then.
func (l *Log) RollIfDue(now time.Time) (bool, error) {
	cfg := l.config.Load()
	l.mu.Lock()
	due := !l.closed && l.dueByClock(l.active(), cfg, now)
	l.mu.Unlock()
	if !due {
		return false, nil
	}
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.begin(); err != nil {
		return false, err
	}
	if !l.dueByClock(l.head(), cfg, now) {
		return false, nil
	}
	return true, l.roll(l.end.Load())
}

// Roll closes the active segment, if it has records, and returns when it and all
// segments before it are sealed: durable with their indexes.
func (l *Log) Roll() error {
	if err := l.rollNow(); err != nil {
		return err
	}
	if err := l.seal(); err != nil {
		return err
	}
	return l.dir.persistRecoveryPoints()
}

func (l *Log) rollNow() error {
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.begin(); err != nil {
		return err
	}
	if l.head().size == 0 {
		return nil
	}
	return l.roll(l.end.Load())
}

// roll makes a new active part at base. What is written for the old one, but its
// records, is written by the sealer. turn must be held.
func (l *Log) roll(base int64) error {
	p := newActive(newPart(l.dir.files, l.path, base))
	p.unnamed = true
	if _, err := l.fs.Stat(p.log.name); err == nil {
		return l.fail("roll", &PositionError{Op: "create segment", Path: p.log.name, Err: fs.ErrExist})
	}
	f, err := p.log.pinNew()
	if err != nil {
		return l.fail("create segment", err)
	}
	p.file = f
	l.mu.Lock()
	old := l.tail
	old.addTime()
	l.rolled = append(l.rolled[:len(l.rolled):len(l.rolled)], &closedPart{old, l.producers.Snapshot()})
	l.snapshotBytes = 0
	l.parts, l.tail = append(l.parts[:len(l.parts):len(l.parts)], p.part), p
	l.end.Store(base) // above the old end if a follower skips offsets that no segment can hold
	l.mu.Unlock()
	l.dir.metrics.rolls.Add(1)
	l.requestSeal()
	return nil
}

// requestSeal tells the sealer that a segment was closed.
func (l *Log) requestSeal() {
	if !l.sealing.Swap(true) {
		l.dir.sealer.add(l)
	}
}

// seal makes all closed segments durable, oldest first, with everything that
// belongs to them.
func (l *Log) seal() error {
	l.maint.lock()
	defer l.maint.unlock()
	for {
		l.mu.Lock()
		var p *closedPart
		if len(l.rolled) > 0 && !l.closed {
			p = l.rolled[0]
		}
		l.mu.Unlock()
		if p == nil {
			return nil
		}
		if err := l.sealPart(p); err != nil {
			return err
		}
	}
}

// sealPart seals one segment. maint must be held.
func (l *Log) sealPart(p *closedPart) error {
	if err := l.syncPart(p.activePart); err != nil {
		return err
	}
	if err := l.flushSideFiles(p.activePart, p.snapshot, true); err != nil {
		return err
	}
	l.slots[1].lock()
	defer l.freeSlot(1)
	p.closeSecond() // no sync of this part begins any more
	l.mu.Lock()
	defer l.mu.Unlock()
	p.offsets.drop(0)
	p.times.drop(0)
	p.unpin()
	l.rolled = l.rolled[1:]
	l.sealed = append(l.sealed[:len(l.sealed):len(l.sealed)], &sealedPart{part: p.part, at: time.Now()})
	// Parts are sealed in order, so all before p is durable too.
	l.recovery.Store(max(l.recovery.Load(), p.next))
	l.durable.Store(max(l.durable.Load(), p.next))
	l.raiseSynced(p.next)
	return nil
}

// syncPart makes the records of a closed part durable and gives back the space
// that was reserved for more. maint must be held.
func (l *Log) syncPart(p *activePart) error {
	l.mu.Lock()
	size, durable, reserved := p.size, p.durable, p.reserved
	l.mu.Unlock()
	if durable == size && reserved <= size {
		return nil
	}
	f, err := p.log.pin()
	if err != nil {
		return l.fail("open segment", err)
	}
	defer p.log.unpin()
	if reserved > size {
		if err := f.Truncate(size); err != nil {
			return l.fail("trim segment", err)
		}
	}
	l.slots[0].lock()
	err = f.Sync()
	l.freeSlot(0)
	if err != nil {
		return l.failSync(fmt.Errorf("sync segment %d: %w", p.base, err))
	}
	l.mu.Lock()
	p.durable = size
	l.mu.Unlock()
	return nil
}

// flushSideFiles writes and syncs what belongs to a part besides its records:
// index entries, aborted transactions, leader epochs and the producer snapshot of
// its end, if there is one. With all, a file that has no entries is made too. After it the recovery point may move to what was durable
// before the call. maint must be held.
func (l *Log) flushSideFiles(p *activePart, snapshot []byte, all bool) error {
	for _, side := range []sides{sideIndex, sideTime} {
		wrote, err := l.flushEntries(p.part, side, all)
		if err != nil {
			return err
		}
		if wrote {
			p.written |= side
		}
	}
	wrote, err := l.flushTxns(p.part)
	if err != nil {
		return err
	}
	if wrote {
		p.written |= sideTxn
	}
	if err := l.flushEpochs(); err != nil {
		return err
	}
	switch {
	case snapshot != nil:
		err = l.writeSnapshot(p.next, snapshot) // makes all names in the directory durable
	case p.written != p.named:
		err = l.syncNames()
	}
	if err == nil {
		p.named = p.written
	}
	return err
}

// flushEntries writes the entries of an index that are not on disk, and reports
// whether there were any. With all it creates the file even if there are none, so
// that a sealed segment is complete. maint must be held.
func (l *Log) flushEntries(p *part, side sides, all bool) (wrote bool, err error) {
	s, e := p.idx, &p.offsets
	if side == sideTime {
		s, e = p.tim, &p.times
	}
	l.mu.Lock()
	pending, at, count, trim := e.pending(), e.flushed, e.count, e.trim
	l.mu.Unlock()
	if len(pending) == 0 && !trim && !all {
		return false, nil
	}
	f, err := s.pinNew()
	if err != nil {
		return false, l.fail("open index", err)
	}
	defer s.unpin()
	if err := writeEntries(f, pending, int64(at*e.width), int64(count*e.width)); err != nil {
		return false, l.fail("write index", err)
	}
	if err := f.Sync(); err != nil {
		return false, l.failSync(fmt.Errorf("sync index: %w", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.flushed, e.trim = count, false
	e.drop(keepTail)
	return true, nil
}

func writeEntries(f vfs.File, pending []byte, at, size int64) error {
	if len(pending) > 0 {
		if _, err := f.WriteAt(pending, at); err != nil {
			return err
		}
	}
	have, err := f.Size()
	if err == nil && have > size {
		err = f.Truncate(size)
	}
	return err
}

// flushTxns is flushEntries for the aborted transactions.
func (l *Log) flushTxns(p *part) (wrote bool, err error) {
	l.mu.Lock()
	at, trim := p.txnFlushed, p.txnTrim
	txns := p.txns[at:]
	l.mu.Unlock()
	if len(txns) == 0 && !trim {
		return false, nil
	}
	f, err := p.txn.pinNew()
	if err != nil {
		return false, l.fail("open transaction index", err)
	}
	defer p.txn.unpin()
	if err := writeEntries(f, EncodeTxnIndex(txns), int64(at*txnEntryLen), int64((at+len(txns))*txnEntryLen)); err != nil {
		return false, l.fail("write transaction index", err)
	}
	if err := f.Sync(); err != nil {
		return false, l.failSync(fmt.Errorf("sync transaction index: %w", err))
	}
	l.mu.Lock()
	p.txnFlushed, p.txnTrim = at+len(txns), false
	l.mu.Unlock()
	return true, nil
}

// syncNames makes the names in the log's directory durable.
func (l *Log) syncNames() error {
	if err := vfs.SyncNames(l.fs, l.path); err != nil {
		return l.fail("sync names", err)
	}
	return nil
}

// syncAllNames makes the name of the log's directory durable as well.
func (l *Log) syncAllNames() error {
	if err := l.syncNames(); err != nil {
		return err
	}
	if err := vfs.SyncNames(l.fs, l.dir.path); err != nil {
		return l.fail("sync names", err)
	}
	return nil
}

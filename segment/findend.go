package segment

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// findEnd establishes where the log ends. After a clean shutdown that is at the
// recovery point; otherwise what lies behind the recovery point is read and its
// CRCs checked. What is torn there was never durable: it is cut, and a copy kept.
// What is damaged below it, or below the high watermark, was durable and may have
// been acked: a DamageError, unless cutDamage says that the rest will do.
func (l *Log) findEnd(cutDamage bool) error {
	offsets, known := l.dir.marks.of(l.tp)
	point := offsets[markRecovery]
	vouched := max(point, offsets[markHighWatermark])
	if cutDamage {
		vouched = 0
	}
	if len(l.parts) == 0 {
		if vouched > offsets[markLogStart] {
			return &DamageError{Path: filepath.Join(l.path, fileName(0, logSuffix)), Offset: offsets[markLogStart], End: vouched, Err: errShort}
		}
		l.setEpochsLocked(nil)
		return l.startAt(offsets[markLogStart])
	}
	active := l.active()
	if l.dir.clean && known[markRecovery] {
		ok, err := l.openClean(active, point)
		if err != nil {
			return err
		}
		if ok {
			l.endAt(point, active)
			l.recovery.Store(point)
			return l.loadTxns(active.part, point)
		}
		l.log.Warn("log differs from the clean shutdown's mark, recovering", "partition", l.tp, "offset", point)
	}
	return l.recoverTail(point, vouched)
}

// endAt makes next the log's end, all of it durable.
func (l *Log) endAt(next int64, p *activePart) {
	p.next, p.durable = next, p.size
	l.end.Store(next)
	l.durable.Store(next)
	l.synced.Store(next)
	l.cutEpochsLocked(next)
}

// openClean takes the index of the active part as it is and reads the records
// behind its last entry. False means that this is not what a clean shutdown left.
func (l *Log) openClean(p *activePart, end int64) (bool, error) {
	size := p.size
	offsets, err := indexSize(l.fs, p.idx.name, offsetEntryLen)
	if err != nil {
		return false, l.readError("open index", p.idx.name, err)
	}
	times, err := indexSize(l.fs, p.tim.name, timeEntryLen)
	if err != nil {
		return false, l.readError("open time index", p.tim.name, err)
	}
	stale := times <= 0 && offsets > 0
	if times <= 0 {
		offsets, times = 0, 0 // none has a timestamp, or the file is gone: all is read
	}
	if p.size > 0 && (offsets < 0 || times > 0 && !(l.soundIndex(p.part, offsets, times) && l.timesReach(p.part, offsets, times))) {
		return false, nil
	}
	p.offsets.reset(max(offsets, 0))
	p.times.reset(max(times, 0))
	p.offsets.trim, p.times.trim = stale, stale
	if err := l.resume(p); err != nil {
		return false, err
	}
	err = l.rescan(p, size, false, end)
	var d *damage
	if errors.As(err, &d) {
		p.size = size
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return p.next == end && p.size == size, nil
}

// recoverTail reads what lies behind the recovery point. The log must reach
// vouched.
func (l *Log) recoverTail(point, vouched int64) error {
	first := max(l.floor(point), 0)
	if first > 0 && l.parts[first].base == point {
		// The segment that ends with the recovery point may have been closed after
		// it was reached, and then lacks what is written at the close.
		first--
	}
	l.recovery.Store(max(point, l.parts[0].base))
	l.cutEpochsLocked(l.recovery.Load())
	var read []*activePart
	changed := false
	for i := first; i < len(l.parts); i++ {
		p := newActive(l.parts[i])
		cut, err := l.recoverPart(i, p, point, vouched)
		if err != nil {
			return err
		}
		read, changed = append(read, p), changed || cut
	}
	last := read[len(read)-1]
	l.sortRead(first, read, point)
	if last.next < vouched {
		return lost(last.part, last.next, last.size, vouched, errShort)
	}
	l.recovery.Store(max(min(l.recovery.Load(), last.next), l.parts[0].base))
	// The names may only be in memory too, where a killed process or an interrupted
	// creation left them.
	if err := l.syncAllNames(); err != nil {
		return err
	}
	if err := l.syncTail(read, point, changed); err != nil {
		return err
	}
	l.endAt(last.next, last)
	return nil
}

// recoverPart reads what of a part lies behind the recovery point. If it is torn
// there, the log ends there: recoverPart reports true and no part follows.
func (l *Log) recoverPart(i int, p *activePart, point, vouched int64) (cut bool, err error) {
	size := p.size
	if err := l.loadTxns(p.part, point); err != nil {
		return false, err
	}
	if err := l.trustIndex(p, point); err != nil {
		return false, err
	}
	err = l.rescan(p, size, true, point)
	var d *damage
	switch {
	case errors.As(err, &d):
	case err != nil:
		return false, l.readError("recover", p.log.name, err)
	case i+1 == len(l.parts):
		return false, nil
	default:
		following, end := l.parts[i+1].base, p.next
		p.next = following
		if l.continues(p.part, end) {
			p.addTime() // as at the roll
			return false, nil
		}
		p.next = end
		d = &damage{size, fmt.Errorf("segment %d ends with offset %d, the next one begins with %d", p.base, end-1, following)}
	}
	if p.next < vouched {
		return false, lost(p.part, p.next, d.pos, vouched, d)
	}
	return true, l.cutTail(i, p, size, d)
}

// sortRead says what becomes of the parts that recovery read, from the first on:
// the last is the active one; those of which all was durable are sealed, as far as
// those before them are, and the others are left to the sealer.
func (l *Log) sortRead(first int, read []*activePart, point int64) {
	found := l.sealed
	l.sealed, l.rolled, l.tail = slices.Clone(found[:first]), nil, read[len(read)-1]
	for i, p := range read[:len(read)-1] {
		if len(l.rolled) == 0 && p.next <= point && l.complete(p.part) {
			l.sealed = append(l.sealed, found[first+i])
		} else {
			l.rolled = append(l.rolled, &closedPart{activePart: p})
		}
	}
}

// complete reports whether all side files of a closed part are on disk.
func (l *Log) complete(p *part) bool {
	_, snapshot := slices.BinarySearch(l.snapshots, p.next)
	return snapshot && !p.txnTrim && !p.offsets.trim && !p.times.trim &&
		p.offsets.flushed == p.offsets.count && p.times.flushed == p.times.count
}

// syncTail makes what recovery found durable: it may only be in the page cache.
func (l *Log) syncTail(read []*activePart, point int64, changed bool) error {
	for _, p := range read {
		if changed || p.next > point {
			f, err := p.log.pin()
			if err != nil {
				return l.readError("open segment", p.log.name, err)
			}
			err = f.Sync()
			p.log.unpin()
			if err != nil {
				return l.failSync(err)
			}
		}
		p.durable = p.size
		if l.config.Load().Preallocate {
			p.reserved = p.size + 1 // perhaps: what was reserved is given back at the close
		}
	}
	return nil
}

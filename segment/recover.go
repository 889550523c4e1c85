package segment

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// maxIndexFile bounds the index file that recovery reads at once: 2 GiB of log
// with an entry for each smallest batch.
const maxIndexFile = 512 << 20

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

// resume sets the statistics of a part to what they were when its last index
// entry was made, so that the scan that follows from there brings them up to date.
func (l *Log) resume(p *activePart) error {
	p.loaded = true
	p.lastIndex, p.lastTime, p.maxTime, p.maxTimeAt = 0, -1, -1, -1
	if p.times.count > 0 {
		last, err := l.lastTime(p.part)
		if err != nil {
			return err
		}
		p.lastTime, p.maxTime, p.maxTimeAt = last.timestamp, last.timestamp, last.offset
	}
	if p.offsets.count > 0 {
		v := p.offsets.view()
		if !v.inMemory() {
			f, err := p.idx.pin()
			if err != nil {
				return l.readError("open index", p.idx.name, err)
			}
			defer p.idx.unpin()
			v.file = f
		}
		var b [offsetEntryLen]byte
		if err := v.at(b[:], p.offsets.count-1); err != nil {
			return l.readError("read index", p.idx.name, err)
		}
		p.lastIndex = parseOffsetEntry(b[:], p.base).position
	}
	p.size, p.next = p.lastIndex, p.base
	return l.readFirst(p)
}

// readFirst learns when the first records of a part came.
func (l *Log) readFirst(p *activePart) error {
	p.firstTime, p.firstAppend = -1, time.Time{}
	f, err := p.log.pin()
	if err != nil {
		return l.readError("open segment", p.log.name, err)
	}
	defer p.log.unpin()
	var head [record.HeaderSize]byte
	n, err := f.ReadAt(head[:], 0)
	if n < len(head) {
		if err == nil || err == io.EOF {
			return nil
		}
		return l.readError("read segment", p.log.name, err)
	}
	p.firstTime = record.Batch(head[:]).MaxTimestamp()
	now := time.Now()
	p.firstAppend = time.UnixMilli(p.firstTime)
	if p.firstTime < 0 || p.firstAppend.After(now) {
		p.firstAppend = now
	}
	return nil
}

// rescan reads the batches of p from p.size, where its statistics stand, to size,
// and takes them into the statistics, the indexes and, from offset epochsFrom on,
// into the lineage.
func (l *Log) rescan(p *activePart, size int64, verify bool, epochsFrom int64) error {
	f, err := p.log.pin()
	if err != nil {
		return l.readError("open segment", p.log.name, err)
	}
	defer p.log.unpin()
	s := newScanner(f, p.size, size, verify)
	defer s.close()
	interval := int64(l.config.Load().IndexIntervalBytes)
	next := max(p.next, p.base)
	for {
		b, err := s.step()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		epoch := b.LeaderEpoch()
		if b.BaseOffset() < next || b.LastOffset()-p.base > maxRelativeOffset ||
			b.BaseOffset() >= epochsFrom && epoch < l.epoch.Load() {
			return &damage{s.at, fmt.Errorf("offsets %d to %d with epoch %d after %d with epoch %d",
				b.BaseOffset(), b.LastOffset(), epoch, next, l.epoch.Load())}
		}
		if epoch > l.epoch.Load() && b.BaseOffset() >= epochsFrom {
			l.assignEpochLocked(epoch, b.BaseOffset())
			l.epochsDirty = true
		}
		p.added(s.at, s.length, b.LastOffset(), b.MaxTimestamp(), interval)
		next = p.next
	}
}

// loadTxns reads the transaction index of a part that may get more entries, as
// far as it is about offsets below end.
func (l *Log) loadTxns(p *part, end int64) error {
	txns, damaged, err := l.storedTxns(p)
	if err != nil {
		return err
	}
	n := 0
	for n < len(txns) && txns[n].LastOffset < end {
		n++
	}
	p.txns, p.txnFlushed, p.txnsLoaded = txns[:n:n], n, true
	p.txnTrim = damaged || n < len(txns)
	return nil
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
		return l.lost(last.part, last.next, last.size, vouched, errShort)
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
		return false, l.lost(p.part, p.next, d.pos, vouched, d)
	}
	return true, l.cutTail(i, p, size, d)
}

// trustIndex keeps of the indexes of p what is about offsets below the recovery
// point, which was durable before it, and forgets the rest.
func (l *Log) trustIndex(p *activePart, point int64) error {
	offsets, err := readIndexFile(l.fs, p.idx.name)
	if err != nil {
		return l.readError("read index", p.idx.name, err)
	}
	times, err := readIndexFile(l.fs, p.tim.name)
	if err != nil {
		return l.readError("read time index", p.tim.name, err)
	}
	offsetSize, timeSize := len(offsets), len(times)
	n, m := 0, 0
	if point > p.base {
		var last offsetEntry
		n, last = soundOffsets(offsets, p.base, point, p.size)
		if n > 0 && !l.batchAt(p.part, last.position, func(b record.Batch) bool { return b.LastOffset() == last.offset }) {
			n = 0
		}
		if n > 0 {
			m = soundTimes(times, p.base, last.offset)
		}
		if m == 0 || !l.soundTime(p.part, n, m) || !l.timesReach(p.part, n, m) {
			n, m = 0, 0 // there is a time with the first offset, unless none has a time
		}
	}
	p.offsets.reset(n)
	p.times.reset(m)
	p.offsets.trim, p.times.trim = offsetSize > n*offsetEntryLen, timeSize > m*timeEntryLen
	return l.resume(p)
}

// readIndexFile returns what an index file holds; one that is missing or absurdly
// large counts as empty.
func readIndexFile(fsys vfs.FS, name string) ([]byte, error) {
	b, err := vfs.ReadFile(fsys, name, maxIndexFile)
	if missing(err) || errors.Is(err, vfs.ErrTooLarge) {
		return nil, nil
	}
	return b, err
}

// soundOffsets returns how many entries at the front grow, lie within size and
// are about offsets below point, and the last of them.
func soundOffsets(b []byte, base, point, size int64) (n int, last offsetEntry) {
	last = offsetEntry{base - 1, 0}
	for len(b) >= offsetEntryLen {
		e := parseOffsetEntry(b, base)
		if e.offset <= last.offset || e.position <= last.position || e.offset >= point || e.position >= size {
			break
		}
		n, last, b = n+1, e, b[offsetEntryLen:]
	}
	return n, last
}

// soundTimes returns how many entries at the front grow and are about offsets up
// to last.
func soundTimes(b []byte, base, last int64) int {
	n, before := 0, timeEntry{-1, base - 1}
	for len(b) >= timeEntryLen {
		e := parseTimeEntry(b, base)
		if e.timestamp <= before.timestamp || e.offset < before.offset || e.offset > last {
			break
		}
		n, before, b = n+1, e, b[timeEntryLen:]
	}
	return n
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

package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// loadIndex makes the index of a part usable that was found on disk: it learns how
// many entries there are and the largest timestamp, or finds both out from the
// records if the files are not what they should be.
func (l *Log) loadIndex(p *part) error {
	l.mu.Lock()
	ready := p.loaded
	l.mu.Unlock()
	if ready {
		return nil
	}
	l.maint.lock()
	defer l.maint.unlock()
	return l.loadIndexHeld(p)
}

// loadIndexHeld is loadIndex for who holds maint, and must come before anything
// of theirs that needs the index: that would wait for maint itself.
func (l *Log) loadIndexHeld(p *part) error {
	l.mu.Lock()
	ready := p.loaded
	l.mu.Unlock()
	if ready {
		return nil
	}
	if l.removed(p) {
		// Its files may belong to the segment that took its place.
		return &fs.PathError{Op: "open", Path: p.log.name, Err: fs.ErrNotExist}
	}
	offsets, err := indexSize(l.fs, p.idx.name, offsetEntryLen)
	if err != nil {
		return l.readError("open index", p.idx.name, err)
	}
	times, err := indexSize(l.fs, p.tim.name, timeEntryLen)
	if err != nil {
		return l.readError("open time index", p.tim.name, err)
	}
	if l.soundIndex(p, offsets, times) && l.whole(p, offsets, times) {
		return l.takeIndex(p, offsets, times)
	}
	return l.rebuildIndex(p)
}

// takeIndex makes the entries in the files those of the part.
func (l *Log) takeIndex(p *part, offsets, times int) error {
	newest := timeEntry{-1, -1}
	if times > 0 {
		var b [timeEntryLen]byte
		if err := readEntry(p.tim, b[:], times-1); err != nil {
			return l.readError("read time index", p.tim.name, err)
		}
		newest = parseTimeEntry(b[:], p.base)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.offsets.reset(offsets)
	p.times.reset(times)
	p.offsets.trim, p.times.trim = false, false
	p.maxTime, p.maxTimeAt = newest.timestamp, newest.offset
	p.loaded = true
	return nil
}

// indexSize returns the entries in an index file, -1 if it is missing or does not
// hold whole entries.
func indexSize(fsys vfs.FS, name string, width int64) (int, error) {
	info, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size%width != 0 {
		return -1, nil
	}
	return int(info.Size / width), err
}

// maxUncovered is how many bytes behind the last index entry are walked rather than
// the index rebuilt.
const maxUncovered = 16 << 20

// soundIndex checks the last entries against the log: Kafka's sanityCheck, and
// whether the batches they point to are those they name.
func (l *Log) soundIndex(p *part, offsets, times int) bool {
	if offsets < 0 || times < 0 {
		return false
	}
	var e offsetEntry
	if offsets > 0 {
		var b [offsetEntryLen]byte
		if readEntry(p.idx, b[:], offsets-1) != nil {
			return false
		}
		e = parseOffsetEntry(b[:], p.base)
		if e.position == 0 || !l.batchAt(p, e.position, func(b record.Batch) bool { return b.LastOffset() == e.offset }) {
			return false
		}
	}
	if p.size-e.position > maxUncovered+int64(l.config.Load().IndexIntervalBytes) {
		return false
	}
	return times == 0 || l.soundTime(p, offsets, times)
}

// whole reports whether a closed part whose index entries are sound ends with the
// batch before the next part, and has nothing that its indexes should have an
// entry for.
func (l *Log) whole(p *part, offsets, times int) bool {
	at := int64(0)
	if offsets > 0 {
		var b [offsetEntryLen]byte
		if readEntry(p.idx, b[:], offsets-1) != nil {
			return false
		}
		at = parseOffsetEntry(b[:], p.base).position
	}
	last, next, ok := l.walkEnd(p, offsets, times, p.size)
	return ok && l.continues(p, next) && last-at <= int64(l.config.Load().IndexIntervalBytes)
}

// timesReach reports whether the time index has what came before the last entry of
// the offset index. A time index that is short would make records look old.
func (l *Log) timesReach(p *part, offsets, times int) bool {
	if offsets == 0 {
		return true // all of the part is read again
	}
	var b [offsetEntryLen]byte
	if readEntry(p.idx, b[:], offsets-1) != nil {
		return false
	}
	_, _, ok := l.walkEnd(p, offsets, times, parseOffsetEntry(b[:], p.base).position)
	return ok
}

// walkEnd walks the batches that begin not behind upTo, from the last one that an
// index knows, and returns where the last one begins and the offset behind it.
// False means that one is damaged or newer than the last entry of the time index.
func (l *Log) walkEnd(p *part, offsets, times int, upTo int64) (last, next int64, ok bool) {
	at, newest := int64(0), int64(-1)
	if times > 0 {
		var t [timeEntryLen]byte
		if readEntry(p.tim, t[:], times-1) != nil {
			return 0, 0, false
		}
		newestEntry := parseTimeEntry(t[:], p.base)
		var err error
		if at, err = l.positionBefore(p, offsets, newestEntry.offset); err != nil {
			return 0, 0, false
		}
		newest = newestEntry.timestamp
	}
	f, err := p.log.pin()
	if err != nil {
		return 0, 0, false
	}
	defer p.log.unpin()
	s := newScanner(f, at, p.size, false)
	defer s.close()
	next = p.base
	for s.pos <= upTo {
		b, err := s.step()
		if err == io.EOF {
			break
		}
		if err != nil || b.MaxTimestamp() > newest {
			return 0, 0, false
		}
		next = b.NextOffset()
	}
	return s.at, next, true
}

// continues reports whether what follows a part may be what followed its records,
// which end before next. Offsets are left out where a topic is compacted,
// and by a follower between two segments where one cannot hold both.
func (l *Log) continues(p *part, next int64) bool {
	gap := p.next - next
	return gap == 0 || gap > 0 && l.config.Load().Compact || gap > maxRelativeOffset/2
}

// positionBefore returns where a batch begins from which the one that holds offset
// is reached, by the first so many entries of the index file.
func (l *Log) positionBefore(p *part, offsets int, offset int64) (int64, error) {
	v := view{part: p, size: p.size, index: entryView{width: offsetEntryLen, first: offsets, count: offsets}}
	if offsets > 0 {
		f, err := p.idx.pin()
		if err != nil {
			return 0, err
		}
		defer p.idx.unpin()
		v.index.file = f
	}
	return v.locate(offset)
}

// soundTime checks the last entry of the time index.
func (l *Log) soundTime(p *part, offsets, times int) bool {
	var b [timeEntryLen]byte
	if readEntry(p.tim, b[:], times-1) != nil {
		return false
	}
	e := parseTimeEntry(b[:], p.base)
	pos, err := l.positionBefore(p, offsets, e.offset)
	if err != nil {
		return false
	}
	return l.batchAt(p, pos, func(b record.Batch) bool { return b.LastOffset() >= e.offset },
		func(b record.Batch) bool { return b.LastOffset() == e.offset && b.MaxTimestamp() == e.timestamp })
}

// readEntry reads one entry of an index file.
func readEntry(s *segFile, dst []byte, i int) error {
	f, err := s.pin()
	if err != nil {
		return err
	}
	defer s.unpin()
	v := entryView{width: len(dst), first: i + 1, count: i + 1, file: f}
	return v.at(dst, i)
}

// batchAt walks from a batch border at pos to the first batch for which the first
// condition holds and reports whether all hold for it.
func (l *Log) batchAt(p *part, pos int64, conditions ...func(record.Batch) bool) bool {
	f, err := p.log.pin()
	if err != nil {
		return false
	}
	defer p.log.unpin()
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	s.over(f, pos, p.size, buf[:])
	for s.pos-pos <= maxUncovered {
		b, err := s.step()
		if err != nil {
			return false
		}
		if len(conditions) == 1 {
			return conditions[0](b)
		}
		if conditions[0](b) {
			return conditions[1](b)
		}
	}
	return false
}

// rebuildIndex makes the index of a sealed part from its records. maint must be
// held.
func (l *Log) rebuildIndex(p *part) error {
	l.log.Warn("rebuilding an index that is missing or damaged", "partition", l.tp, "segment", p.base)
	fresh, err := l.indexOf(p, false)
	if err != nil {
		return err
	}
	l.mu.Lock()
	p.offsets, p.times = fresh.offsets, fresh.times
	p.offsets.trim, p.times.trim = true, true
	p.maxTime, p.maxTimeAt = fresh.maxTime, fresh.maxTimeAt
	p.loaded = true
	l.mu.Unlock()
	for _, side := range []sides{sideIndex, sideTime} {
		// While the disk is full they stay in memory.
		if _, err := l.flushEntries(p, side, true); err != nil && !vfs.Heals(err) {
			return err
		}
	}
	return nil
}

// indexOf returns a part with the statistics and indexes that p's records give.
func (l *Log) indexOf(p *part, verify bool) (*part, error) {
	f, err := p.log.pin()
	if err != nil {
		return nil, l.readError("open segment", p.log.name, err)
	}
	defer p.log.unpin()
	fresh := newActive(newPart(l.dir.files, l.path, p.base))
	interval := int64(l.config.Load().IndexIntervalBytes)
	s := newScanner(f, 0, p.size, verify)
	defer s.close()
	for {
		b, err := s.step()
		if err == io.EOF {
			break
		}
		if err != nil {
			if d := (*damage)(nil); errors.As(err, &d) {
				return nil, l.found(p, fresh.next, d.pos, p.next, d)
			}
			return nil, l.readError("scan segment", p.log.name, err)
		}
		if b.BaseOffset() < fresh.next || b.LastOffset() >= max(p.next, 1) {
			return nil, l.found(p, fresh.next, s.at, p.next, fmt.Errorf("offsets %d to %d after %d", b.BaseOffset(), b.LastOffset(), fresh.next))
		}
		fresh.added(s.at, s.length, b.LastOffset(), b.MaxTimestamp(), interval)
	}
	if !l.continues(p, fresh.next) {
		return nil, l.found(p, fresh.next, p.size, p.next, errShort)
	}
	fresh.addTime()
	return fresh.part, nil
}

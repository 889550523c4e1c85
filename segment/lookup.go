package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// view is a moment of one part with its files pinned: what a reader works with
// after it gave the log's lock back.
type view struct {
	part   *part
	file   vfs.File
	size   int64
	next   int64
	index  entryView
	active bool
}

func (v *view) release() {
	if v.file != nil {
		v.part.log.unpin()
		v.file = nil
	}
	if v.index.file != nil {
		v.part.idx.unpin()
		v.index.file = nil
	}
}

// viewAt returns the part that holds offset. ErrOffsetOutOfRange means that there
// is none any more.
func (l *Log) viewAt(offset int64) (view, error) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return view{}, fmt.Errorf("%s: %w", l.tp, ErrClosed)
		}
		i := l.floor(offset)
		if i < 0 {
			l.mu.Unlock()
			return view{}, fmt.Errorf("%s: offset %d: %w", l.tp, offset, ErrOffsetOutOfRange)
		}
		p := l.parts[i]
		l.mu.Unlock()
		v, err := l.viewOf(p)
		if errors.Is(err, fs.ErrNotExist) && l.removed(p) {
			continue // truncated or removed meanwhile: look again
		}
		return v, err
	}
}

// removed reports whether p is not part of the log any more.
func (l *Log) removed(p *part) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	i := l.floor(p.base)
	return i < 0 || l.parts[i] != p
}

// viewOf pins a part. The index is ready for use afterwards.
func (l *Log) viewOf(p *part) (view, error) {
	if err := l.loadIndex(p); err != nil {
		return view{}, err
	}
	f, err := p.log.pin()
	if err != nil {
		return view{}, l.readError("open segment", p.log.name, err)
	}
	v := view{part: p, file: f}
	l.mu.Lock()
	v.size, v.next, v.index, v.active = p.size, p.next, p.offsets.view(), !p.full
	l.mu.Unlock()
	if v.index.inMemory() {
		return v, nil
	}
	// An error leaves f as it is: nil, not a typed nil.
	if v.index.file, err = p.idx.pin(); err != nil {
		v.index.file = nil
		v.release()
		return view{}, l.readError("open index", p.idx.name, err)
	}
	return v, nil
}

// readError judges an error met while reading: a file that vanished is damage to
// one partition, unless the part was removed on purpose; anything else but a lack
// of descriptors takes the directory offline.
func (l *Log) readError(op, name string, err error) error {
	var d *damage
	switch {
	case errors.As(err, &d):
		return &PositionError{Op: op, Path: name, Pos: d.pos, Err: err}
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrClosed), errors.Is(err, ErrOffline):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return &PositionError{Op: op, Path: name, Err: errors.Join(err, ErrCorrupt)}
	case tooManyFiles(err):
		return fmt.Errorf("%s: %w", op, err)
	}
	return l.fail(op, err)
}

// locate returns a position in the part from which hopping from batch to batch
// reaches the one that holds offset within an index interval.
func (v *view) locate(offset int64) (int64, error) {
	n, err := v.index.search(func(e []byte) bool { return parseOffsetEntry(e, v.part.base).offset <= offset })
	return v.positionOf(n, err)
}

// locateEnd returns the last known start of a batch which begins not behind limit
// and holds only offsets below upTo.
func (v *view) locateEnd(limit, upTo int64) (int64, error) {
	n, err := v.index.search(func(e []byte) bool {
		entry := parseOffsetEntry(e, v.part.base)
		return entry.offset < upTo && entry.position <= limit
	})
	return v.positionOf(n, err)
}

// positionOf returns the position of the last of the first n entries, 0 if n is 0.
func (v *view) positionOf(n int, err error) (int64, error) {
	if err != nil || n == 0 {
		return 0, err
	}
	var b [offsetEntryLen]byte
	if err := v.index.at(b[:], n-1); err != nil {
		return 0, err
	}
	pos := parseOffsetEntry(b[:], v.part.base).position
	if pos >= v.size {
		return 0, &damage{pos, fmt.Errorf("index points behind the segment's %d bytes", v.size)}
	}
	return pos, nil
}

// loadIndex makes the index of a part usable that was found on disk: it learns
// how many entries there are, and rebuilds them if there are none or not all.
func (l *Log) loadIndex(p *part) error {
	l.mu.Lock()
	ready := p.hasIndex
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
	ready := p.hasIndex
	l.mu.Unlock()
	if ready {
		return nil
	}
	offsets, err := indexSize(l.fs, p.idx.name, offsetEntryLen)
	if err != nil {
		return l.readError("open index", p.idx.name, err)
	}
	times, err := indexSize(l.fs, p.tim.name, timeEntryLen)
	if err != nil {
		return l.readError("open time index", p.tim.name, err)
	}
	if l.soundIndex(p, offsets, times) {
		l.mu.Lock()
		p.offsets.reset(offsets)
		p.times.reset(times)
		p.offsets.trim, p.times.trim = false, false
		p.hasIndex = true
		l.mu.Unlock()
		return nil
	}
	return l.rebuildIndex(p)
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
	if offsets < 0 || times < 0 || times == 0 && p.size > 0 {
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

// soundTime checks the last entry of the time index.
func (l *Log) soundTime(p *part, offsets, times int) bool {
	var b [timeEntryLen]byte
	if readEntry(p.tim, b[:], times-1) != nil {
		return false
	}
	e := parseTimeEntry(b[:], p.base)
	v := view{part: p, size: p.size, index: entryView{width: offsetEntryLen, first: offsets, count: offsets}}
	var err error
	if offsets > 0 {
		if v.index.file, err = p.idx.pin(); err != nil {
			return false
		}
		defer p.idx.unpin()
	}
	pos, err := v.locate(e.offset)
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
	p.maxTime, p.maxTimeAt, p.lastTime, p.lastIndex = fresh.maxTime, fresh.maxTimeAt, fresh.lastTime, fresh.lastIndex
	p.hasIndex = true
	l.mu.Unlock()
	for _, side := range []int{sideIndex, sideTime} {
		// On a full disk they stay in memory.
		if err := l.flushEntries(p, side, true); err != nil && !isNoSpace(err) {
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
	fresh := newPart(l.dir.files, l.path, p.base)
	interval := int64(l.config.Load().IndexIntervalBytes)
	s := newScanner(f, 0, p.size, verify)
	defer s.close()
	for {
		b, err := s.step()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, l.readError("scan segment", p.log.name, err)
		}
		if b.BaseOffset() < fresh.next || b.LastOffset() >= max(p.next, 1) {
			return nil, l.readError("scan segment", p.log.name, &damage{s.at, fmt.Errorf("offsets %d to %d after %d", b.BaseOffset(), b.LastOffset(), fresh.next)})
		}
		fresh.added(s.at, s.length, b.LastOffset(), b.MaxTimestamp(), interval)
	}
	fresh.addTime()
	return fresh, nil
}

// tooManyFiles reports a lack of descriptors, which says nothing about the disk.
func tooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

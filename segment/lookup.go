package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

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
	l.mu.Lock()
	ready = p.hasIndex
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

// indexSize returns the whole entries in an index file, -1 if it is missing.
func indexSize(fsys vfs.FS, name string, width int64) (int, error) {
	info, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	return int(info.Size / width), err
}

// soundIndex checks the last entry against the log: Kafka's sanityCheck, and
// whether the batch it points to is the one it names.
func (l *Log) soundIndex(p *part, offsets, times int) bool {
	if offsets < 0 || times < 0 || times == 0 && p.size > 0 {
		return false
	}
	if offsets == 0 {
		return true
	}
	idx, err := p.idx.pin()
	if err != nil {
		return false
	}
	defer p.idx.unpin()
	v := entryView{width: offsetEntryLen, first: offsets, count: offsets, file: idx}
	var b [offsetEntryLen]byte
	if v.at(b[:], offsets-1) != nil {
		return false
	}
	e := parseOffsetEntry(b[:], p.base)
	if e.offset <= p.base && e.position == 0 || e.position >= p.size {
		return false
	}
	return l.batchAt(p, e.position, e.offset)
}

// batchAt reports whether a batch that ends with last begins at pos.
func (l *Log) batchAt(p *part, pos, last int64) bool {
	f, err := p.log.pin()
	if err != nil {
		return false
	}
	defer p.log.unpin()
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	s.over(f, pos, p.size, buf[:])
	b, err := s.step()
	return err == nil && b.LastOffset() == last
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

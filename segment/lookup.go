package segment

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// view is a moment of one part with its files pinned: what a reader works with
// after it gave the log's lock back.
type view struct {
	part  *part
	file  vfs.File
	size  int64
	next  int64
	index entryView
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
	return l.pinned(p)
}

// pinned pins a part with the index entries that are known.
func (l *Log) pinned(p *part) (view, error) {
	f, err := p.log.pin()
	if err != nil {
		return view{}, l.readError("open segment", p.log.name, err)
	}
	v := view{part: p, file: f}
	l.mu.Lock()
	v.size, v.next, v.index = p.size, p.next, p.offsets.view()
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
// one partition, unless the part was removed on purpose; anything else that does
// not heal takes the directory offline.
func (l *Log) readError(op, name string, err error) error {
	var d *damage
	switch {
	case errors.As(err, &d):
		return &PositionError{Op: op, Path: name, Pos: d.pos, Err: err}
	case vfs.Heals(err):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrClosed), errors.Is(err, ErrOffline):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return &PositionError{Op: op, Path: name, Err: errors.Join(err, ErrCorrupt)}
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

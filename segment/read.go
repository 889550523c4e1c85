package segment

import (
	"fmt"
	"io"

	"github.com/coldbrook/coldbrook/segment/record"
)

// ReadOptions bound a read.
type ReadOptions struct {
	UpTo     int64 // only batches that end before this offset
	MaxBytes int   // of whole batches
	MinOne   bool  // at least one batch, even if it is larger than MaxBytes (KIP-74)
	// Reader names the client. Readers of the tier share its rate; the local log does not ask.
	Reader string
	// Holder names who holds the answer until Release, a connection; empty: Reader. Each has a share of the memory
	// for reads of the tier. The local log does not ask.
	Holder string
}

// maxRegions bounds how many segments one read touches.
const maxRegions = 8

// Read returns the whole batches from the one that holds offset on, as regions of
// files that stay readable until Release, whatever happens to the log. The first
// batch may begin before offset. It returns an empty Chunk when there is nothing
// below o.UpTo, and ErrOffsetOutOfRange outside [LocalLogStart, LogEnd]. Safe for
// concurrent use.
func (l *Log) Read(offset int64, o ReadOptions) (*Chunk, error) {
	for {
		generation := l.truncations()
		c, err := l.read(offset, o)
		if err != nil && l.truncations() != generation {
			continue // it fell into a truncation; now there is something else to read
		}
		return c, err
	}
}

// truncations counts them.
func (l *Log) truncations() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

func (l *Log) read(offset int64, o ReadOptions) (*Chunk, error) {
	start, end := l.LocalLogStart(), l.end.Load()
	if offset < start || offset > end {
		return nil, fmt.Errorf("%s: offset %d, have %d to %d: %w", l.tp, offset, start, end, ErrOffsetOutOfRange)
	}
	if err := l.dir.Offline(); err != nil {
		return nil, err
	}
	c := &Chunk{dir: l.dir, first: offset, next: offset}
	upTo, left := min(o.UpTo, end), int64(max(o.MaxBytes, 0))
	for at := offset; at < upTo && (left > 0 || c.size == 0 && o.MinOne) && len(c.regions) < maxRegions; {
		v, err := l.viewAt(at)
		if err != nil {
			c.Release()
			return nil, err
		}
		more, err := c.add(&v, at, upTo, left, o.MinOne && c.size == 0)
		if err != nil {
			v.release()
			c.Release()
			return nil, l.readError("read segment", v.part.log.name, err)
		}
		if !more {
			break
		}
		at, left = max(c.next, v.next), int64(max(o.MaxBytes, 0))-c.size
	}
	return c, nil
}

// add takes the region of v from the batch that holds offset on into the chunk,
// and with it v's pin of the file. It reports whether the region reaches the end
// of the part, so that the next part may follow.
func (c *Chunk) add(v *view, offset, upTo, maxBytes int64, minOne bool) (more bool, err error) {
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	pos, err := v.locate(offset)
	if err != nil {
		return false, err
	}
	s.over(v.file, pos, v.size, buf[:])
	first, err := s.seek(offset)
	if err == io.EOF {
		// Nothing from offset on: a gap at the end of the part.
		v.release()
		return true, nil
	}
	if err != nil {
		return false, err
	}
	start, base, next := s.at, first.BaseOffset(), first.NextOffset()
	if next > upTo || s.length > maxBytes && !minOne {
		v.release()
		return false, nil
	}
	end := s.pos
	if v.next <= upTo && v.size-start <= maxBytes {
		end, next = v.size, v.next
	} else if end, next, err = v.stretch(&s, start, next, upTo, maxBytes); err != nil {
		return false, err
	}
	if len(c.regions) == 0 {
		c.first = base
	}
	c.regions = append(c.regions, region{file: v.file, owner: v.part.log, off: start, size: end - start})
	c.size += end - start
	c.next = next
	v.file = nil // the region has it
	v.release()
	return end == v.size, nil
}

// seek moves to the batch that holds offset, or to the first behind it.
func (s *scanner) seek(offset int64) (record.Batch, error) {
	for {
		b, err := s.step()
		if err != nil || b.LastOffset() >= offset {
			return b, err
		}
	}
}

// stretch returns the end of the longest run of batches that begins at start,
// whose first ends with next-1 and is in in any case.
func (v *view) stretch(s *scanner, start, next, upTo, maxBytes int64) (end, nextOffset int64, err error) {
	end = s.pos
	limit := start + maxBytes
	pos, err := v.locateEnd(limit, upTo)
	if err != nil {
		return 0, 0, err
	}
	if pos > end {
		// All before pos is in: the batch at pos begins within the limits.
		s.pos, end = pos, pos
	}
	for {
		b, err := s.step()
		if err == io.EOF {
			return end, max(next, v.next), nil
		}
		if err != nil {
			return 0, 0, err
		}
		if b.NextOffset() > upTo || s.pos > limit {
			if s.at == pos && end == pos {
				next = max(next, b.BaseOffset())
			}
			return end, next, nil
		}
		end, next = s.pos, b.NextOffset()
	}
}

package segment

import "github.com/coldbrook/coldbrook/segment/record"

// lastTime returns the last entry of a part's time index, which of a sealed part
// is its largest timestamp.
func (l *Log) lastTime(p *part) (timeEntry, error) {
	l.mu.Lock()
	v := p.times.view()
	l.mu.Unlock()
	if v.count == 0 {
		return timeEntry{-1, -1}, nil
	}
	var b [timeEntryLen]byte
	err := l.withTimes(p, &v, func() error { return v.at(b[:], v.count-1) })
	return parseTimeEntry(b[:], p.base), err
}

// withTimes calls fn with the file of the time index pinned, if v needs it.
func (l *Log) withTimes(p *part, v *entryView, fn func() error) error {
	if !v.inMemory() {
		f, err := p.tim.pin()
		if err != nil {
			return l.readError("open time index", p.tim.name, err)
		}
		defer p.tim.unpin()
		v.file = f
	}
	if err := fn(); err != nil {
		return l.readError("read time index", p.tim.name, err)
	}
	return nil
}

// TimestampOffset is a record found by time. The timestamp is in milliseconds.
type TimestampOffset struct {
	Timestamp   int64
	Offset      int64
	LeaderEpoch int32
}

// OffsetForTimestamp returns the first record on the local disk with a timestamp
// of at least ts milliseconds. False means that there is none.
func (l *Log) OffsetForTimestamp(ts int64) (TimestampOffset, bool, error) {
	start := l.LocalLogStart()
	for at := start; ; {
		p, following := l.partFrom(at)
		if p == nil {
			return TimestampOffset{}, false, nil
		}
		found, ok, err := l.findTime(p, ts, start)
		switch {
		case err != nil && l.removed(p):
			at = max(l.LocalLogStart(), at) // removed or truncated meanwhile: look again
		case err != nil || ok:
			return found, ok, err
		case following < 0:
			return TimestampOffset{}, false, nil
		default:
			at = following
		}
	}
}

// partFrom returns the part that holds offset, or the first one, and the base of
// the one after it or -1.
func (l *Log) partFrom(offset int64) (*part, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.parts) == 0 {
		return nil, -1
	}
	i := max(l.floor(offset), 0)
	if i+1 < len(l.parts) {
		return l.parts[i], l.parts[i+1].base
	}
	return l.parts[i], -1
}

// findTime looks for the first record of p from offset start on with a timestamp
// of ts or later.
func (l *Log) findTime(p *part, ts, start int64) (TimestampOffset, bool, error) {
	if err := l.loadIndex(p); err != nil {
		return TimestampOffset{}, false, err
	}
	l.mu.Lock()
	times, largest := p.times.view(), p.maxTime
	l.mu.Unlock()
	if largest < ts {
		return TimestampOffset{}, false, nil
	}
	from := p.base
	err := l.withTimes(p, &times, func() error {
		// The last entry below ts: up to its offset all records are older.
		n, err := times.search(func(e []byte) bool { return parseTimeEntry(e, p.base).timestamp < ts })
		if err != nil || n == 0 {
			return err
		}
		var b [timeEntryLen]byte
		err = times.at(b[:], n-1)
		from = parseTimeEntry(b[:], p.base).offset
		return err
	})
	if err != nil {
		return TimestampOffset{}, false, err
	}
	return l.scanRecords(p, max(from, start), func(b record.Batch) bool { return b.MaxTimestamp() >= ts },
		func(r record.Record, _ int32) bool { return r.Timestamp >= ts && r.Offset >= start })
}

// scanRecords returns the first record that matches of the batches of p from
// offset on that might hold one.
func (l *Log) scanRecords(p *part, from int64, might func(record.Batch) bool, matches func(record.Record, int32) bool) (TimestampOffset, bool, error) {
	none := TimestampOffset{Timestamp: -1, Offset: -1, LeaderEpoch: NoEpoch}
	v, err := l.viewOf(p)
	if err != nil {
		return none, false, err
	}
	defer v.release()
	pos, err := v.locate(from)
	if err != nil {
		return none, false, l.readError("read index", p.idx.name, err)
	}
	s := newScanner(v.file, pos, v.size, false)
	defer s.close()
	found, ok := none, false
	err = s.replay(func(b record.Batch, _, _ int64) error {
		if b.LastOffset() < from || b.IsControl() || !might(b) {
			return nil
		}
		b, err := s.batch()
		if err != nil {
			return err
		}
		err = b.Each(nil, func(r record.Record) error {
			if !matches(r, b.LeaderEpoch()) {
				return nil
			}
			found, ok = TimestampOffset{Timestamp: r.Timestamp, Offset: r.Offset, LeaderEpoch: b.LeaderEpoch()}, true
			return errFound
		})
		return err
	})
	if err == errFound {
		err = nil
	}
	if err != nil {
		return none, false, l.readError("scan segment", p.log.name, err)
	}
	return found, ok, nil
}

// errFound ends a scan that found what it looked for.
var errFound = foundError{}

type foundError struct{}

func (foundError) Error() string { return "found" }

// MaxTimestamp returns the first record on the local disk with the largest
// timestamp. False means that the log is empty.
func (l *Log) MaxTimestamp() (TimestampOffset, bool, error) {
	for {
		start := l.LocalLogStart()
		l.mu.Lock()
		parts := l.parts
		l.mu.Unlock()
		best, at, err := l.newestOf(parts, start)
		switch {
		case err == nil:
			return best, best.Offset >= 0, nil
		case !l.removed(at):
			return TimestampOffset{}, false, err
		}
		// Removed or truncated meanwhile: look again.
	}
}

// newestOf returns the first record of parts, from offset start on, with the largest
// timestamp. With an error it says of which part.
func (l *Log) newestOf(parts []*part, start int64) (best TimestampOffset, at *part, err error) {
	best = TimestampOffset{Timestamp: -1, Offset: -1, LeaderEpoch: NoEpoch}
	for _, p := range parts {
		if err := l.newestIn(p, start, &best); err != nil {
			return best, p, err
		}
	}
	return best, nil, nil
}

// newestIn replaces best by the first record of p, from offset start on, with a
// timestamp that is larger and the largest.
func (l *Log) newestIn(p *part, start int64, best *TimestampOffset) error {
	if err := l.loadIndex(p); err != nil {
		return err
	}
	l.mu.Lock()
	largest, from := p.maxTime, p.maxTimeAt
	l.mu.Unlock()
	if largest <= best.Timestamp {
		return nil
	}
	if p.base < start {
		// The record with the largest timestamp may lie below the log start.
		from = start
	}
	scan := func(from int64) error {
		_, _, err := l.scanRecords(p, from, func(b record.Batch) bool { return b.MaxTimestamp() > best.Timestamp },
			func(r record.Record, epoch int32) bool {
				if r.Offset >= start && r.Timestamp > best.Timestamp {
					*best = TimestampOffset{Timestamp: r.Timestamp, Offset: r.Offset, LeaderEpoch: epoch}
				}
				return best.Timestamp >= largest
			})
		return err
	}
	before := *best
	err := scan(from)
	if err == nil && best.Timestamp < largest && from > max(p.base, start) {
		// The largest timestamp is a marker's: among the records it is somewhere.
		*best = before
		err = scan(max(p.base, start))
	}
	return err
}

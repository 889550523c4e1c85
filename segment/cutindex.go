package segment

import "slices"

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

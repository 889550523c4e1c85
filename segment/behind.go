package segment

import (
	"fmt"
	"io"

	"github.com/coldbrook/coldbrook/segment/record"
)

// Behind returns how many bytes of the log lie on the local disk from the batch that holds offset on, up to LogEnd,
// and when the record at offset was made, in milliseconds: 0 and -1 at LogEnd, -1 also for records without a time.
// The time of a record inside a batch is told from the first and the largest of its batch, without reading the
// records. ErrOffsetOutOfRange outside [LocalLogStart, LogEnd]. Safe for concurrent use.
func (l *Log) Behind(offset int64) (bytes, timestamp int64, err error) {
	for {
		generation := l.truncations()
		bytes, timestamp, err = l.behind(offset)
		if err != nil && l.truncations() != generation {
			continue // it fell into a truncation; now there is something else to read
		}
		return bytes, timestamp, err
	}
}

func (l *Log) behind(offset int64) (bytes, timestamp int64, err error) {
	start, end := l.LocalLogStart(), l.LogEnd()
	if offset < start || offset > end {
		return 0, -1, fmt.Errorf("%s: offset %d, have %d to %d: %w", l.tp, offset, start, end, ErrOffsetOutOfRange)
	}
	for at := offset; at < end; {
		v, err := l.viewAt(at)
		if err != nil {
			return 0, -1, err
		}
		pos, ts, err := v.find(at)
		v.release()
		if err != nil {
			return 0, -1, l.readError("read segment", v.part.log.name, err)
		}
		if pos < v.size {
			return v.size - pos + l.bytesAfter(v.part), ts, nil
		}
		at = v.next // a gap at the end of the part
	}
	return 0, -1, nil
}

// find returns where the batch that holds offset begins, or the first behind it, and the time of the record; v.size
// if there is none.
func (v *view) find(offset int64) (pos, timestamp int64, err error) {
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	from, err := v.locate(offset)
	if err != nil {
		return 0, -1, err
	}
	s.over(v.file, from, v.size, buf[:])
	b, err := s.seek(offset)
	if err == io.EOF {
		return v.size, -1, nil
	}
	if err != nil {
		return 0, -1, err
	}
	return s.at, timeIn(b, offset), nil
}

// timeIn is the time of the record at offset, as far as the header of its batch says.
func timeIn(b record.Batch, offset int64) int64 {
	first, last := b.BaseTimestamp(), b.MaxTimestamp()
	n := int64(b.LastOffsetDelta())
	if first < 0 || b.TimestampType() == record.LogAppendTime || n == 0 || last < first {
		return last
	}
	return first + int64(float64(last-first)*float64(max(offset-b.BaseOffset(), 0))/float64(n))
}

// bytesAfter adds up the parts after p.
func (l *Log) bytesAfter(p *part) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, q := range l.parts {
		if q.base > p.base {
			n += q.size
		}
	}
	return n
}

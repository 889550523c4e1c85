package segment

import (
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Sealed is a closed segment of which every byte, indexes included, is durable.
type Sealed struct {
	BaseOffset   int64
	LastOffset   int64 // inclusive
	Size         int64
	MaxTimestamp int64 // milliseconds, -1 = the records have none, or StatsErr
	SealedAt     time.Time
	// StatsErr says why MaxTimestamp cannot be read, for the moment or because the
	// segment is damaged. Nobody may conclude then that the segment is old.
	StatsErr error
}

// Newest returns the time that retention by age goes by: that of the newest record,
// or of the seal where no record has a time, or one before 1970 or after now. The
// error is StatsErr.
func (s Sealed) Newest(now time.Time) (time.Time, error) {
	if s.StatsErr != nil {
		return time.Time{}, s.StatsErr
	}
	return retentionTime(s.MaxTimestamp, s.SealedAt, now), nil
}

// retentionTime is the largest timestamp if that is one of the past, else the
// file's time.
func retentionTime(largest int64, file, now time.Time) time.Time {
	if largest < 0 || largest > now.UnixMilli() {
		return file
	}
	return time.UnixMilli(largest)
}

// Sealed returns the sealed segments with LastOffset ≥ from, oldest first.
func (l *Log) Sealed(from int64) []Sealed {
	l.mu.Lock()
	sealed := l.sealed
	l.mu.Unlock()
	var list []Sealed
	for _, p := range sealed {
		s := Sealed{BaseOffset: p.base, LastOffset: p.last(), Size: p.size, SealedAt: p.at}
		if s.LastOffset < from {
			continue
		}
		s.MaxTimestamp = -1
		if s.StatsErr = l.loadIndex(p.part); s.StatsErr == nil {
			l.mu.Lock()
			s.MaxTimestamp = p.maxTime
			l.mu.Unlock()
		}
		list = append(list, s)
	}
	return list
}

// SealedSegment is a sealed segment with its file pinned: it stays readable until
// Release, whatever happens to the log. Its indexes are made anew from records
// whose CRCs were checked, not read from disk (KAFKA-15401).
type SealedSegment struct {
	log  *Log
	part *part
	file vfs.File
	base int64
	next int64
	size int64
	cold []vfs.Range // what nobody had read when it was opened

	built                bool
	offsets, times, txns []byte
	epochs               []EpochEntry
}

// OpenSealed pins the sealed segment with the given base offset.
// ErrOffsetOutOfRange means that there is none. Not safe for concurrent use.
func (l *Log) OpenSealed(base int64) (*SealedSegment, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	sealed := l.sealedAtLocked(base)
	if sealed == nil {
		l.mu.Unlock()
		return nil, fmt.Errorf("%s: sealed segment %d: %w", l.tp, base, ErrOffsetOutOfRange)
	}
	p := sealed.part
	s := &SealedSegment{log: l, part: p, base: base, next: p.next, size: p.size}
	for _, e := range l.epochs {
		if e.StartOffset < p.next {
			s.epochs = append(s.epochs, e)
		}
	}
	l.mu.Unlock()
	// Loading the index finds out whether the file is whole.
	v, err := l.viewOf(p)
	if err != nil {
		if l.removed(p) {
			err = fmt.Errorf("%s: sealed segment %d: %w", l.tp, base, ErrOffsetOutOfRange)
		}
		return nil, err
	}
	s.file, v.file = v.file, nil
	v.release()
	s.cold = vfs.ColdRanges(s.file, 0, s.size)
	return s, nil
}

// LogFile returns the open .log file. It must not be closed.
func (s *SealedSegment) LogFile() vfs.File { return s.file }

// Size returns the bytes of the .log file.
func (s *SealedSegment) Size() int64 { return s.size }

// BaseOffset returns the first offset.
func (s *SealedSegment) BaseOffset() int64 { return s.base }

// LastOffset returns the last offset, inclusive.
func (s *SealedSegment) LastOffset() int64 { return s.next - 1 }

// Epochs returns the lineage of the log up to the segment's end.
func (s *SealedSegment) Epochs() []EpochEntry { return s.epochs }

// Scan calls fn with each batch and its position, after checking its CRC. The
// batch is valid until fn returns. Damage is ErrCorrupt.
func (s *SealedSegment) Scan(fn func(b record.Batch, pos int64) error) error {
	scan := newScanner(s.file, 0, s.size, true)
	defer scan.close()
	var x *indexer // the first scan makes the indexes by the way
	if !s.built {
		x = s.newIndexer()
	}
	next := s.base
	err := scan.replay(func(b record.Batch, pos, _ int64) error {
		if b.BaseOffset() < next || b.LastOffset() >= s.next {
			return &damage{pos, fmt.Errorf("offsets %d to %d, want %d to %d", b.BaseOffset(), b.LastOffset(), next, s.next-1)}
		}
		b, err := scan.batch()
		if err != nil {
			return err
		}
		next = b.NextOffset()
		if x != nil {
			x.add(b, pos)
		}
		return fn(b, pos)
	})
	if d := (*damage)(nil); errors.As(err, &d) {
		return s.log.found(s.part, next, d.pos, s.next, err)
	}
	if err != nil {
		return err
	}
	if !s.log.continues(s.part, next) {
		return s.log.found(s.part, next, s.size, s.next, errShort)
	}
	if x != nil {
		return s.keep(x)
	}
	return nil
}

// build makes the indexes, unless a scan has.
func (s *SealedSegment) build() error {
	if s.built {
		return nil
	}
	return s.Scan(func(record.Batch, int64) error { return nil })
}

// OffsetIndex returns the bytes of the .index file.
func (s *SealedSegment) OffsetIndex() ([]byte, error) {
	err := s.build()
	return s.offsets, err
}

// TimeIndex returns the bytes of the .timeindex file.
func (s *SealedSegment) TimeIndex() ([]byte, error) {
	err := s.build()
	return s.times, err
}

// TxnIndex returns the bytes of the .txnindex file, empty if no transaction was
// aborted.
func (s *SealedSegment) TxnIndex() ([]byte, error) {
	err := s.build()
	return s.txns, err
}

// ProducerSnapshot returns the producer state at the segment's end as a .snapshot
// file. One that is missing is computed from the one before.
func (s *SealedSegment) ProducerSnapshot() ([]byte, error) {
	b, err := vfs.ReadFile(s.log.fs, s.log.snapshotName(s.next), maxSnapshot)
	if err == nil {
		if _, err = producer.LoadSnapshot(b); err == nil {
			return b, nil
		}
	}
	if !unusableSnapshot(err) {
		return nil, s.log.readError("read producer snapshot", s.log.snapshotName(s.next), err)
	}
	m, _, err := s.log.producersBefore(s.base)
	if err != nil {
		return nil, err
	}
	err = s.Scan(func(b record.Batch, _ int64) error {
		trackBatch(m, b)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m.Snapshot(), nil
}

// Release lets the file go, and out of the page cache what was not in it when the
// segment was opened: what is read to be uploaded pushes nothing out that
// somebody reads. What was there stays: consumers near the end have just read it.
func (s *SealedSegment) Release() {
	if s.file != nil {
		for _, r := range s.cold {
			vfs.DropCache(s.file, r.Off, r.Len)
		}
		s.part.log.unpin()
		s.file = nil
	}
}

package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// indexer makes the indexes of a sealed segment from its batches, and says which
// of those on disk the batches contradict (KAFKA-15401). What it makes is what
// counts: a broken index is only worth a word to the operator.
type indexer struct {
	fresh    *part
	interval int64
	offsets  []byte // entries on disk that no batch was compared with yet
	times    []byte
	last     timeEntry // of times
	wrong    []string  // names of the files that are wrong
	aborts   []AbortedTxn
}

func (s *SealedSegment) newIndexer() *indexer {
	x := &indexer{
		fresh:    newPart(s.log.dir.files, s.log.path, s.base),
		interval: int64(s.log.config.Load().IndexIntervalBytes),
		last:     timeEntry{-1, -1},
	}
	// A file that cannot be read is one that is wrong, if the segment needs it.
	x.offsets, _ = vfs.ReadFile(s.log.fs, s.part.idx.name, maxIndexFile)
	x.times, _ = vfs.ReadFile(s.log.fs, s.part.tim.name, maxIndexFile)
	return x
}

// add takes the next batch, whose CRC is right.
func (x *indexer) add(b record.Batch, pos int64) {
	x.fresh.added(pos, int64(len(b)), b.LastOffset(), b.MaxTimestamp(), x.interval)
	for len(x.offsets) >= offsetEntryLen {
		e := parseOffsetEntry(x.offsets, x.fresh.base)
		if e.position > pos {
			break
		}
		if e.position < pos || e.offset != b.LastOffset() {
			x.reject(x.fresh.idx.name)
			x.offsets = nil
			break
		}
		x.offsets = x.offsets[offsetEntryLen:]
	}
	for len(x.times) >= timeEntryLen {
		e := parseTimeEntry(x.times, x.fresh.base)
		if e.offset > b.LastOffset() {
			break
		}
		if e.offset < b.BaseOffset() || e.timestamp != x.fresh.maxTime || e.timestamp <= x.last.timestamp {
			x.reject(x.fresh.tim.name)
			x.times = nil
			break
		}
		x.last, x.times = e, x.times[timeEntryLen:]
	}
	if m, ok, err := endTxnOf(b); err == nil && ok && !m.Commit {
		x.aborts = append(x.aborts, AbortedTxn{ProducerID: b.ProducerID(), LastOffset: b.LastOffset()})
	}
}

func (x *indexer) reject(name string) { x.wrong = append(x.wrong, name) }

// keep makes the indexer's indexes the segment's.
func (s *SealedSegment) keep(x *indexer) error {
	if len(x.offsets) > 0 {
		x.reject(x.fresh.idx.name) // it goes on behind the last batch, or in the middle of an entry
	}
	if len(x.times) > 0 {
		x.reject(x.fresh.tim.name)
	}
	for _, name := range x.wrong {
		s.log.log.Error("index does not fit the records, made anew for the upload", "partition", s.log.tp, "segment", s.base, "path", name)
	}
	x.fresh.addTime()
	txns, err := s.abortedTxns(x.aborts)
	if err != nil {
		return err
	}
	s.txns = EncodeTxnIndex(txns)
	s.offsets, s.times, s.built = x.fresh.offsets.tail, x.fresh.times.tail, true
	return nil
}

// abortedTxns is the transaction index by the records. What is on disk counts
// only where the producer state at the segment's start is gone, without which
// nobody can say where a transaction began.
func (s *SealedSegment) abortedTxns(aborts []AbortedTxn) ([]AbortedTxn, error) {
	stored, err := readTxnIndex(s.log.fs, s.part.txn.name)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, s.log.readError("read transaction index", s.part.txn.name, err)
	}
	if len(aborts) == 0 && len(stored) == 0 && err == nil {
		return nil, nil
	}
	m, perr := s.producersBefore()
	if perr != nil {
		if err == nil && !explained(stored, aborts) {
			err = fmt.Errorf("transaction index of segment %d does not fit the markers: %w: %w", s.base, ErrCorrupt, perr)
		}
		return stored, err
	}
	var txns []AbortedTxn
	scan := newScanner(s.file, 0, s.size, false)
	defer scan.close()
	rerr := scan.replay(func(b record.Batch, _, _ int64) error {
		if done := trackBatch(m, b); done != nil && done.Aborted {
			txns = append(txns, AbortedTxn{
				ProducerID: done.ProducerID, FirstOffset: done.FirstOffset, LastOffset: done.LastOffset, LastStableOffset: done.LastStableOffset,
			})
		}
		return nil
	})
	if rerr != nil {
		return nil, s.judge(rerr)
	}
	if err != nil || !slices.Equal(txns, stored) {
		s.log.log.Error("index does not fit the records, made anew for the upload", "partition", s.log.tp, "segment", s.base, "path", s.part.txn.name, "err", err)
	}
	return txns, nil
}

// explained says whether each entry has its marker.
func explained(stored, aborts []AbortedTxn) bool {
	for _, t := range stored {
		if !slices.ContainsFunc(aborts, func(a AbortedTxn) bool { return a.ProducerID == t.ProducerID && a.LastOffset == t.LastOffset }) {
			return false
		}
	}
	return true
}

// producersBefore is the producer state at the segment's start, ErrNoSnapshot
// when nobody knows it.
func (s *SealedSegment) producersBefore() (*producer.Manager, error) {
	cfg := s.log.config.Load()
	m := producer.NewManager(cfg.MaxTxnAge, cfg.ProducerExpiration)
	states, err := readSnapshot(s.log.fs, s.log.snapshotName(s.base))
	if err == nil {
		m.Restore(states, s.base, time.Time{})
		return m, nil
	}
	if first, _ := s.log.partFrom(0); errors.Is(err, fs.ErrNotExist) && first != nil && first.base == s.base && s.base == 0 {
		m.Reset(0) // nobody wrote before
		return m, nil
	}
	return nil, fmt.Errorf("segment %d: %w: %w", s.base, ErrNoSnapshot, err)
}

package segment

import (
	"slices"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// indexer makes the indexes of a sealed segment from its batches, and says which
// of those on disk the batches contradict (KAFKA-15401). What it makes is what
// counts: a broken index is only worth a word to the operator.
type indexer struct {
	fresh    *activePart
	interval int64
	offsets  []byte // entries on disk that no batch was compared with yet
	times    []byte
	last     timeEntry // of times
	wrong    []string  // names of the files that are wrong
	aborts   []AbortedTxn
}

func (s *SealedSegment) newIndexer() *indexer {
	x := &indexer{
		fresh:    newActive(newPart(s.log.dir.files, s.log.path, s.base)),
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

// abortedTxns is the transaction index by the records.
func (s *SealedSegment) abortedTxns(aborts []AbortedTxn) ([]AbortedTxn, error) {
	stored, damaged, err := s.log.storedTxns(s.part)
	if err != nil || !damaged && len(aborts) == 0 && len(stored) == 0 {
		return nil, err
	}
	txns, err := s.log.txnsByRecords(s.part, s.file, s.size, stored, damaged)
	if err == nil && (damaged || !slices.Equal(txns, stored)) {
		s.log.log.Error("index does not fit the records, made anew for the upload", "partition", s.log.tp, "segment", s.base, "path", s.part.txn.name)
	}
	return txns, err
}

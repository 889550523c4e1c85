package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// AbortedTxn is one aborted transaction, as readers of committed records need it
// to skip its records. LastOffset is that of the abort marker.
type AbortedTxn struct {
	ProducerID       int64
	FirstOffset      int64
	LastOffset       int64
	LastStableOffset int64
}

const (
	txnEntryLen     = 34
	txnEntryVersion = 0
	// maxTxnIndex bounds what is read of a .txnindex: a million aborted
	// transactions in one segment are not what anybody has.
	maxTxnIndex = 1 << 20 * txnEntryLen
)

// appendTxnEntry encodes t as Kafka's AbortedTxn of version 0: version int16,
// producer id, first, last and last stable offset int64.
func appendTxnEntry(b []byte, t AbortedTxn) []byte {
	b = binary.BigEndian.AppendUint16(b, txnEntryVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(t.ProducerID))
	b = binary.BigEndian.AppendUint64(b, uint64(t.FirstOffset))
	b = binary.BigEndian.AppendUint64(b, uint64(t.LastOffset))
	return binary.BigEndian.AppendUint64(b, uint64(t.LastStableOffset))
}

// EncodeTxnIndex returns the bytes of a .txnindex file.
func EncodeTxnIndex(txns []AbortedTxn) []byte {
	b := make([]byte, 0, len(txns)*txnEntryLen)
	for _, t := range txns {
		b = appendTxnEntry(b, t)
	}
	return b
}

// DecodeTxnIndex reads the bytes of a .txnindex file. It returns the entries
// before the first that is not whole or not sound, and ErrCorrupt if there is
// such a one.
func DecodeTxnIndex(b []byte) ([]AbortedTxn, error) {
	txns := make([]AbortedTxn, 0, len(b)/txnEntryLen)
	for pos := 0; pos < len(b); pos += txnEntryLen {
		e := b[pos:]
		if len(e) < txnEntryLen {
			return txns, fmt.Errorf("txn index: %d bytes after the last entry: %w", len(e), ErrCorrupt)
		}
		t := AbortedTxn{
			ProducerID:       int64(binary.BigEndian.Uint64(e[2:])),
			FirstOffset:      int64(binary.BigEndian.Uint64(e[10:])),
			LastOffset:       int64(binary.BigEndian.Uint64(e[18:])),
			LastStableOffset: int64(binary.BigEndian.Uint64(e[26:])),
		}
		version := int16(binary.BigEndian.Uint16(e))
		sound := version >= txnEntryVersion && t.ProducerID >= 0 && t.FirstOffset >= 0 && t.FirstOffset <= t.LastOffset &&
			(len(txns) == 0 || txns[len(txns)-1].LastOffset < t.LastOffset)
		if !sound {
			return txns, fmt.Errorf("txn index: entry at %d: %w", pos, ErrCorrupt)
		}
		txns = append(txns, t)
	}
	return txns, nil
}

// AbortedTransactions returns the aborted transactions that have records in
// [from, to), as far as they lie in the local log. Safe for concurrent use.
func (l *Log) AbortedTransactions(from, to int64) ([]AbortedTxn, error) {
	var found []AbortedTxn
	for base := from; ; {
		p, following, err := l.txnsAt(base)
		if err != nil || p == nil {
			return found, err
		}
		for _, t := range p {
			if t.LastOffset >= from && t.FirstOffset < to {
				found = append(found, t)
			}
			// No transaction that is noted later began before its stable offset.
			if t.LastStableOffset >= to {
				return found, nil
			}
		}
		if following < 0 {
			return found, nil
		}
		base = following
	}
}

// txnsAt returns the aborted transactions of the part that holds offset, not nil
// if there is such a part, and the base of the next part or -1.
func (l *Log) txnsAt(offset int64) ([]AbortedTxn, int64, error) {
	l.mu.Lock()
	i := l.floor(offset)
	if i < 0 {
		if len(l.parts) == 0 {
			l.mu.Unlock()
			return nil, -1, nil
		}
		i = 0
	}
	p := l.parts[i]
	following := int64(-1)
	if i+1 < len(l.parts) {
		following = l.parts[i+1].base
	}
	l.mu.Unlock()
	txns, err := l.txnsOf(p)
	if err != nil {
		if l.removed(p) {
			err = fmt.Errorf("%s: segment %d, removed meanwhile: %w", l.tp, p.base, ErrOffsetOutOfRange)
		}
		return nil, -1, err
	}
	if txns == nil {
		txns = []AbortedTxn{}
	}
	return txns, following, l.mendTxns(p)
}

// mendTxns writes the transaction index of a sealed part that was made anew.
func (l *Log) mendTxns(p *part) error {
	l.mu.Lock()
	mended := l.sealedAtLocked(p.base) == nil || !p.txnTrim && p.txnFlushed == len(p.txns)
	l.mu.Unlock()
	if mended {
		return nil
	}
	l.maint.lock()
	defer l.maint.unlock()
	if l.check() != nil || l.removed(p) {
		return nil // nobody needs the file any more
	}
	if _, err := l.flushTxns(p); err != nil && !vfs.Heals(err) {
		return err
	}
	return nil
}

// txnsOf returns the aborted transactions of a part.
func (l *Log) txnsOf(p *part) ([]AbortedTxn, error) {
	l.mu.Lock()
	known, txns := p.txnsLoaded, p.txns[:len(p.txns):len(p.txns)]
	l.mu.Unlock()
	if known {
		return txns, nil
	}
	stored, damaged, err := l.storedTxns(p)
	if err != nil {
		return nil, err
	}
	txns = stored
	if damaged || len(stored) > 0 || l.mayHaveMarkers(p) {
		v, err := l.pinned(p)
		if err != nil {
			return nil, err
		}
		defer v.release()
		if txns, err = l.txnsByRecords(p, v.file, v.size, stored, damaged); err != nil {
			return nil, err
		}
		if damaged || !slices.Equal(txns, stored) {
			l.log.Warn("transaction index did not fit the records, made anew", "partition", l.tp, "segment", p.base, "path", p.txn.name)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.txnsLoaded {
		takeTxns(p, txns, stored)
	}
	return p.txns[:len(p.txns):len(p.txns)], nil
}

// takeTxns makes txns the part's, of which the file holds stored. What it does not
// hold is written with the next side files, and until then made anew at each
// start.
func takeTxns(p *part, txns, stored []AbortedTxn) {
	n := 0
	for n < len(txns) && n < len(stored) && txns[n] == stored[n] {
		n++
	}
	p.txns, p.txnFlushed, p.txnTrim = txns, n, p.txnTrim || n < len(stored)
	p.txnsLoaded = true
}

// storedTxns reads the transaction index of a part. Damaged means that the file is
// not what anybody wrote; then what comes before the damage is returned.
func (l *Log) storedTxns(p *part) (txns []AbortedTxn, damaged bool, err error) {
	txns, err = readTxnIndex(l.fs, p.txn.name)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, vfs.ErrTooLarge) {
		return txns, true, nil
	}
	if err != nil {
		err = l.readError("read transaction index", p.txn.name, err)
	}
	return txns, false, err
}

// mayHaveMarkers reports whether transactions may have ended in a closed part: the
// producers at its end tell. A transaction index that is missing, empty or cut
// between two entries looks like one that never had more.
func (l *Log) mayHaveMarkers(p *part) bool {
	states, err := readSnapshot(l.fs, l.snapshotName(p.next))
	return err != nil || transactional(states)
}

// transactional reports whether there is a producer that uses transactions.
func transactional(states []producer.State) bool {
	return slices.ContainsFunc(states, func(s producer.State) bool { return s.CoordinatorEpoch >= 0 || s.TxnFirstOffset >= 0 })
}

// txnsByRecords makes the transaction index of a part from its records. What is
// stored counts only where nobody knows which transactions were open before it: then
// it must have an entry for each abort marker, and no other.
func (l *Log) txnsByRecords(p *part, f vfs.File, size int64, stored []AbortedTxn, damaged bool) ([]AbortedTxn, error) {
	m, sure, err := l.producersBefore(p.base)
	if err != nil {
		return nil, err
	}
	var txns, aborts []AbortedTxn
	s := newScanner(f, 0, size, false)
	defer s.close()
	err = s.replay(func(b record.Batch, _, _ int64) error {
		if marker, ok, err := endTxnOf(b); err == nil && ok && !marker.Commit {
			aborts = append(aborts, AbortedTxn{ProducerID: b.ProducerID(), LastOffset: b.LastOffset()})
		}
		if done := trackBatch(m, b); done != nil && done.Aborted {
			txns = append(txns, AbortedTxn{
				ProducerID: done.ProducerID, FirstOffset: done.FirstOffset, LastOffset: done.LastOffset, LastStableOffset: done.LastStableOffset,
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, l.readError("scan segment", p.log.name, err)
	case sure || len(aborts) == 0:
		return txns, nil
	case !damaged && explained(stored, aborts):
		return stored, nil
	}
	return nil, fmt.Errorf("transaction index of segment %d does not fit the markers: %w: %w", p.base, ErrCorrupt, ErrNoSnapshot)
}

// explained reports whether each entry has its marker and each marker that ended
// a transaction with records its entry.
func explained(stored, aborts []AbortedTxn) bool {
	for _, t := range stored {
		if !slices.ContainsFunc(aborts, func(a AbortedTxn) bool { return a.ProducerID == t.ProducerID && a.LastOffset == t.LastOffset }) {
			return false
		}
	}
	return len(stored) == len(aborts)
}

// producersBefore returns the producer state at the start of a part. Not sure
// means that the records that made it are not on the disk any more, and no
// snapshot either: then it is that of a log that begins there.
func (l *Log) producersBefore(base int64) (m *producer.Manager, sure bool, err error) {
	l.mu.Lock()
	parts := l.parts
	l.mu.Unlock()
	m, from, err := l.producersAt(parts, base, time.Time{})
	if err != nil {
		return nil, false, err
	}
	_, err = readSnapshot(l.fs, l.snapshotName(from))
	return m, from == 0 || err == nil, nil
}

// readTxnIndex returns what a .txnindex file holds; a missing one is empty.
func readTxnIndex(fsys vfs.FS, name string) ([]AbortedTxn, error) {
	b, err := vfs.ReadFile(fsys, name, maxTxnIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	txns, err := DecodeTxnIndex(b)
	if err != nil {
		return txns, &PositionError{Op: "read transaction index", Path: name, Pos: int64(len(txns) * txnEntryLen), Err: err}
	}
	return txns, nil
}

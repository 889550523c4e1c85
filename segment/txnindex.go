package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

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
	if err := l.loadStats(p); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrOffsetOutOfRange // removed meanwhile
		}
		return nil, -1, err
	}
	l.mu.Lock()
	txns := p.txns[:len(p.txns):len(p.txns)]
	l.mu.Unlock()
	if txns == nil {
		txns = []AbortedTxn{}
	}
	return txns, following, nil
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

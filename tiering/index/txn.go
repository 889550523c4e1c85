package index

import (
	"encoding/binary"
	"iter"
)

// AbortedTxn is one entry of Kafka's transaction index.
type AbortedTxn struct {
	ProducerID       int64
	FirstOffset      int64
	LastOffset       int64
	LastStableOffset int64
}

// AbortedTxns yields the entries of a transaction index.
func AbortedTxns(b []byte) iter.Seq[AbortedTxn] {
	return func(yield func(AbortedTxn) bool) {
		for ; len(b) >= txnEntryBytes; b = b[txnEntryBytes:] {
			if !yield(txnEntry(b)) {
				return
			}
		}
	}
}

// txnEntry reads an entry: version 2, producer id 8, first, last, last stable offset 8.
func txnEntry(b []byte) AbortedTxn {
	be := binary.BigEndian
	return AbortedTxn{
		ProducerID: int64(be.Uint64(b[2:])), FirstOffset: int64(be.Uint64(b[10:])),
		LastOffset: int64(be.Uint64(b[18:])), LastStableOffset: int64(be.Uint64(b[26:])),
	}
}

// sliceTxnIndex keeps the transactions that end at offset base or behind it.
func sliceTxnIndex(b []byte, base int64) []byte {
	out := make([]byte, 0, len(b))
	for ; len(b) >= txnEntryBytes; b = b[txnEntryBytes:] {
		if txnEntry(b).LastOffset >= base {
			out = append(out, b[:txnEntryBytes]...)
		}
	}
	return out
}

// abortedSpan is what an entry says of a transaction index: the lowest first offset in it, and its last stable offset.
func abortedSpan(txnIndex []byte) (from, stable int64) {
	first := true
	for t := range AbortedTxns(txnIndex) {
		if first || t.FirstOffset < from {
			from = t.FirstOffset
		}
		first, stable = false, max(stable, t.LastStableOffset)
	}
	return from, stable
}

package segment

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// replayProducers computes the producer state of the log's end from the newest
// snapshot, and what of the transaction indexes is not durable.
func (l *Log) replayProducers() error {
	end := l.end.Load()
	stale := slices.DeleteFunc(slices.Clone(l.snapshots), func(s int64) bool { return s <= end })
	if len(stale) > 0 {
		// Durably: it would be believed if it came back when the log is longer.
		if err := errors.Join(l.removeSnapshots(stale), l.syncNames()); err != nil {
			return err
		}
	}
	from, err := l.loadSnapshot(end, time.Now())
	if err != nil {
		return err
	}
	if err := l.replayFrom(from); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers.SetEnd(end)
	l.noteUnstableLocked()
	return nil
}

// replayFrom reads the records from an offset on into the producer state. Aborted
// transactions below the recovery point are in the indexes already.
func (l *Log) replayFrom(from int64) error {
	l.mu.Lock()
	parts, known := l.parts, l.recovery.Load()
	l.mu.Unlock()
	for _, p := range parts {
		if p.next <= from && p != parts[len(parts)-1] {
			continue
		}
		if err := l.replayPart(p, from, known); err != nil {
			return err
		}
		for _, c := range l.rolled {
			if c.part == p {
				l.mu.Lock()
				l.producers.SetEnd(p.next)
				c.snapshot = l.producers.Snapshot()
				l.mu.Unlock()
			}
		}
	}
	return nil
}

func (l *Log) replayPart(p *part, from, known int64) error {
	return l.replayInto(p, from, p.next, func(b record.Batch, size int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.snapshotBytes += size
		if b.LastOffset() < known {
			l.trackLocked(nil, b)
		} else {
			l.trackLocked(p, b)
		}
	})
}

// replayInto calls track with the batches of p that lie below end and end at or
// behind from: of control batches with all, of the others with the header.
func (l *Log) replayInto(p *part, from, end int64, track func(b record.Batch, size int64)) error {
	if from >= p.next || p.size == 0 {
		return nil
	}
	v, err := l.pinned(p)
	if err != nil {
		return err
	}
	defer v.release()
	var pos int64
	if from > p.base {
		if pos, err = v.locate(from); err != nil {
			return l.readError("read index", p.idx.name, err)
		}
	}
	s := newScanner(v.file, pos, v.size, false)
	defer s.close()
	err = s.replay(func(b record.Batch, _, size int64) error {
		switch {
		case b.LastOffset() >= end:
			return io.EOF
		case b.LastOffset() >= from:
			track(b, size)
		}
		return nil
	})
	if err != nil && err != io.EOF {
		return l.readError("replay segment", p.log.name, err)
	}
	return nil
}

// checkTxns compares the transaction indexes of the parts that are not sealed, as
// far as they were on disk already, with the records, unless there never was a
// transaction.
func (l *Log) checkTxns() error {
	l.mu.Lock()
	states, seen := l.producers.Producers(), l.history.transactions
	parts := l.unsealedLocked()
	l.mu.Unlock()
	seen = seen || transactional(states)
	for _, p := range parts {
		if !seen && !p.txnTrim && len(p.txns) == 0 || p.size == 0 {
			continue
		}
		stored, damaged, err := l.storedTxns(p.part)
		if err != nil {
			return err
		}
		v, err := l.pinned(p.part)
		if err != nil {
			return err
		}
		txns, err := l.txnsByRecords(p.part, v.file, v.size, p.txns, false)
		v.release()
		if err != nil {
			return err
		}
		p.txnTrim = damaged
		takeTxns(p.part, txns, stored)
	}
	return nil
}

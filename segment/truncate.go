package segment

import (
	"errors"
	"io"
	"math"
	"sort"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
)

// TruncateTo removes all batches that hold an offset of offset or above, durably.
// Snapshots, indexes, lineage, high watermark and producer state follow; epochs
// without records go from the lineage in any case. A follower does this when it
// finds that its tail is not the leader's. After an error the log is as it was, or
// as it shall be with files that lag behind: a further call goes on.
func (l *Log) TruncateTo(offset int64) error {
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.begin(); err != nil {
		return err
	}
	if offset >= l.end.Load() {
		l.mu.Lock()
		l.cutEpochsLocked(l.end.Load())
		l.mu.Unlock()
		return nil
	}
	l.maint.lock()
	defer l.maint.unlock()
	l.lockSlots()
	defer l.unlockSlots()
	if err := l.check(); err != nil {
		return err
	}
	if offset <= l.localStart.Load() {
		return l.restart(offset, min(l.logStart.Load(), offset))
	}
	c, err := l.prepareCut(offset)
	if err != nil {
		l.vouched.Store(math.MaxInt64)
		return err
	}
	l.mu.Lock()
	l.cutLocked(c)
	l.mu.Unlock()
	return l.tidyLocked()
}

// cut is the end of the log as a truncation makes it, prepared beside the log.
type cut struct {
	last      *activePart // takes the place of the part that holds the end
	index     int         // of that part
	end       int64
	producers *producer.Manager
	known     int64 // from where on producers knows each batch
}

// prepareCut does all of a truncation that may fail and changes nothing but what
// costs a restart some time: what is said on disk about offsets behind the cut.
func (l *Log) prepareCut(offset int64) (*cut, error) {
	l.mu.Lock()
	i := max(l.floor(offset), 0)
	p := l.parts[i]
	l.mu.Unlock()
	pos, end, err := l.cutPoint(p, offset)
	if err != nil {
		return nil, err
	}
	if err := l.lowerMarks(end); err != nil {
		return nil, err
	}
	c := &cut{index: i, end: end}
	if c.last, err = l.cutPart(p, pos, end); err != nil {
		return nil, err
	}
	if c.producers, c.known, err = l.producersAt(append(l.parts[:i:i], c.last.part), end, time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

// lowerMarks makes the checkpoints on disk say nothing of offsets from end on,
// before anything there changes, and keeps them so until tidy is done.
func (l *Log) lowerMarks(end int64) error {
	l.vouched.Store(end)
	for _, m := range []mark{markRecovery, markHighWatermark} {
		if err := l.persistBelow(m, end); err != nil {
			return err
		}
	}
	return nil
}

// cutPoint returns where in a part the first batch begins that holds offset or
// more, and what becomes the log's end. Of a damaged part it is the damage if that
// comes first. maint must be held.
func (l *Log) cutPoint(p *part, offset int64) (pos, end int64, err error) {
	from := int64(0)
	switch err := l.loadIndexHeld(p); {
	case errors.Is(err, ErrCorrupt):
		l.mu.Lock()
		p.offsets.reset(0)
		p.times.reset(0)
		l.mu.Unlock()
	case err != nil:
		return 0, 0, err
	}
	v, err := l.pinned(p)
	if err != nil {
		return 0, 0, err
	}
	defer v.release()
	if from, err = v.locate(offset); err != nil {
		return 0, 0, l.readError("read index", p.idx.name, err)
	}
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	s.over(v.file, from, v.size, buf[:])
	next := p.base
	for {
		b, err := s.step()
		var d *damage
		switch {
		case err == io.EOF && l.config.Load().Compact && l.continues(p, next):
			return v.size, offset, nil // a gap at the part's end
		case err == io.EOF:
			return s.pos, next, nil // records are missing there, or a follower skipped offsets
		case errors.As(err, &d):
			return s.pos, next, nil
		case err != nil:
			return 0, 0, l.readError("find where to truncate", p.log.name, err)
		case b.LastOffset() >= offset:
			return s.at, min(offset, b.BaseOffset()), nil
		}
		next = b.NextOffset()
	}
}

// cutPart returns what p becomes as the active part with pos bytes, which end
// before end.
func (l *Log) cutPart(p *part, pos, end int64) (*activePart, error) {
	txns, stored, err := l.txnsBelow(p, pos, end)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	fresh := newActive(newPart(l.dir.files, l.path, p.base))
	fresh.partFiles = p.partFiles
	fresh.durable = pos
	for _, w := range l.unsealedLocked() {
		if w.part == p {
			// cutLocked takes over what is open.
			fresh.unnamed, fresh.written, fresh.named, fresh.durable = w.unnamed, w.written, w.named, min(w.durable, pos)
		}
	}
	fresh.offsets, fresh.times = p.offsets, p.times
	takeTxns(fresh.part, txns, stored)
	fresh.overhang = true
	offsets, times := p.offsets.view(), p.times.view()
	l.mu.Unlock()
	n, m, err := l.entriesBelow(p, offsets, times, end)
	if err != nil {
		return nil, err
	}
	fresh.offsets.cut(n)
	fresh.times.cut(m)
	if err := l.resume(fresh); err != nil {
		return nil, err
	}
	if err := l.rescan(fresh, pos, false, math.MaxInt64); err != nil {
		return nil, l.readError("scan segment", p.log.name, err)
	}
	fresh.next = end
	return fresh, nil
}

// txnsBelow returns the aborted transactions of a part that ended before end, the
// offset of the batch at pos, and those that its file holds.
func (l *Log) txnsBelow(p *part, pos, end int64) (txns, stored []AbortedTxn, err error) {
	below := func(t []AbortedTxn) []AbortedTxn {
		n := sort.Search(len(t), func(i int) bool { return t[i].LastOffset >= end })
		return t[:n:n]
	}
	l.mu.Lock()
	known := p.txnsLoaded
	txns, stored = p.txns, p.txns[:p.txnFlushed]
	l.mu.Unlock()
	if known {
		return below(txns), stored, nil
	}
	stored, damaged, err := l.storedTxns(p)
	if err != nil || !damaged && len(stored) == 0 && !l.mayHaveMarkers(p) {
		return nil, nil, err
	}
	v, err := l.pinned(p)
	if err != nil {
		return nil, nil, err
	}
	defer v.release()
	txns, err = l.txnsByRecords(p, v.file, pos, below(stored), damaged)
	return txns, stored, err
}

// cutLocked makes the log end where c says. mu, turn, maint and the slots must be
// held.
func (l *Log) cutLocked(c *cut) {
	l.generation++
	old := l.parts[c.index]
	for _, w := range l.unsealedLocked() {
		if w.part == old {
			c.last.file, c.last.second, w.file, w.second = w.file, w.second, nil, nil
		}
	}
	l.doomLocked(c.index)
	l.doomSnapshotsLocked(c.end)
	// The part that holds the end goes on under another name.
	l.doomedTail = l.doomedTail[:len(l.doomedTail)-1]
	l.localBytes.Add(c.last.size)
	l.parts, l.tail = append(l.parts[:c.index:c.index], c.last.part), c.last
	l.end.Store(c.end)
	l.durable.Store(min(l.durable.Load(), c.end))
	l.synced.Store(min(l.synced.Load(), c.end))
	l.recovery.Store(min(l.recovery.Load(), c.end))
	l.logStart.Store(min(l.logStart.Load(), c.end)) // made durable by tidy
	l.snapshotBytes = 0
	l.cutEpochsLocked(c.end)
	// The transactions first: the last stable offset must not seem to rise.
	l.producers = c.producers
	l.reloadedLocked(c.known)
	l.producers.OnHighWatermark(min(l.hw.Load(), c.end))
	l.noteUnstableLocked()
	l.hw.Store(min(l.hw.Load(), c.end))
	if l.durable.Load() < c.end {
		l.RequestSync() // segments before the one that was cut
	}
}

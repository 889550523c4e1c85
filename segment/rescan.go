package segment

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// maxIndexFile bounds the index file that recovery reads at once: 2 GiB of log
// with an entry for each smallest batch.
const maxIndexFile = 512 << 20

// resume sets the statistics of a part to what they were when its last index
// entry was made, so that the scan that follows from there brings them up to date.
func (l *Log) resume(p *activePart) error {
	p.loaded = true
	p.lastIndex, p.lastTime, p.maxTime, p.maxTimeAt = 0, -1, -1, -1
	if p.times.count > 0 {
		last, err := l.lastTime(p.part)
		if err != nil {
			return err
		}
		p.lastTime, p.maxTime, p.maxTimeAt = last.timestamp, last.timestamp, last.offset
	}
	if p.offsets.count > 0 {
		v := p.offsets.view()
		if !v.inMemory() {
			f, err := p.idx.pin()
			if err != nil {
				return l.readError("open index", p.idx.name, err)
			}
			defer p.idx.unpin()
			v.file = f
		}
		var b [offsetEntryLen]byte
		if err := v.at(b[:], p.offsets.count-1); err != nil {
			return l.readError("read index", p.idx.name, err)
		}
		p.lastIndex = parseOffsetEntry(b[:], p.base).position
	}
	p.size, p.next = p.lastIndex, p.base
	return l.readFirst(p)
}

// readFirst learns when the first records of a part came.
func (l *Log) readFirst(p *activePart) error {
	p.firstTime, p.firstAppend = -1, time.Time{}
	f, err := p.log.pin()
	if err != nil {
		return l.readError("open segment", p.log.name, err)
	}
	defer p.log.unpin()
	var head [record.HeaderSize]byte
	n, err := f.ReadAt(head[:], 0)
	if n < len(head) {
		if err == nil || err == io.EOF {
			return nil
		}
		return l.readError("read segment", p.log.name, err)
	}
	p.firstTime = record.Batch(head[:]).MaxTimestamp()
	now := time.Now()
	p.firstAppend = time.UnixMilli(p.firstTime)
	if p.firstTime < 0 || p.firstAppend.After(now) {
		p.firstAppend = now
	}
	return nil
}

// rescan reads the batches of p from p.size, where its statistics stand, to size,
// and takes them into the statistics, the indexes and, from offset epochsFrom on,
// into the lineage.
func (l *Log) rescan(p *activePart, size int64, verify bool, epochsFrom int64) error {
	f, err := p.log.pin()
	if err != nil {
		return l.readError("open segment", p.log.name, err)
	}
	defer p.log.unpin()
	s := newScanner(f, p.size, size, verify)
	defer s.close()
	interval := int64(l.config.Load().IndexIntervalBytes)
	next := max(p.next, p.base)
	for {
		b, err := s.step()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		epoch := b.LeaderEpoch()
		if b.BaseOffset() < next || b.LastOffset()-p.base > maxRelativeOffset ||
			b.BaseOffset() >= epochsFrom && epoch < l.epoch.Load() {
			return &damage{s.at, fmt.Errorf("offsets %d to %d with epoch %d after %d with epoch %d",
				b.BaseOffset(), b.LastOffset(), epoch, next, l.epoch.Load())}
		}
		if epoch > l.epoch.Load() && b.BaseOffset() >= epochsFrom {
			l.assignEpochLocked(epoch, b.BaseOffset())
			l.epochsDirty = true
		}
		p.added(s.at, s.length, b.LastOffset(), b.MaxTimestamp(), interval)
		next = p.next
	}
}

// trustIndex keeps of the indexes of p what is about offsets below the recovery
// point, which was durable before it, and forgets the rest.
func (l *Log) trustIndex(p *activePart, point int64) error {
	offsets, err := readIndexFile(l.fs, p.idx.name)
	if err != nil {
		return l.readError("read index", p.idx.name, err)
	}
	times, err := readIndexFile(l.fs, p.tim.name)
	if err != nil {
		return l.readError("read time index", p.tim.name, err)
	}
	offsetSize, timeSize := len(offsets), len(times)
	n, m := 0, 0
	if point > p.base {
		var last offsetEntry
		n, last = soundOffsets(offsets, p.base, point, p.size)
		if n > 0 && !l.batchAt(p.part, last.position, func(b record.Batch) bool { return b.LastOffset() == last.offset }) {
			n = 0
		}
		if n > 0 {
			m = soundTimes(times, p.base, last.offset)
		}
		if m == 0 || !l.soundTime(p.part, n, m) || !l.timesReach(p.part, n, m) {
			n, m = 0, 0 // there is a time with the first offset, unless none has a time
		}
	}
	p.offsets.reset(n)
	p.times.reset(m)
	p.offsets.trim, p.times.trim = offsetSize > n*offsetEntryLen, timeSize > m*timeEntryLen
	return l.resume(p)
}

// readIndexFile returns what an index file holds; one that is missing or absurdly
// large counts as empty.
func readIndexFile(fsys vfs.FS, name string) ([]byte, error) {
	b, err := vfs.ReadFile(fsys, name, maxIndexFile)
	if missing(err) || errors.Is(err, vfs.ErrTooLarge) {
		return nil, nil
	}
	return b, err
}

// soundOffsets returns how many entries at the front grow, lie within size and
// are about offsets below point, and the last of them.
func soundOffsets(b []byte, base, point, size int64) (n int, last offsetEntry) {
	last = offsetEntry{base - 1, 0}
	for len(b) >= offsetEntryLen {
		e := parseOffsetEntry(b, base)
		if e.offset <= last.offset || e.position <= last.position || e.offset >= point || e.position >= size {
			break
		}
		n, last, b = n+1, e, b[offsetEntryLen:]
	}
	return n, last
}

// soundTimes returns how many entries at the front grow and are about offsets up
// to last.
func soundTimes(b []byte, base, last int64) int {
	n, before := 0, timeEntry{-1, base - 1}
	for len(b) >= timeEntryLen {
		e := parseTimeEntry(b, base)
		if e.timestamp <= before.timestamp || e.offset < before.offset || e.offset > last {
			break
		}
		n, before, b = n+1, e, b[timeEntryLen:]
	}
	return n
}

// loadTxns reads the transaction index of a part that may get more entries, as
// far as it is about offsets below end.
func (l *Log) loadTxns(p *part, end int64) error {
	txns, damaged, err := l.storedTxns(p)
	if err != nil {
		return err
	}
	n := 0
	for n < len(txns) && txns[n].LastOffset < end {
		n++
	}
	p.txns, p.txnFlushed, p.txnsLoaded = txns[:n:n], n, true
	p.txnTrim = damaged || n < len(txns)
	return nil
}

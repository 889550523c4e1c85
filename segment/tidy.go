package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// begin is what everything that changes the end of the log calls first: it checks
// that the log can be used and brings the files in line with it. turn must be
// held.
func (l *Log) begin() error {
	if err := l.check(); err != nil {
		return err
	}
	return l.tidy()
}

// tidy brings the files in line with the log after a change of its end that met a
// full disk, or a lack of descriptors, halfway. Truncation, restart and the
// roll-back of a failed append change memory in one step, when all that they
// need is prepared, and leave the files to tidy, which does what is left each time
// it is called. Nothing is appended and no checkpoint moves above the cut before
// it succeeded; after a crash the files tell of the time before the change, or of
// a part of it. turn must be held, and neither maint nor the slots.
func (l *Log) tidy() error {
	if !l.untidy.Load() {
		return nil
	}
	l.maint.lock()
	defer l.maint.unlock()
	l.lockSlots()
	defer l.unlockSlots()
	return l.tidyLocked()
}

// tidyLocked is tidy for who holds turn, maint and the slots. Everything it makes
// durable it does in an order in which what a crash leaves is the beginning of
// the log as it was.
func (l *Log) tidyLocked() error {
	for _, f := range l.seconds {
		if f != nil {
			_ = f.Close() // nothing was written to it
		}
	}
	l.seconds = nil
	if len(l.doomedSnapshots) > 0 {
		if err := l.removeSnapshots(l.doomedSnapshots); err != nil {
			return err
		}
		if err := l.syncNames(); err != nil {
			return err
		}
		l.doomedSnapshots = nil
	}
	for len(l.doomedTail) > 0 {
		if err := l.unlink(l.doomedTail[0]); err != nil {
			return err
		}
		l.doomedTail = l.doomedTail[1:]
	}
	p := l.head()
	if p.overhang {
		if err := l.cutOverhang(p); err != nil {
			return err
		}
	}
	if p.unborn {
		if err := l.bear(p); err != nil {
			return err
		}
	}
	if err := l.persistLogStart(); err != nil {
		return err
	}
	l.vouched.Store(math.MaxInt64)
	l.untidy.Store(false)
	return nil
}

// doomLocked leaves the files of the parts from the i-th on to tidy. The caller
// replaces l.parts and l.tail. mu and the slots must be held.
func (l *Log) doomLocked(i int) {
	for _, p := range slices.Backward(l.unsealedLocked()) {
		if p.base < l.parts[i].base {
			break
		}
		p.unpin()
		l.seconds = append(l.seconds, p.second)
		p.second = nil
	}
	for _, p := range slices.Backward(l.parts[i:]) {
		l.localBytes.Add(-p.size)
		l.doomedTail = append(l.doomedTail, p) // also one that is unborn: bear may have come halfway
	}
	l.sealed = slices.Clone(l.sealed[:min(i, len(l.sealed))])
	l.rolled = slices.Clone(l.rolled[:min(max(i-len(l.sealed), 0), len(l.rolled))])
	l.untidy.Store(true)
}

// doomSnapshotsLocked leaves the snapshots of offsets above end to tidy: they would be
// believed when the log is long enough again. mu and maint must be held.
func (l *Log) doomSnapshotsLocked(end int64) {
	for _, s := range l.snapshots {
		if s > end && !slices.Contains(l.doomedSnapshots, s) {
			l.doomedSnapshots = append(l.doomedSnapshots, s)
		}
	}
}

// cutOverhang makes the file of the active part end with its records, durably, so
// that what is appended next is never followed by old records.
func (l *Log) cutOverhang(p *activePart) error {
	f, err := p.log.pin()
	if err != nil {
		return l.readError("open segment", p.log.name, err)
	}
	defer p.log.unpin()
	if err := f.Truncate(p.size); err != nil {
		return l.fail("truncate segment", err)
	}
	if err := f.Sync(); err != nil {
		return l.failSync(fmt.Errorf("sync segment %d: %w", p.base, err))
	}
	l.mu.Lock()
	p.overhang, p.durable = false, p.size
	l.mu.Unlock()
	return nil
}

// bear makes the file of a part, durably, and before it the lineage: that of
// records which are gone must not outlive them.
func (l *Log) bear(p *activePart) error {
	if err := l.flushEpochs(); err != nil {
		return err
	}
	f, err := l.fs.Create(p.log.name)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return l.fail("create segment", err)
	}
	if err := l.syncNames(); err != nil {
		return err
	}
	l.mu.Lock()
	p.unborn = false
	l.mu.Unlock()
	return nil
}

// unlink removes the files of a part, which nobody can find any more, the log
// file durably first: a log that reappeared after a crash would be found, an
// index without its log is not. It can be repeated. maint must be held.
func (l *Log) unlink(p *part) error {
	for i, s := range p.list() {
		s.retire()
		if err := l.fs.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.fail("remove segment", err)
		}
		if i == 0 {
			if err := l.syncNames(); err != nil {
				return err
			}
		}
	}
	return nil
}

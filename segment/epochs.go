package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// EpochEntry says where the records of a leader epoch begin. They end where the
// next entry's begin.
type EpochEntry struct {
	Epoch       int32
	StartOffset int64
}

// NoEpoch is what a log without leader epochs answers.
const NoEpoch int32 = -1

// LeaderEpochs returns the lineage of the log, oldest first.
func (l *Log) LeaderEpochs() []EpochEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.epochs)
}

// LatestEpoch returns the newest leader epoch of the log, or NoEpoch.
func (l *Log) LatestEpoch() int32 { return l.epoch.Load() }

// EpochForOffset returns the leader epoch under which offset was or will be
// appended. False means that it is below the lineage.
func (l *Log) EpochForOffset(offset int64) (int32, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return epochFor(l.epochs, offset)
}

func epochFor(epochs []EpochEntry, offset int64) (int32, bool) {
	i := sort.Search(len(epochs), func(i int) bool { return epochs[i].StartOffset > offset })
	if i == 0 {
		return NoEpoch, false
	}
	return epochs[i-1].Epoch, true
}

// EndOffsetForEpoch returns the largest epoch of the log that is not above the
// one asked for and where its records end: LeaderEpochFileCache.endOffsetFor. If
// there is none it returns the epoch asked for and the start of the lineage, or
// NoEpoch and -1 if the epoch is above all that the log has.
func (l *Log) EndOffsetForEpoch(epoch int32) (foundEpoch int32, endOffset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch < 0 || len(l.epochs) == 0 {
		return NoEpoch, -1
	}
	if latest := l.epochs[len(l.epochs)-1].Epoch; epoch == latest {
		return epoch, l.end.Load()
	} else if epoch > latest {
		return NoEpoch, -1
	}
	i := sort.Search(len(l.epochs), func(i int) bool { return l.epochs[i].Epoch > epoch })
	if i == 0 {
		return epoch, l.epochs[0].StartOffset
	}
	return l.epochs[i-1].Epoch, l.epochs[i].StartOffset
}

// AssignEpoch notes that records from start on belong to epoch. An epoch that is
// not above the latest is ignored. The entry becomes durable with its first
// records.
func (l *Log) AssignEpoch(epoch int32, start int64) error {
	if epoch < 0 || start < 0 {
		return fmt.Errorf("assign leader epoch %d at offset %d: %w", epoch, start, ErrInvalidBatch)
	}
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch > l.epoch.Load() {
		l.assignEpochLocked(epoch, start)
	}
	return nil
}

// BeginEpoch notes that what is appended from now on belongs to epoch, and
// returns where that is. No append of an earlier epoch is let in any more, so
// none can come between the answer and the entry. Of an epoch that has begun
// already it returns the start; one below the latest is ErrFenced.
func (l *Log) BeginEpoch(epoch int32) (start int64, err error) {
	if epoch < 0 {
		return -1, fmt.Errorf("begin leader epoch %d: %w", epoch, ErrInvalidBatch)
	}
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.check(); err != nil {
		return -1, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch latest := l.epoch.Load(); {
	case epoch == latest && len(l.epochs) > 0:
		return l.epochs[len(l.epochs)-1].StartOffset, nil
	case epoch < latest:
		return -1, fmt.Errorf("%s: begin leader epoch %d, the log has %d: %w", l.tp, epoch, latest, ErrFenced)
	}
	start = l.end.Load()
	l.assignEpochLocked(epoch, start)
	return start, nil
}

// assignEpochLocked appends an entry. Entries that begin at or after start had no
// records and go: LeaderEpochFileCache.assign.
func (l *Log) assignEpochLocked(epoch int32, start int64) {
	n := len(l.epochs)
	for n > 0 && l.epochs[n-1].StartOffset >= start {
		n--
	}
	l.epochs = append(l.epochs[:n:n], EpochEntry{epoch, start})
	l.epoch.Store(epoch)
	if start < l.end.Load() {
		l.epochsDirty = true
	}
}

// cutEpochsLocked drops the entries of records from end on.
func (l *Log) cutEpochsLocked(end int64) {
	n := len(l.epochs)
	for n > 0 && l.epochs[n-1].StartOffset >= end {
		n--
	}
	if n < len(l.epochs) {
		l.setEpochsLocked(l.epochs[:n:n])
	}
}

// startEpochsLocked makes the lineage begin at start, as the log now does.
func (l *Log) startEpochsLocked(start int64) {
	i := sort.Search(len(l.epochs), func(i int) bool { return l.epochs[i].StartOffset > start })
	if i == 0 || i == 1 && l.epochs[0].StartOffset >= start {
		return
	}
	epochs := slices.Clone(l.epochs[i-1:])
	epochs[0].StartOffset = max(epochs[0].StartOffset, start)
	l.setEpochsLocked(epochs)
}

func (l *Log) setEpochsLocked(epochs []EpochEntry) {
	l.epochs, l.epochsDirty = epochs, true
	latest := NoEpoch
	if n := len(epochs); n > 0 {
		latest = epochs[n-1].Epoch
	}
	l.epoch.Store(latest)
}

// flushEpochs writes the checkpoint file if it lacks something. An epoch without
// records needs no place in it: losing it loses nothing. maint must be held.
func (l *Log) flushEpochs() error {
	l.mu.Lock()
	dirty, epochs := l.epochsDirty, l.epochs
	l.epochsDirty = false
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	name := filepath.Join(l.path, leaderEpochFile)
	if err := vfs.WriteFileAtomic(l.fs, name, EncodeEpochs(epochs)); err != nil {
		l.mu.Lock()
		l.epochsDirty = true
		l.mu.Unlock()
		return l.fail("write leader epochs", err)
	}
	return nil
}

// loadEpochs reads the lineage of a log that is being opened. If the file is
// damaged or gone the records tell it, unless some of them are in the tier only:
// then whoever asks about them would be answered wrongly.
func (l *Log) loadEpochs() error {
	epochs, err := readEpochs(l.fs, l.path)
	damaged := errors.Is(err, ErrCorrupt) || errors.Is(err, vfs.ErrTooLarge)
	if err != nil && !damaged {
		return l.dir.fail(err)
	}
	l.setEpochsLocked(epochs) // nobody else has l yet
	l.epochsDirty = damaged
	marks, _ := l.dir.marks.of(l.tp)
	point := marks[markRecovery]
	if !damaged && len(epochs) > 0 || len(l.parts) == 0 || point <= l.parts[0].base {
		return nil // what lies behind the recovery point is read again anyway
	}
	if l.config.Load().RemoteEnabled && l.parts[0].base > marks[markLogStart] {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return err
	}
	for _, p := range l.parts {
		if err := l.epochsOf(p); err != nil {
			return err
		}
	}
	if damaged || len(l.epochs) > 0 {
		l.log.Error("lineage of leader epochs was damaged or gone, made anew from the records", "partition", l.tp, "err", err)
	}
	return nil
}

// epochsOf takes the epochs of a part's records into the lineage. What is damaged
// is found, and judged, by who reads it next.
func (l *Log) epochsOf(p *part) error {
	v, err := l.pinned(p)
	if err != nil {
		return err
	}
	defer v.release()
	s := newScanner(v.file, 0, v.size, false)
	defer s.close()
	for {
		b, err := s.step()
		var d *damage
		switch {
		case err == io.EOF || errors.As(err, &d):
			return nil
		case err != nil:
			return l.readError("read leader epochs", p.log.name, err)
		case b.LeaderEpoch() > l.epoch.Load():
			l.assignEpochLocked(b.LeaderEpoch(), b.BaseOffset())
			l.epochsDirty = true
		}
	}
}

// readEpochs reads the checkpoint file; a missing one is empty.
func readEpochs(fsys vfs.FS, dir string) ([]EpochEntry, error) {
	name := filepath.Join(dir, leaderEpochFile)
	b, err := vfs.ReadFile(fsys, name, maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	epochs, err := DecodeEpochs(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return epochs, nil
}

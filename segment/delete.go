package segment

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// DeleteLog is DeleteLogs of one.
func (d *Dir) DeleteLog(l *Log) error { return d.DeleteLogs([]*Log{l})[0] }

// DeleteLogs removes logs: their directories are renamed at once, durably, and the
// files go after file.delete.delay.ms, by Run. Chunks in use stay readable. The
// errors are in the order of the logs. A log whose deletion failed is closed, and
// DeleteLogs may be called for it again. However many logs there are, the
// directory is synced once, and each checkpoint rewritten once.
func (d *Dir) DeleteLogs(logs []*Log) []error { return d.removeLogs(logs, deletedDirSuffix) }

// SetLogsAside is SetAside for logs that are open, with the rules of DeleteLogs.
func (d *Dir) SetLogsAside(logs []*Log) []error { return d.removeLogs(logs, strayDirSuffix) }

func (d *Dir) removeLogs(logs []*Log, suffix string) []error {
	errs := make([]error, len(logs))
	var gone []*Log
	for i, l := range logs {
		if errs[i] = l.bury(suffix); errs[i] == nil {
			gone = append(gone, l)
		}
	}
	if len(gone) == 0 {
		return errs
	}
	if err := d.settleRemoval(gone); err != nil {
		for i := range errs {
			errs[i] = errors.Join(errs[i], err)
		}
	}
	return errs
}

// bury closes the log and renames its directory, not durably.
func (l *Log) bury(suffix string) error {
	l.turn.lock()
	defer l.turn.unlock()
	l.maint.lock()
	defer l.maint.unlock()
	if l.grave != "" {
		return l.dir.Offline() // done, by an attempt before
	}
	if !l.leaving {
		if err := l.check(); err != nil {
			return err
		}
		l.shut()
		l.leaving = true
	}
	if err := l.dir.Offline(); err != nil {
		return err
	}
	path := filepath.Join(l.dir.path, besideName(l.tp, uniqueName(), suffix))
	if err := l.fs.Rename(l.path, path); err != nil {
		return l.fail("delete", err)
	}
	l.grave = path
	return nil
}

// settleRemoval makes the new names of buried logs durable and lets new logs have
// the old ones.
func (d *Dir) settleRemoval(gone []*Log) error {
	if err := vfs.SyncNames(d.fs, d.path); err != nil {
		return d.fail(fmt.Errorf("delete: %w", err))
	}
	tps := make([]metadata.TopicPartition, 0, len(gone))
	d.mu.Lock()
	for _, l := range gone {
		tps = append(tps, l.tp)
		if d.logs[l.tp] == l {
			delete(d.logs, l.tp)
			if strings.HasSuffix(l.grave, deletedDirSuffix) {
				d.doomed = append(d.doomed, doomedDir{path: l.grave, at: time.Now().Add(l.config.Load().DeleteDelay)})
			}
		}
	}
	d.mu.Unlock()
	d.wakeRemovals()
	return d.forget(tps...)
}

func (d *Dir) wakeRemovals() {
	select {
	case d.wakeDoom <- struct{}{}:
	default: // it will look
	}
}

// uniqueName is what makes the name of a directory differ from all others.
func uniqueName() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// shut marks the log closed and lets its files go. turn and maint must be held.
func (l *Log) shut() {
	l.lockSlots()
	defer l.unlockSlots()
	l.mu.Lock()
	l.closed = true
	parts, writers := l.parts, l.unsealedLocked()
	for _, p := range writers {
		p.unpin()
	}
	l.mu.Unlock()
	for _, p := range writers {
		p.closeSecond()
	}
	for _, p := range parts {
		for _, s := range p.list() {
			s.retire()
		}
	}
}

// close makes everything durable and closes the log, as the end of Dir.Close.
func (l *Log) close() error {
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.check(); err != nil {
		if errors.Is(err, ErrClosed) {
			return nil
		}
		return err
	}
	err := l.flushAll()
	l.maint.lock()
	defer l.maint.unlock()
	l.shut()
	return err
}

// halfDeleted reports whether a deletion has closed the log and got no further.
func (l *Log) halfDeleted() bool {
	l.maint.lock()
	defer l.maint.unlock()
	return l.leaving && l.grave == ""
}

// flushAll makes everything durable, the side files included. turn must be held.
func (l *Log) flushAll() error {
	if err := l.tidy(); err != nil {
		return err
	}
	if err := l.syncData(); err != nil {
		return err
	}
	if err := l.seal(); err != nil {
		return err
	}
	l.maint.lock()
	defer l.maint.unlock()
	p := l.head()
	if p.reserved > p.size {
		if err := l.syncPart(p); err != nil {
			return err
		}
	}
	if err := l.flushSideFiles(p, nil, false); err != nil {
		return err
	}
	l.mu.Lock()
	snapshot := l.snapshotBytes > 0
	l.mu.Unlock()
	if snapshot {
		if err := l.takeSnapshot(); err != nil {
			return err
		}
	}
	l.recovery.Store(l.end.Load())
	return nil
}

// runRemovals removes the files of deleted partitions when their time has come.
func (d *Dir) runRemovals(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if wait := d.removeDoomed(time.Now()); wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-d.wakeDoom:
		}
	}
}

// removeDoomed removes what is due and returns how long until the next is, 0 if
// there is none. What cannot be removed is tried again at the next start.
func (d *Dir) removeDoomed(now time.Time) time.Duration {
	d.mu.Lock()
	var ready []string
	var next time.Duration
	keep := d.doomed[:0]
	for _, x := range d.doomed {
		if wait := x.at.Sub(now); wait <= 0 {
			ready = append(ready, x.path)
		} else {
			keep = append(keep, x)
			if next == 0 || wait < next {
				next = wait
			}
		}
	}
	d.doomed = keep
	d.mu.Unlock()
	for _, path := range ready {
		if d.Offline() != nil {
			return 0
		}
		if err := d.fs.RemoveAll(path); err != nil {
			// The data is not reachable any more; the space is.
			d.log.Warn("removing a deleted partition failed", "dir", path, "err", fmt.Errorf("remove: %w", err))
		}
	}
	return next
}

// Log returns the open log of a partition, or nil.
func (d *Dir) Log(tp metadata.TopicPartition) *Log {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logs[tp]
}

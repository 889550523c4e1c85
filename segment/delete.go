package segment

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/coldbrook/coldbrook/metadata"
)

// DeleteLog removes a log: its directory is renamed at once, durably, and the
// files go after file.delete.delay.ms, by Run. Chunks in use stay readable.
func (d *Dir) DeleteLog(l *Log) error {
	l.turn.lock()
	defer l.turn.unlock()
	l.maint.lock()
	defer l.maint.unlock()
	if err := l.check(); err != nil {
		return err
	}
	l.shut()
	id := uuid.New()
	path := filepath.Join(d.path, deletedDirName(l.tp, hex.EncodeToString(id[:])))
	if err := d.fs.Rename(l.path, path); err != nil {
		return l.fail("delete", err)
	}
	if err := d.fs.SyncDir(d.path); err != nil {
		return l.failSync(err)
	}
	d.mu.Lock()
	delete(d.logs, l.tp)
	d.doomed = append(d.doomed, doomedDir{path: path, at: time.Now().Add(l.config.Load().DeleteDelay)})
	d.mu.Unlock()
	select {
	case d.wakeDoom <- struct{}{}:
	default:
	}
	return d.forget(l.tp)
}

// shut marks the log closed and lets its files go. turn and maint must be held.
func (l *Log) shut() {
	l.lockSlots()
	defer l.unlockSlots()
	l.mu.Lock()
	l.closed = true
	parts := l.parts
	for _, p := range parts {
		l.unpinLocked(p)
	}
	l.mu.Unlock()
	for _, p := range parts {
		p.closeSecond()
		for _, s := range p.files() {
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

// flushAll makes everything durable, the side files included. turn must be held.
func (l *Log) flushAll() error {
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
	if err := l.flushSideFiles(p, false); err != nil {
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

package segment

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// mark names one of the directory's offset checkpoints.
type mark int

const (
	markRecovery mark = iota
	markHighWatermark
	markLogStart
	marks
	markAll = marks
)

var markFiles = [marks]string{recoveryPointFile, highWatermarkFile, logStartFile}

// snapshotEvery is how many bytes of records a restart may have to read again for
// the state of producers.
const snapshotEvery = 64 << 20

// checkpoints are the three offset checkpoints of a directory: what lies on disk
// now. The gate is held while a file is written.
type checkpoints struct {
	dir  *Dir
	gate gate
	disk [marks]map[metadata.TopicPartition]int64 // guarded by dir.mu; values are replaced, not changed
}

func readCheckpoints(d *Dir) (*checkpoints, error) {
	c := &checkpoints{dir: d, gate: newGate()}
	for m := range marks {
		offsets, err := readCheckpoint(d.fs, filepath.Join(d.path, markFiles[m]))
		if errors.Is(err, ErrCorrupt) && m != markLogStart {
			// Without it a restart only takes longer: the logs themselves tell.
			// Lost log starts would show deleted records again.
			d.log.Error("checkpoint unusable, starting without", "file", markFiles[m], "err", err)
			offsets, err = map[metadata.TopicPartition]int64{}, nil
		}
		if err != nil {
			return nil, err
		}
		c.disk[m] = offsets
	}
	return c, nil
}

// of returns what the checkpoints on disk say of a partition.
func (c *checkpoints) of(tp metadata.TopicPartition) (offsets [marks]int64, known [marks]bool) {
	c.dir.mu.Lock()
	defer c.dir.mu.Unlock()
	for m := range marks {
		offsets[m], known[m] = c.disk[m][tp]
	}
	return offsets, known
}

// current returns what should be on disk. Partitions that are not open keep what
// is there, as long as they have a directory.
func (c *checkpoints) current(m mark) map[metadata.TopicPartition]int64 {
	c.dir.mu.Lock()
	defer c.dir.mu.Unlock()
	now := make(map[metadata.TopicPartition]int64, len(c.dir.logs))
	for _, p := range c.dir.found {
		if offset, ok := c.disk[m][p.TopicPartition]; ok {
			now[p.TopicPartition] = offset
		}
	}
	for tp, l := range c.dir.logs {
		delete(now, tp)
		switch m {
		case markRecovery:
			now[tp] = l.recovery.Load()
		case markHighWatermark:
			now[tp] = l.hw.Load()
		case markLogStart:
			if start := l.logStart.Load(); start > 0 {
				now[tp] = start
			}
		}
	}
	return now
}

// write brings the file of m, or all files, up to date; a file that is, is not
// written. With remaining errors it goes on with the other files.
func (c *checkpoints) write(which mark) error {
	c.gate.lock()
	defer c.gate.unlock()
	var errs error
	for m := range marks {
		if which != markAll && which != m {
			continue
		}
		now := c.current(m)
		c.dir.mu.Lock()
		same := maps.Equal(now, c.disk[m])
		c.dir.mu.Unlock()
		if same {
			continue
		}
		if err := vfs.WriteFileAtomic(c.dir.fs, filepath.Join(c.dir.path, markFiles[m]), EncodeOffsetCheckpoint(now)); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		c.dir.mu.Lock()
		c.disk[m] = now
		c.dir.mu.Unlock()
	}
	return errs
}

// persist writes one checkpoint and judges the error.
func (d *Dir) persist(m mark) error {
	if err := d.Offline(); err != nil {
		return err
	}
	if err := d.marks.write(m); err != nil {
		return d.fail(err)
	}
	return nil
}

func (d *Dir) persistRecoveryPoints() error { return d.persist(markRecovery) }

// forget removes a partition from the checkpoints on disk, if it is there: a new
// log of that name must not inherit the old one's offsets.
func (d *Dir) forget(tp metadata.TopicPartition) error {
	_, known := d.marks.of(tp)
	if known == [marks]bool{} {
		return nil
	}
	d.mu.Lock()
	d.found = slices.DeleteFunc(slices.Clone(d.found), func(p PartitionDir) bool { return p.TopicPartition == tp })
	d.mu.Unlock()
	return d.persist(markAll)
}

// runCheckpoints keeps the checkpoints up to date, and the recovery points close
// to the ends of the logs.
func (d *Dir) runCheckpoints(ctx context.Context) error {
	hw := time.NewTicker(d.o.HighWatermarkInterval)
	defer hw.Stop()
	recovery := time.NewTicker(d.o.CheckpointInterval)
	defer recovery.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-hw.C:
			err = d.persist(markHighWatermark)
		case <-recovery.C:
			err = d.Checkpoint()
		}
		if err != nil && d.Offline() == nil {
			d.log.Warn("checkpoint failed, trying again later", "dir", d.path, "err", err)
		}
	}
}

// Checkpoint moves the recovery points of all logs to what is durable now and
// writes all checkpoints. Run does it now and then.
func (d *Dir) Checkpoint() error {
	var errs error
	for _, l := range d.Logs() {
		if err := l.checkpoint(); err != nil && !errors.Is(err, ErrClosed) {
			errs = errors.Join(errs, err)
		}
	}
	return errors.Join(errs, d.persist(markAll))
}

// checkpoint makes the side files of the active segment durable and moves the
// recovery point to what was durable before. A log to which nothing was appended
// since the last time gives back its memory and its descriptor.
func (l *Log) checkpoint() error {
	if err := l.seal(); err != nil {
		return err
	}
	l.maint.lock()
	defer l.maint.unlock()
	l.mu.Lock()
	p, to := l.active(), l.durable.Load()
	// A segment closed since seal returned is the sealer's.
	busy := len(l.parts) > 1 && !l.parts[len(l.parts)-2].sealed
	skip := l.closed || busy || to == l.recovery.Load()
	snapshot := l.snapshotBytes >= snapshotEvery
	l.mu.Unlock()
	if skip {
		l.rest()
		return nil
	}
	if err := l.flushSideFiles(p, false); err != nil {
		return err
	}
	if snapshot {
		if err := l.takeSnapshot(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// maint is held: nothing was truncated meanwhile.
	l.recovery.Store(max(l.recovery.Load(), to))
	return nil
}

// rest gives back what an idle log holds, unless somebody appends just now.
func (l *Log) rest() {
	if !l.turn.tryLock() {
		return
	}
	defer l.turn.unlock()
	if !l.slots[1].tryLock() {
		return
	}
	defer l.freeSlot(1)
	p := l.head()
	p.closeSecond()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || p.durable < p.size || p.dirUnsynced || p.reserved > p.size {
		return
	}
	p.offsets.drop(0)
	p.times.drop(0)
	l.unpinLocked(p)
}

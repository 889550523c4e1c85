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

// checkpoints are the three offset checkpoints of a directory. A file holds an
// offset of each partition, so whoever needs his on disk joins the next round: one
// rewrite serves all who asked before it began, as the group commit does with
// syncs. Who joins stores the offset first.
type checkpoints struct {
	dir  *Dir
	gate gate // held by the round that writes

	// Guarded by dir.mu; the maps are replaced, not changed.
	next    *round                                   // not begun, nil = nobody waits
	disk    [marks]map[metadata.TopicPartition]int64 // what lies there, or did until writing does
	writing [marks]map[metadata.TopicPartition]int64 // what is being written, nil = nothing
	unsure  [marks]bool                              // the last write failed: nobody knows which of the two lies there
}

// round is one rewrite of the files that somebody wants.
type round struct {
	wanted [marks]bool
	done   chan struct{}
	errs   [marks]error // once done
}

// errorOf joins what became of the files that which names.
func (r *round) errorOf(which mark) error {
	if which == markAll {
		return errors.Join(r.errs[:]...)
	}
	return r.errs[which]
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

// currentLocked returns what should be on disk. Partitions that are not open keep
// what is there, as long as they have a directory.
func (c *checkpoints) currentLocked(m mark) map[metadata.TopicPartition]int64 {
	now := make(map[metadata.TopicPartition]int64, len(c.dir.logs))
	for _, p := range c.dir.found {
		if offset, ok := c.disk[m][p.TopicPartition]; ok {
			now[p.TopicPartition] = offset
		}
	}
	for tp, l := range c.dir.opening {
		// It does not know its offsets yet, but may have to take back what lies there.
		if offset, known := now[tp]; known && l != nil && m != markLogStart {
			now[tp] = min(offset, l.vouched.Load())
		}
	}
	for tp, l := range c.dir.logs {
		delete(now, tp)
		switch m {
		case markRecovery:
			now[tp] = min(l.recovery.Load(), l.vouched.Load())
		case markHighWatermark:
			// What is not durable may be gone after a crash without any damage.
			now[tp] = min(l.hw.Load(), l.durable.Load(), l.vouched.Load())
		case markLogStart:
			if start := l.logStart.Load(); start > 0 {
				now[tp] = start
			}
		}
	}
	return now
}

// write brings the file of which, or all files, up to date: with what is stored
// when it is called, or later. A file that is up to date is not written.
func (c *checkpoints) write(which mark) error {
	c.dir.mu.Lock()
	r := c.next
	first := r == nil
	if first {
		r = &round{done: make(chan struct{})}
		c.next = r
	}
	for m := range marks {
		r.wanted[m] = r.wanted[m] || which == markAll || which == m
	}
	c.dir.mu.Unlock()
	if first {
		c.gate.lock() // the next round gathers while this one waits for the last
		c.run(r)
		c.gate.unlock()
	} else {
		<-r.done
	}
	return r.errorOf(which)
}

// run carries out a round. The gate must be held.
func (c *checkpoints) run(r *round) {
	c.dir.mu.Lock()
	c.next = nil
	c.dir.mu.Unlock()
	for m := range marks {
		if r.wanted[m] {
			r.errs[m] = c.rewrite(m)
		}
	}
	close(r.done)
}

// rewrite writes one file. The gate must be held.
func (c *checkpoints) rewrite(m mark) error {
	c.dir.mu.Lock()
	now := c.currentLocked(m)
	if !c.unsure[m] && maps.Equal(now, c.disk[m]) {
		c.dir.mu.Unlock()
		return nil
	}
	c.writing[m] = now
	c.dir.mu.Unlock()
	err := vfs.WriteFileAtomic(c.dir.fs, filepath.Join(c.dir.path, markFiles[m]), EncodeOffsetCheckpoint(now))
	c.dir.mu.Lock()
	defer c.dir.mu.Unlock()
	c.writing[m], c.unsure[m] = nil, err != nil
	if err == nil {
		c.disk[m] = now
	}
	return err
}

// says reports whether ok holds for what a restart finds of a partition in the file
// of m, be it before or after the write that is under way. What is not known for
// sure is false.
func (c *checkpoints) says(m mark, tp metadata.TopicPartition, ok func(offset int64, known bool) bool) bool {
	c.dir.mu.Lock()
	defer c.dir.mu.Unlock()
	holds := func(content map[metadata.TopicPartition]int64) bool {
		offset, known := content[tp]
		return ok(offset, known)
	}
	return !c.unsure[m] && holds(c.disk[m]) && (c.writing[m] == nil || holds(c.writing[m]))
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

// persistBelow returns when no restart can find an offset of l above end in the
// file of m. The log must not want it there any more.
func (l *Log) persistBelow(m mark, end int64) error {
	if l.dir.marks.says(m, l.tp, func(at int64, _ bool) bool { return at <= end }) {
		return nil
	}
	return l.dir.persist(m)
}

// persistLogStart returns when every restart finds the log start of now.
func (l *Log) persistLogStart() error {
	start := l.logStart.Load()
	if l.dir.marks.says(markLogStart, l.tp, func(at int64, known bool) bool { return at == start && (known || start == 0) }) {
		return nil
	}
	return l.dir.persist(markLogStart)
}

// forget removes partitions from the checkpoints on disk, where they are in them:
// a new log of that name must not inherit the old one's offsets.
func (d *Dir) forget(tps ...metadata.TopicPartition) error {
	unknown := func(_ int64, known bool) bool { return !known }
	known, gone := false, make(map[metadata.TopicPartition]bool, len(tps))
	for _, tp := range tps {
		gone[tp] = true
		for m := range marks {
			known = known || !d.marks.says(m, tp, unknown)
		}
	}
	d.mu.Lock()
	goes := func(p PartitionDir) bool { return gone[p.TopicPartition] }
	if slices.ContainsFunc(d.found, goes) {
		d.found = slices.DeleteFunc(slices.Clone(d.found), goes)
	}
	d.mu.Unlock()
	if !known {
		return nil
	}
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
	busy := len(l.rolled) > 0
	// Of an untidy log the files hold other records than the log from some offset on.
	skip := l.closed || busy || to == l.recovery.Load() || l.untidy.Load()
	snapshot := l.snapshotBytes >= snapshotEvery
	l.mu.Unlock()
	if skip {
		l.rest()
		return nil
	}
	if err := l.flushSideFiles(p, nil, false); err != nil {
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
	if l.closed || p.durable < p.size || p.unnamed || p.reserved > p.size || l.untidy.Load() {
		return
	}
	p.offsets.drop(0)
	p.times.drop(0)
	p.unpin()
}

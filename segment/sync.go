package segment

import (
	"fmt"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Two syncs of one file may run at the same time, but not on one descriptor:
// Linux reports a failed write-back once to each open file, so of two fsyncs on
// the same one only one would learn of it, and the other would lie. A slot is the
// right to sync with one set of descriptors. Slot 0 is the part's log file, slot 1
// a second opening of it, made when it is first needed.
const syncSlots = 2

// trySlot takes a free slot. False means that there is none; the log goes back on
// the committer's list as soon as there is.
func (l *Log) trySlot() (int, bool) {
	for range 2 {
		for i := range l.slots {
			if l.slots[i].tryLock() {
				return i, true
			}
		}
		// Once more after the wish is known, or a slot freed in between is missed.
		l.again.Store(true)
	}
	return 0, false
}

func (l *Log) freeSlot(i int) {
	l.slots[i].unlock()
	if l.again.Swap(false) {
		l.RequestSync()
	}
}

// lockSlots waits until no sync runs and lets none begin.
func (l *Log) lockSlots() {
	for i := range l.slots {
		l.slots[i].lock()
	}
}

func (l *Log) unlockSlots() {
	for i := range l.slots {
		l.freeSlot(i)
	}
}

// syncJob is what must be synced to make a log durable up to end. It is made
// under mu and carried out without any lock but its slot.
type syncJob struct {
	log        *Log
	slot       int
	generation int64
	end        int64
	parts      []syncPart
	names      []*activePart // whose names are not durable
}

type syncPart struct {
	part *activePart
	file vfs.File // pinned, of slot 0
	size int64
}

// syncSlot makes everything durable that is appended now, and returns how many
// files it synced. A failed sync takes the directory offline. The slot must be
// held; job is memory to work with.
func (l *Log) syncSlot(slot int, job *syncJob) (files int, err error) {
	job.slot = slot
	todo, err := l.beginSync(job)
	if err != nil || !todo {
		return 0, err
	}
	defer job.release()
	if err := job.run(); err != nil {
		return 0, err
	}
	l.endSync(job)
	return len(job.parts), nil
}

// beginSync fills in the job that makes everything durable that is appended now,
// or returns false if it is durable already.
func (l *Log) beginSync(job *syncJob) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	job.log, job.generation, job.end = l, l.generation, l.end.Load()
	for _, c := range l.rolled {
		if err := job.take(c.activePart); err != nil {
			return false, err
		}
	}
	if err := job.take(l.tail); err != nil {
		return false, err
	}
	return len(job.parts) > 0 || len(job.names) > 0 || l.durable.Load() < job.end, nil
}

// take adds what is not durable of a part. Log.mu must be held.
func (j *syncJob) take(p *activePart) error {
	if p.unnamed {
		j.names = append(j.names, p)
	}
	if p.durable == p.size {
		return nil
	}
	// Unsynced parts are pinned, so the file is open and this is no I/O.
	f, err := p.log.pinOpen()
	if err == nil && f == nil {
		err = fmt.Errorf("segment %d: unsynced and not open: %w", p.base, ErrClosed)
	}
	if err != nil {
		j.release()
		return err
	}
	j.parts = append(j.parts, syncPart{p, f, p.size})
	return nil
}

// run does the job's I/O: the oldest part first, as recovery expects.
func (j *syncJob) run() error {
	for _, p := range j.parts {
		f, err := j.fileOf(p)
		if err != nil {
			return j.log.fail("open segment for a second sync", err)
		}
		if err := f.Sync(); err != nil {
			return j.log.failSync(fmt.Errorf("sync segment %d: %w", p.part.base, err))
		}
	}
	if len(j.names) > 0 {
		return j.log.syncNames()
	}
	return nil
}

// fileOf returns the descriptor to sync a part with.
func (j *syncJob) fileOf(p syncPart) (vfs.File, error) {
	if j.slot == 0 {
		return p.file, nil
	}
	if p.part.second == nil {
		f, err := j.log.fs.OpenExisting(p.part.log.name)
		if err != nil {
			return nil, err
		}
		p.part.second = f
	}
	return p.part.second, nil
}

func (j *syncJob) release() {
	for i, p := range j.parts {
		p.part.log.unpin()
		j.parts[i] = syncPart{}
	}
	clear(j.names)
	j.parts, j.names = j.parts[:0], j.names[:0]
}

// endSync moves the durable end after a job was run. A job that a truncation
// overtook says nothing, and another one is needed.
func (l *Log) endSync(j *syncJob) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.generation != j.generation {
		if l.dirty() {
			l.RequestSync()
		}
		return
	}
	for _, p := range j.parts {
		p.part.durable = max(p.part.durable, p.size)
	}
	for _, p := range j.names {
		p.unnamed = false
	}
	if j.end > l.durable.Load() {
		l.durable.Store(j.end)
	}
	l.raiseSynced(j.end)
}

// raiseSynced moves SyncedOffset forward. mu must be held.
func (l *Log) raiseSynced(to int64) {
	if to > l.synced.Load() {
		l.synced.Store(to)
	}
}

// Sync makes everything durable that is appended now, without the committer. It
// does not call OnSynced. A failed sync takes the log directory offline.
func (l *Log) Sync() error {
	if err := l.check(); err != nil {
		return err
	}
	return l.syncData()
}

func (l *Log) syncData() error {
	l.slots[0].lock()
	defer l.freeSlot(0)
	var job syncJob
	_, err := l.syncSlot(0, &job)
	return err
}

// failSync takes the directory offline: a failed sync is final, whatever its
// cause, because the kernel may have dropped what it could not write.
func (l *Log) failSync(err error) error {
	return l.dir.failFinal(fmt.Errorf("%s: %w", l.tp, err))
}

// RequestSync tells the committer that the log has unsynced records. Appends do
// this themselves.
func (l *Log) RequestSync() {
	l.needSync.Store(true)
	l.dir.committer.add(l)
}

// requestSync is RequestSync after an append: with flush.messages above 1 the
// records may be declared synced instead.
func (l *Log) requestSync(cfg *Config) {
	if cfg.FlushMessages > 1 {
		l.mu.Lock()
		relaxed := l.end.Load()-l.durable.Load() < cfg.FlushMessages
		if relaxed {
			l.raiseSynced(l.end.Load())
		}
		l.mu.Unlock()
		if relaxed {
			l.dir.committer.addRelaxed(l, cfg.FlushInterval)
			return
		}
	}
	l.RequestSync()
}

// dirty reports whether something is appended that is not durable.
func (l *Log) dirty() bool { return l.durable.Load() < l.end.Load() }

package segment

import (
	"fmt"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// syncJob is what must be synced to make a log durable up to end. It is made
// under mu and carried out without any lock.
type syncJob struct {
	log        *Log
	generation int64
	end        int64
	parts      []syncPart
	names      []*part // whose names are not durable
}

type syncPart struct {
	part *part
	file vfs.File // pinned
	size int64
}

// beginSync returns the job that makes everything durable that is appended now,
// or false if it is durable already.
func (l *Log) beginSync(job *syncJob) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*job = syncJob{log: l, generation: l.generation, end: l.end.Load(), parts: job.parts[:0], names: job.names[:0]}
	first := len(l.parts)
	for first > 0 && !l.parts[first-1].sealed {
		first--
	}
	for _, p := range l.parts[first:] {
		if p.dirUnsynced {
			job.names = append(job.names, p)
		}
		if p.durable == p.size {
			continue
		}
		// Unsynced parts are pinned, so the file is open and this is no I/O.
		f, err := p.log.pinOpen()
		if err == nil && f == nil {
			err = fmt.Errorf("segment %d: unsynced and not open: %w", p.base, ErrClosed)
		}
		if err != nil {
			job.release()
			return false, err
		}
		job.parts = append(job.parts, syncPart{p, f, p.size})
	}
	return len(job.parts) > 0 || len(job.names) > 0 || l.durable.Load() < job.end, nil
}

// run does the job's I/O: the oldest part first, as recovery expects.
func (j *syncJob) run() error {
	for _, p := range j.parts {
		if err := p.file.Sync(); err != nil {
			return fmt.Errorf("sync segment %d: %w", p.part.base, err)
		}
	}
	if len(j.names) > 0 {
		return j.log.fs.SyncDir(j.log.path)
	}
	return nil
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
	defer j.release()
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
		p.dirUnsynced = false
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
	var job syncJob
	todo, err := l.beginSync(&job)
	if err != nil || !todo {
		return err
	}
	if err := job.run(); err != nil {
		job.release()
		return l.failSync(err)
	}
	l.endSync(&job)
	return nil
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

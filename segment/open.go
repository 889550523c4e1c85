package segment

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// LogOptions say which log to open. TopicPartition is required.
type LogOptions struct {
	TopicPartition metadata.TopicPartition
	TopicID        metadata.TopicID
	Config         Config
	// OnSynced is called by the committer after SyncedOffset moved, one call at a
	// time for one log. It must not block.
	OnSynced func(end int64)
	// OnDamage is called with what is found to be damaged or gone while the log is
	// open, maybe again and again, with locks held. It must not block.
	OnDamage func(*DamageError)
	// CutDamage opens a log from which records are lost that were durable, without
	// them and all that follow: see DamageError. Only for who can get them from a
	// replica or from the tier, and does not lead before it has.
	CutDamage bool
}

// OpenLog opens a partition's log, creates it if it is missing and recovers it
// if the last shutdown was not clean. Several logs may be opened at the same
// time. A [DamageError], which is ErrCorrupt, means that records that were durable
// are damaged or gone: the partition cannot be used, the others can. Files that
// belong to another topic of the same name are put aside, under a name that ends
// with -stray.
func (d *Dir) OpenLog(o LogOptions) (*Log, error) {
	if err := d.Offline(); err != nil {
		return nil, err
	}
	tp := o.TopicPartition
	if err := metadata.ValidTopicName(tp.Topic); err != nil || tp.Partition < 0 {
		return nil, errors.Join(fmt.Errorf("open log %q: invalid partition", tp), err)
	}
	l := d.newLog(o)
	if err := d.claim(tp, l); err != nil {
		return nil, fmt.Errorf("open log %s: %w", tp, err)
	}
	err := l.open(o.CutDamage)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.opening, tp)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", tp, err)
	}
	d.logs[tp] = l
	return l, nil
}

func (d *Dir) newLog(o LogOptions) *Log {
	cfg := o.Config.withDefaults()
	l := &Log{
		dir: d, fs: d.fs, path: filepath.Join(d.path, o.TopicPartition.String()), log: d.log,
		tp: o.TopicPartition, topicID: o.TopicID, onSynced: o.OnSynced, onDamage: o.OnDamage,
		recalling: newGate(), turn: newGate(), maint: newGate(), slots: [syncSlots]gate{newGate(), newGate()},
		producers: producer.NewManager(cfg.MaxTxnAge, cfg.ProducerExpiration),
	}
	l.config.Store(&cfg)
	l.unstable.Store(-1)
	l.vouched.Store(math.MaxInt64)
	l.epoch.Store(NoEpoch)
	return l
}

// open finds out what there is on disk.
func (l *Log) open(cutDamage bool) error {
	names, err := l.fs.List(l.path)
	if missing(err) {
		return l.create()
	}
	if err != nil {
		return l.fail("list", err)
	}
	id, err := readTopicID(l.fs, l.path)
	if err != nil {
		return l.dir.fail(err)
	}
	switch {
	case l.topicID.IsZero():
		l.topicID = id
	case id.IsZero():
		if err := l.writeTopicID(); err != nil {
			return err
		}
	case id != l.topicID:
		if err := l.putAside(id); err != nil {
			return err
		}
		return l.create()
	}
	if err := l.findParts(names); err != nil {
		return err
	}
	if err := l.loadEpochs(); err != nil {
		return err
	}
	if err := l.findEnd(cutDamage); err != nil {
		return err
	}
	if cutDamage {
		// What comes in place of the damage is not durable yet.
		if err := l.lowerMarks(l.end.Load()); err != nil {
			return err
		}
		l.vouched.Store(math.MaxInt64)
	}
	if err := l.replayProducers(); err != nil {
		return err
	}
	if err := l.checkTxns(); err != nil {
		return err
	}
	return l.settle()
}

// create makes the directory of a new log, durably.
func (l *Log) create() error {
	if err := l.dir.forget(l.tp); err != nil {
		return err
	}
	if err := l.fs.MkdirAll(l.path); err != nil {
		return l.fail("create directory", err)
	}
	if err := l.newFirst(0); err != nil {
		return err
	}
	names := l.writeTopicID // makes all names in the directory durable
	if l.topicID.IsZero() {
		names = l.syncNames
	}
	if err := names(); err != nil {
		return err
	}
	if err := vfs.SyncNames(l.fs, l.dir.path); err != nil {
		return l.fail("sync names", err)
	}
	return nil
}

// putAside renames the directory of another topic of the same name: one that was
// deleted and made anew while the broker was away. Its records may be all that is
// left of it, so nobody removes them but the operator.
func (l *Log) putAside(id metadata.TopicID) error {
	path := filepath.Join(l.dir.path, besideName(l.tp, uniqueName(), strayDirSuffix))
	if err := l.fs.Rename(l.path, path); err != nil {
		return l.fail("put the directory of another topic aside", err)
	}
	if err := vfs.SyncNames(l.fs, l.dir.path); err != nil {
		return l.fail("put the directory of another topic aside", err)
	}
	l.log.Warn("directory belongs to another topic of the same name, put aside", "partition", l.tp,
		"topic_id", l.topicID, "found", id, "path", path)
	return nil
}

// startAt makes the log consist of one empty segment, durably. The directory may
// be what is left of a creation that was interrupted.
func (l *Log) startAt(base int64) error {
	if err := l.newFirst(base); err != nil {
		return err
	}
	return l.syncAllNames()
}

// newFirst is startAt but for making the name durable.
func (l *Log) newFirst(base int64) error {
	p := newActive(newPart(l.dir.files, l.path, base))
	f, err := l.fs.Create(p.log.name)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return l.fail("create segment", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emptyLocked(p)
	return nil
}

// emptyLocked makes the log consist of one part without records.
func (l *Log) emptyLocked(p *activePart) {
	l.parts, l.sealed, l.rolled, l.tail = []*part{p.part}, nil, nil, p
	l.snapshotBytes = 0
	l.producers.Reset(p.base)
	l.reloadedLocked(p.base)
	l.noteUnstableLocked()
	l.localBytes.Store(0)
	l.localStart.Store(p.base)
	l.end.Store(p.base)
	l.durable.Store(p.base)
	l.synced.Store(p.base)
	l.recovery.Store(p.base)
}

func (l *Log) writeTopicID() error {
	if l.topicID.IsZero() {
		return nil
	}
	if err := vfs.WriteFileAtomic(l.fs, filepath.Join(l.path, partitionMetaFile), encodeTopicID(l.topicID)); err != nil {
		return l.fail("write partition metadata", err)
	}
	return nil
}

// findParts makes the parts and the list of snapshots of the names in the
// directory: the last part is the active one, the others count as sealed until
// findEnd knows better. It removes what a crash left unfinished.
func (l *Log) findParts(names []string) error {
	bases := map[int64]bool{}
	for _, name := range names {
		if base, ok := parseFileName(name, logSuffix); ok {
			bases[base] = true
			p := foundPart(l.dir.files, l.path, base)
			info, err := l.fs.Stat(p.log.name)
			if err != nil {
				return l.fail("stat segment", err)
			}
			p.size = info.Size
			l.parts = append(l.parts, p)
			l.sealed = append(l.sealed, &sealedPart{part: p, at: info.ModTime})
		}
		if offset, ok := parseFileName(name, snapshotSuffix); ok {
			l.snapshots = append(l.snapshots, offset)
		}
	}
	removed := false
	for _, name := range names {
		if !leftOver(name, bases) {
			continue
		}
		if err := l.fs.Remove(filepath.Join(l.path, name)); err != nil && !missing(err) {
			return l.fail("remove left-over", err)
		}
		removed = true
	}
	if removed {
		if err := l.syncNames(); err != nil {
			return err
		}
	}
	if len(l.parts) == 0 {
		return nil
	}
	last := len(l.parts) - 1
	for i, p := range l.parts[:last] {
		p.next = l.parts[i+1].base
	}
	l.sealed, l.tail = l.sealed[:last:last], newActive(l.parts[last])
	return nil
}

// leftOver reports whether a file is what a crash in the middle of something left.
func leftOver(name string, bases map[int64]bool) bool {
	if strings.HasSuffix(name, vfs.TempSuffix) || strings.HasSuffix(name, deletedSuffix) {
		return true
	}
	for _, suffix := range []string{indexSuffix, timeSuffix, txnSuffix} {
		if base, ok := parseFileName(name, suffix); ok {
			return !bases[base]
		}
	}
	return false
}

// settle fills in what follows from the rest, with the checkpoints' help.
func (l *Log) settle() error {
	offsets, known := l.dir.marks.of(l.tp)
	l.mu.Lock()
	base, end := l.parts[0].base, l.end.Load()
	l.localStart.Store(base)
	start := base
	if known[markLogStart] {
		start = offsets[markLogStart]
		if start < base && !l.config.Load().RemoteEnabled {
			// Retention makes the mark durable before it removes segments: this is no usual start.
			l.log.Error("log starts later than its checkpoint says, the segments between are not on disk", "partition", l.tp,
				"from", start, "offset", base)
			start = base
		}
	} else if l.config.Load().RemoteEnabled {
		start = 0
	}
	for _, p := range l.parts {
		l.localBytes.Add(p.size)
	}
	l.mu.Unlock()
	if start > end {
		// All that the log start lets one see is gone with the torn tail.
		if err := l.restart(start, start); err != nil {
			return err
		}
		end = start
	}
	l.logStart.Store(start)
	l.hw.Store(max(min(offsets[markHighWatermark], end), l.LocalLogStart()))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.startEpochsLocked(start)
	l.producers.OnHighWatermark(l.hw.Load())
	l.noteUnstableLocked()
	if len(l.rolled) > 0 {
		l.requestSeal()
	}
	return nil
}

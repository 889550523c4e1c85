package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// maxSnapshot bounds a producer snapshot: a million producers.
const maxSnapshot = 64 << 20

func (l *Log) configureProducers(c Config) {
	l.producers.SetExpiration(c.MaxTxnAge, c.ProducerExpiration)
}

// Producers returns what is known of the partition's producers.
func (l *Log) Producers() []producer.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.Producers()
}

// StartVerification is [producer.Manager.StartVerification] (KIP-890): the guard
// goes into the AppendOptions of a transaction's first batch.
func (l *Log) StartVerification(pid int64, epoch int16, firstSequence int32, epochBump bool, now time.Time) producer.Guard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.StartVerification(pid, epoch, firstSequence, epochBump, now)
}

// HasLateTransaction reports whether a transaction is open for so long that its
// coordinator must have forgotten it.
func (l *Log) HasLateTransaction(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.HasLateTransaction(now)
}

// checkProducers asks the producer state whether batches with assigned offsets
// may be appended.
func (l *Log) checkProducers(list []checked, o AppendOptions) (producer.Verdict, error) {
	var few [4]producer.BatchInfo
	infos := few[:0]
	for _, c := range list {
		if !c.batch.HasProducerID() {
			continue
		}
		if c.batch.IsControl() {
			if err := l.checkMarker(c.batch, o); err != nil {
				return producer.Verdict{}, err
			}
			continue
		}
		info := producer.InfoOf(c.batch)
		info.MustVerify, info.Guard = o.MustVerify, o.Guard
		infos = append(infos, info)
	}
	if len(infos) == 0 {
		return producer.Verdict{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.CheckAll(infos, o.Origin == Client)
}

func (l *Log) checkMarker(b record.Batch, o AppendOptions) error {
	m, ok, err := endTxnOf(b)
	if err != nil || !ok {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.CheckEndTxn(producer.Marker{
		ProducerID: b.ProducerID(), Epoch: b.ProducerEpoch(),
		CoordinatorEpoch: m.CoordinatorEpoch, TransactionVersion: o.TransactionVersion,
	})
}

// endTxnOf reads the marker of a control batch; false means that the batch
// controls nothing, or something else.
func endTxnOf(b record.Batch) (record.EndTxnMarker, bool, error) {
	if !b.IsControl() || !b.HasProducerID() || b.Count() == 0 {
		return record.EndTxnMarker{}, false, nil
	}
	return readMarker(b)
}

func readMarker(b record.Batch) (m record.EndTxnMarker, ok bool, err error) {
	err = b.Each(nil, func(r record.Record) error {
		t, err := record.ParseControlType(r.Key)
		if err != nil || t != record.ControlAbort && t != record.ControlCommit {
			return err
		}
		m, err = record.ParseEndTxnMarker(r.Key, r.Value)
		ok = err == nil
		return err
	})
	return m, ok, err
}

// trackLocked takes a batch that is in the log into the producer state and the
// transaction index. Of a data batch the header is enough.
func (l *Log) trackLocked(p *part, b record.Batch) {
	if done := trackBatch(l.producers, b); done != nil && done.Aborted && p != nil {
		p.txns = append(p.txns, AbortedTxn{
			ProducerID: done.ProducerID, FirstOffset: done.FirstOffset,
			LastOffset: done.LastOffset, LastStableOffset: done.LastStableOffset,
		})
	}
	if b.HasProducerID() {
		l.noteUnstableLocked()
	}
}

// trackBatch takes a batch into the producer state and returns the transaction
// that it ended, if any. A control batch that nobody understands controls nothing
// here: Kafka ignores unknown types too.
func trackBatch(m *producer.Manager, b record.Batch) *producer.CompletedTxn {
	var done *producer.CompletedTxn
	marker, ok, err := endTxnOf(b)
	if err == nil && ok {
		// The error means a marker without a producer, which endTxnOf excludes.
		done, _ = m.EndTxn(b.ProducerID(), b.ProducerEpoch(), marker.Commit, marker.CoordinatorEpoch, b.LastOffset(), b.MaxTimestamp())
	} else {
		m.Update(producer.InfoOf(b))
	}
	m.SetEnd(b.NextOffset())
	return done
}

func (l *Log) noteUnstableLocked() {
	if offset, ok := l.producers.FirstUnstableOffset(); ok {
		l.unstable.Store(offset)
	} else {
		l.unstable.Store(-1)
	}
}

// hwMovedLocked lets ended transactions go whose markers are replicated.
func (l *Log) hwMovedLocked(hw int64) {
	if l.unstable.Load() < 0 {
		return
	}
	l.producers.OnHighWatermark(hw)
	l.noteUnstableLocked()
}

func (l *Log) snapshotName(offset int64) string {
	return filepath.Join(l.path, fileName(offset, snapshotSuffix))
}

// writeSnapshot writes a .snapshot file. It is in the list before: after an error it
// may be there, and a truncation must find it. maint must be held.
func (l *Log) writeSnapshot(offset int64, b []byte) error {
	l.mu.Lock()
	if i, ok := slices.BinarySearch(l.snapshots, offset); !ok {
		l.snapshots = slices.Insert(slices.Clone(l.snapshots), i, offset)
	}
	l.mu.Unlock()
	if err := vfs.WriteFileAtomic(l.fs, l.snapshotName(offset), b); err != nil {
		return l.fail("write producer snapshot", err)
	}
	return nil
}

// takeSnapshot writes the producer state of the log's end if there is none newer
// than what a restart would want to read again, and removes the one it replaces.
// maint must be held.
func (l *Log) takeSnapshot() error {
	l.mu.Lock()
	offset := l.producers.End()
	_, exists := slices.BinarySearch(l.snapshots, offset)
	var b []byte
	if !exists {
		b = l.producers.Snapshot()
	}
	l.snapshotBytes = 0
	l.mu.Unlock()
	if exists {
		return nil
	}
	if err := l.writeSnapshot(offset, b); err != nil {
		return err
	}
	return l.pruneSnapshots()
}

// pruneSnapshots removes snapshots that belong to no segment's base, but for the
// newest.
func (l *Log) pruneSnapshots() error {
	l.mu.Lock()
	var stale []int64
	for i, s := range l.snapshots {
		j := l.floor(s)
		if i < len(l.snapshots)-1 && (j < 0 || l.parts[j].base != s) {
			stale = append(stale, s)
		}
	}
	l.mu.Unlock()
	return l.removeSnapshots(stale)
}

func (l *Log) removeSnapshots(offsets []int64) error {
	for _, s := range offsets {
		if err := l.fs.Remove(l.snapshotName(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.fail("remove producer snapshot", err)
		}
		l.forgetSnapshot(s)
	}
	return nil
}

func (l *Log) forgetSnapshot(offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := slices.BinarySearch(l.snapshots, offset); ok {
		l.snapshots = slices.Delete(slices.Clone(l.snapshots), i, i+1)
	}
}

// producersAt returns the producer state of the records of parts below end, from
// the newest snapshot that can be read and what follows it, and the offset of that
// snapshot. The log's own state stays as it is. Producers that expired by now are
// left out, unless now is zero.
func (l *Log) producersAt(parts []*part, end int64, now time.Time) (m *producer.Manager, from int64, err error) {
	cfg := l.config.Load()
	m = producer.NewManager(cfg.MaxTxnAge, cfg.ProducerExpiration)
	l.mu.Lock()
	snapshots := l.snapshots
	l.mu.Unlock()
	from = parts[0].base
	m.Reset(from)
	for _, at := range slices.Backward(snapshots) {
		if at > end || at < from {
			continue
		}
		states, err := readSnapshot(l.fs, l.snapshotName(at))
		if err == nil {
			m.Restore(states, at, now)
			from = at
			break
		}
		if !unusableSnapshot(err) {
			return nil, 0, l.fail("read producer snapshot", err)
		}
	}
	for _, p := range parts {
		if p.base >= end || p.next <= from {
			continue
		}
		if err := l.replayInto(p, from, end, func(b record.Batch, _ int64) { trackBatch(m, b) }); err != nil {
			return nil, 0, err
		}
	}
	m.SetEnd(end)
	return m, from, nil
}

// unusableSnapshot reports whether a snapshot is worth less than the records.
func unusableSnapshot(err error) bool {
	return errors.Is(err, producer.ErrCorruptSnapshot) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrTooLarge)
}

// loadSnapshot restores the newest readable snapshot at or below limit, and
// returns where the replay must begin. A snapshot that cannot be read is worth
// less than the log: it is removed and the one before it taken.
func (l *Log) loadSnapshot(limit int64, now time.Time) (from int64, err error) {
	l.mu.Lock()
	snapshots := l.snapshots
	l.mu.Unlock()
	for i := len(snapshots) - 1; i >= 0; i-- {
		if snapshots[i] > limit {
			continue
		}
		states, err := readSnapshot(l.fs, l.snapshotName(snapshots[i]))
		if err == nil {
			l.mu.Lock()
			l.producers.Restore(states, snapshots[i], now)
			l.reloadedLocked(snapshots[i])
			l.history.transactions = transactional(states)
			l.mu.Unlock()
			return snapshots[i], nil
		}
		if !unusableSnapshot(err) {
			return 0, l.fail("read producer snapshot", err)
		}
		l.log.Warn("producer snapshot unusable, replaying more of the log", "partition", l.tp, "offset", snapshots[i], "err", err)
		if err := l.removeSnapshots(snapshots[i : i+1]); err != nil {
			return 0, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from = l.parts[0].base
	l.producers.Reset(from)
	l.reloadedLocked(from)
	return from, nil
}

func readSnapshot(fsys vfs.FS, name string) ([]producer.State, error) {
	b, err := vfs.ReadFile(fsys, name, maxSnapshot)
	if err != nil {
		return nil, err
	}
	states, err := producer.LoadSnapshot(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return states, nil
}

package tiering

import (
	"context"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// lookup runs fn with the manifest, unless nothing was ever copied. When fn misses an object it is run again with a
// newer manifest: this one may have been replaced longer than the grace period ago without us knowing.
func (m *Manager) lookup(ctx context.Context, tip metadata.TopicIDPartition, fn func(man manifest) error) error {
	p := m.partition(tip)
	man, err := m.current(ctx, p, false)
	if err == nil && man.root != nil {
		err = fn(man)
	}
	if err == nil || !vanished(err) {
		return err
	}
	again, ferr := m.current(ctx, p, true)
	switch {
	case ferr != nil || again.pointer.Manifest == man.pointer.Manifest:
		return err
	case again.root == nil:
		return nil
	}
	return fn(again)
}

// AbortedTransactions returns those that touch offsets in [from, to) as far as the tier knows them: the index
// entry lies with the abort marker, so the search goes on behind to until an entry says that all up to to is
// decided. What is local only may add more; callers join both.
func (m *Manager) AbortedTransactions(ctx context.Context, tip metadata.TopicIDPartition, from, to int64) (out []segment.AbortedTxn, err error) {
	err = m.lookup(ctx, tip, func(man manifest) error {
		out, err = m.aborted(ctx, man, from, to)
		return err
	})
	return out, err
}

func (m *Manager) aborted(ctx context.Context, man manifest, from, to int64) ([]segment.AbortedTxn, error) {
	var out []segment.AbortedTxn
	for entry, err := range man.walk(ctx, from, func(r Ref) bool { return !r.Aborted }) {
		if err != nil {
			return nil, err
		}
		if !entry.Aborted {
			continue
		}
		txns, err := m.txnIndex(ctx, man, entry)
		if err != nil {
			return nil, err
		}
		for _, t := range txns {
			if t.LastOffset >= from && t.FirstOffset < to {
				out = append(out, t)
			}
			if t.LastStableOffset >= to {
				return out, nil
			}
		}
	}
	return out, nil
}

// txnIndex returns a segment's aborted transactions; kept, since every read_committed fetch of it asks.
func (m *Manager) txnIndex(ctx context.Context, man manifest, entry *Entry) ([]segment.AbortedTxn, error) {
	key := segmentKey(man.dir, entry.Object, indexSuffix) + "#txn"
	return memoGet(ctx, m.memo, key, func(ctx context.Context) ([]segment.AbortedTxn, int64, error) {
		seg, err := m.segment(ctx, man.dir, entry)
		if err != nil {
			return nil, 0, err
		}
		b, err := m.section(ctx, man.dir, seg, SectionTxn)
		if err != nil {
			return nil, 0, err
		}
		txns := make([]segment.AbortedTxn, 0, len(b)/txnEntryBytes)
		for ; len(b) >= txnEntryBytes; b = b[txnEntryBytes:] {
			txns = append(txns, txnEntry(b))
		}
		return txns, int64(len(txns))*32 + 128, nil
	})
}

// EpochForOffset returns the leader epoch that wrote an offset of the tier.
func (m *Manager) EpochForOffset(ctx context.Context, tip metadata.TopicIDPartition, offset int64) (int32, bool, error) {
	man, err := m.current(ctx, m.partition(tip), false)
	if err != nil || man.root == nil || offset < man.root.StartOffset || offset >= man.root.EndOffset {
		return -1, false, err
	}
	epoch, ok := man.root.Epochs.at(offset)
	return epoch, ok, nil
}

// EndOffsetForEpoch is OffsetForLeaderEpoch within the tier: the largest epoch at or below the given one and where
// it ended there; -1, -1 when it is older than the tier.
func (m *Manager) EndOffsetForEpoch(ctx context.Context, tip metadata.TopicIDPartition, epoch int32) (int32, int64, error) {
	man, err := m.current(ctx, m.partition(tip), false)
	if err != nil || man.root == nil {
		return -1, -1, err
	}
	e, end := man.root.Epochs.endOf(epoch, man.root.EndOffset)
	return e, end, nil
}

// AuxState reads the state at the end of the tier from the last segment's index object; false where nothing was ever
// copied. A tier that retention has emptied still says where it ended: offsets below are not given out again. LogStart
// lies beyond EndOffset where retention or DeleteRecords removed more than was ever copied.
func (m *Manager) AuxState(ctx context.Context, tip metadata.TopicIDPartition) (segment.AuxState, bool, error) {
	m.metrics.auxRequests.Add(ctx, 1)
	state, ok, err := m.auxState(ctx, tip)
	if err != nil {
		m.metrics.auxErrors.Add(ctx, 1)
	}
	return state, ok, err
}

func (m *Manager) auxState(ctx context.Context, tip metadata.TopicIDPartition) (segment.AuxState, bool, error) {
	man, err := m.current(ctx, m.partition(tip), true)
	if err != nil || man.root == nil {
		return segment.AuxState{}, false, err
	}
	if man.root.Segments == 0 { // the producers of what is gone are not known
		return segment.AuxState{
			LogStart: max(man.root.EndOffset, man.root.LogStartOffset), EndOffset: man.root.EndOffset, Epochs: slices.Clone(man.root.Epochs),
		}, true, nil
	}
	entry, err := man.find(ctx, man.root.HighestOffset())
	if err != nil {
		return segment.AuxState{}, false, err
	}
	seg, err := m.segment(ctx, man.dir, entry)
	if err != nil {
		return segment.AuxState{}, false, err
	}
	snapshot, err := m.section(ctx, man.dir, seg, SectionSnapshot)
	if err != nil {
		return segment.AuxState{}, false, err
	}
	return segment.AuxState{
		LogStart: max(man.root.StartOffset, man.root.LogStartOffset), EndOffset: man.root.EndOffset,
		Epochs: seg.head.epochs, ProducerSnapshot: snapshot,
	}, true, nil
}

package replica

import (
	"context"
	"fmt"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// Special timestamps of ListOffsets (KAFKA.md §2g).
const (
	Latest                = -1
	Earliest              = -2
	MaxTimestamp          = -3
	EarliestLocal         = -4
	LatestTiered          = -5
	EarliestPendingUpload = -6
)

// noOffset is the answer of a look-up that finds nothing.
var noOffset = segment.TimestampOffset{Timestamp: -1, Offset: -1, LeaderEpoch: -1}

// OffsetQuery asks ListOffsets of one partition. Epoch is the caller's leader epoch, -1 if none.
type OffsetQuery struct {
	TopicPartition metadata.TopicPartition
	Timestamp      int64 // ms, or one of the special timestamps
	Epoch          int32
	ReadCommitted  bool
	Follower       bool // asked by a replica: the log end, not the high watermark
}

// ListOffset answers one query; an Offset of -1 means there is none. It may read
// the remote log: see [Manager.MayWait].
func (m *Manager) ListOffset(ctx context.Context, q OffsetQuery) (segment.TimestampOffset, error) {
	p, err := m.Partition(q.TopicPartition)
	if err != nil {
		return noOffset, err
	}
	s, err := p.leaderState(q.Epoch)
	if err != nil {
		return noOffset, err
	}
	switch q.Timestamp {
	case Latest:
		if err := p.knowsEnd(ctx, s, q); err != nil {
			return noOffset, err
		}
		return segment.TimestampOffset{Timestamp: -1, Offset: p.upTo(q.ReadCommitted, q.Follower), LeaderEpoch: s.LeaderEpoch}, nil
	case Earliest:
		return m.at(ctx, p, p.log.LogStart())
	case EarliestLocal:
		return m.at(ctx, p, p.log.LocalLogStart())
	case LatestTiered, EarliestPendingUpload:
		return m.tieredOffset(ctx, p, s, q.Timestamp)
	}
	found, err := m.offsetByTime(ctx, p, q.Timestamp)
	if err != nil || found.Offset >= 0 && q.Timestamp != MaxTimestamp && found.Offset < p.upTo(q.ReadCommitted, q.Follower) {
		return found, err
	}
	if err := p.knowsEnd(ctx, s, q); err != nil {
		return noOffset, err
	}
	if found.Offset >= p.upTo(q.ReadCommitted, q.Follower) {
		return noOffset, nil // not to be seen yet
	}
	return found, nil
}

// MayWait says whether the query may have to wait for the remote log, or for
// followers.
func (m *Manager) MayWait(q OffsetQuery) bool {
	p, err := m.Partition(q.TopicPartition)
	switch {
	case err != nil || q.Timestamp < 0 && q.Timestamp != MaxTimestamp && q.Timestamp != Latest:
		return false
	case q.Timestamp != Latest && p.log.LogStart() < p.log.LocalLogStart():
		return true
	}
	return !q.Follower && !p.atOnce()
}

// knowsEnd returns when the end of what may be seen is that of what anybody was
// told. A new leader does not know yet how much of what it inherited is committed:
// ErrOffsetNotAvailable, Partition.fetchOffsetForTimestamp, KIP-207. One that may
// have been deposed waits for its followers: ErrNotLeader.
func (p *Partition) knowsEnd(ctx context.Context, s *state, q OffsetQuery) error {
	if q.Follower {
		return nil
	}
	if err := p.confirm(ctx, s); err != nil {
		return err
	}
	if hw := p.log.HighWatermark(); s.epochStart > hw {
		return fmt.Errorf("%w: the high watermark of %s is %d, leader epoch %d began at %d", ErrOffsetNotAvailable, p.tp, hw, s.LeaderEpoch, s.epochStart)
	}
	return nil
}

// upTo is the end of what a reader may see.
func (p *Partition) upTo(committed, follower bool) int64 {
	switch {
	case follower:
		return p.log.LogEnd()
	case committed:
		return p.log.LastStableOffset()
	default:
		return p.log.HighWatermark()
	}
}

// at is an offset with its leader epoch, -1 if nobody knows it, and no timestamp.
func (m *Manager) at(ctx context.Context, p *Partition, offset int64) (segment.TimestampOffset, error) {
	t := segment.TimestampOffset{Timestamp: -1, Offset: offset, LeaderEpoch: -1}
	epoch, ok := p.log.EpochForOffset(offset)
	if !ok && offset < p.log.LocalLogStart() {
		// The local lineage begins later: this replica came to the log by the tier.
		var err error
		if epoch, ok, err = m.o.Remote.EpochForOffset(ctx, p.tip, offset); err != nil {
			return noOffset, p.remoteError(offset, err)
		}
	}
	if ok {
		t.LeaderEpoch = epoch
	}
	return t, nil
}

// tieredOffset answers -5 and -6 (KIP-1005, KIP-1023).
func (m *Manager) tieredOffset(ctx context.Context, p *Partition, s *state, ts int64) (segment.TimestampOffset, error) {
	if !s.remote {
		return noOffset, nil
	}
	v := m.o.Remote.View(p.tip)
	switch {
	case ts == LatestTiered && v.HighestOffset < 0:
		return noOffset, nil
	case ts == LatestTiered:
		return segment.TimestampOffset{Timestamp: -1, Offset: v.HighestOffset, LeaderEpoch: v.HighestEpoch}, nil
	case v.HighestOffset < 0 && p.log.LocalLogStart() == p.log.LogStart():
		return m.at(ctx, p, p.log.LogStart())
	case v.HighestOffset < 0:
		return noOffset, nil // the leader does not know yet
	default:
		return m.at(ctx, p, max(v.HighestOffset+1, p.log.LogStart()))
	}
}

// offsetByTime looks in the tier first, then in the local log: the first record
// at or after the timestamp, or the one with the largest timestamp over both.
func (m *Manager) offsetByTime(ctx context.Context, p *Partition, ts int64) (segment.TimestampOffset, error) {
	for {
		start, local := p.log.LogStart(), p.log.LocalLogStart()
		found, ok, err := m.tierAndLocal(ctx, p, ts, start, local)
		switch {
		case err != nil:
			return noOffset, err
		case p.log.LocalLogStart() != local:
			// Segments went to the tier between the two looks.
		case ok && found.Offset < p.log.LogStart():
			// What was found was deleted meanwhile.
		case !ok:
			return noOffset, nil
		default:
			return found, nil
		}
		if err := ctx.Err(); err != nil {
			return noOffset, err
		}
	}
}

// tierAndLocal is one look at the tier, from offset start to local, and at the
// local log behind it.
func (m *Manager) tierAndLocal(ctx context.Context, p *Partition, ts, start, local int64) (found segment.TimestampOffset, ok bool, err error) {
	if ts == MaxTimestamp {
		found, ok, err = p.log.MaxTimestamp()
	}
	if err == nil && start < local {
		var cold segment.TimestampOffset
		var there bool
		if ts == MaxTimestamp {
			cold, there, err = m.o.Remote.MaxTimestamp(ctx, p.tip, start)
		} else {
			cold, there, err = m.o.Remote.OffsetForTimestamp(ctx, p.tip, ts, start)
		}
		if err != nil {
			return noOffset, false, p.remoteError(start, err)
		}
		// The first of several records that are equally new counts.
		if there && (!ok || cold.Timestamp >= found.Timestamp) {
			return cold, true, nil
		}
	}
	if ts != MaxTimestamp && err == nil {
		return p.log.OffsetForTimestamp(ts)
	}
	return found, ok, err
}

// EndOffsetForEpoch answers OffsetForLeaderEpoch (KIP-101, KIP-320): the
// largest known epoch at or below epoch and the offset where it ends.
func (m *Manager) EndOffsetForEpoch(ctx context.Context, tp metadata.TopicPartition, current, epoch int32) (foundEpoch int32, end int64, err error) {
	p, err := m.Partition(tp)
	if err != nil {
		return -1, -1, err
	}
	s, err := p.leaderState(current)
	if err == nil {
		err = p.confirm(ctx, s)
	}
	if err != nil {
		return -1, -1, err
	}
	found, end := p.log.EndOffsetForEpoch(epoch)
	lineage := p.log.LeaderEpochs()
	if len(lineage) == 0 || epoch < 0 || epoch >= lineage[0].Epoch || lineage[0].StartOffset <= p.log.LogStart() {
		return found, end, nil
	}
	// Older than the local lineage, and the log is longer than that.
	cold, coldEnd, err := m.o.Remote.EndOffsetForEpoch(ctx, p.tip, epoch)
	if err != nil {
		return -1, -1, p.remoteError(p.log.LogStart(), err)
	}
	if cold < 0 {
		return epoch, p.log.LogStart(), nil
	}
	if _, follows, err := m.o.Remote.EpochForOffset(ctx, p.tip, coldEnd); err != nil {
		return -1, -1, p.remoteError(p.log.LogStart(), err)
	} else if !follows {
		return cold, lineage[0].StartOffset, nil // the tier's last epoch: it goes on behind the tier
	}
	return cold, coldEnd, nil
}

// DeleteRecords moves LogStart to offset, -1 for the high watermark, and
// returns the new LogStart (KIP-107).
func (m *Manager) DeleteRecords(tp metadata.TopicPartition, offset int64) (int64, error) {
	p, err := m.Partition(tp)
	if err != nil {
		return -1, err
	}
	s, err := p.leaderState(-1)
	if err != nil {
		return -1, err
	}
	if !s.config.Delete {
		return -1, fmt.Errorf("%s: %w", tp, ErrKeepsRecords)
	}
	if offset == -1 {
		offset = p.log.HighWatermark()
	}
	if hw := p.log.HighWatermark(); offset < 0 || offset > hw {
		return -1, fmt.Errorf("delete records of %s below %d, high watermark %d: %w", tp, offset, hw, segment.ErrOffsetOutOfRange)
	}
	if err := p.log.SetLogStart(offset); err != nil {
		return -1, err
	}
	m.retainSoon()
	return p.log.LogStart(), nil
}

// WaitDeleted returns when every live replica's log starts at logStart or behind
// it, so that no election brings back what [Manager.DeleteRecords] deleted;
// ErrTimedOut when ctx ends before.
func (m *Manager) WaitDeleted(ctx context.Context, tp metadata.TopicPartition, logStart int64) error {
	p, err := m.Partition(tp)
	if err != nil {
		return err
	}
	for {
		moved := p.moved.next()
		if _, err := p.leaderState(-1); err != nil {
			return err
		}
		if p.lowWatermark() >= logStart {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: replicas of %s to delete records below %d", ErrTimedOut, tp, logStart)
		}
	}
}

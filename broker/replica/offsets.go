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

// NoOffset is the answer of a look-up that finds nothing.
var noOffset = segment.TimestampOffset{Timestamp: -1, Offset: -1, LeaderEpoch: -1}

// OffsetQuery asks ListOffsets of one partition. Epoch is the caller's leader epoch, -1 if none.
type OffsetQuery struct {
	TopicPartition metadata.TopicPartition
	Timestamp      int64 // ms, or one of the special timestamps
	Epoch          int32
	ReadCommitted  bool
	Follower       bool // asked by a replica: the log end, not the high watermark
}

// ListOffset answers one query; an Offset of -1 means there is none.
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
		return p.at(p.upTo(q.ReadCommitted, q.Follower)), nil
	case Earliest:
		return p.at(p.log.LogStart()), nil
	case EarliestLocal:
		return p.at(p.log.LocalLogStart()), nil
	case LatestTiered, EarliestPendingUpload:
		return m.tieredOffset(p, s, q.Timestamp), nil
	}
	if q.Timestamp < EarliestPendingUpload {
		return noOffset, fmt.Errorf("timestamp %d: %w", q.Timestamp, ErrUnsupportedTimestamp)
	}
	return m.offsetByTime(ctx, p, q)
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

// at is an offset with its leader epoch and no timestamp.
func (p *Partition) at(offset int64) segment.TimestampOffset {
	t := segment.TimestampOffset{Timestamp: -1, Offset: offset, LeaderEpoch: -1}
	if e, ok := p.log.EpochForOffset(offset); ok {
		t.LeaderEpoch = e
	} else if e := p.log.LatestEpoch(); e >= 0 {
		t.LeaderEpoch = e
	}
	return t
}

// tieredOffset answers -5 and -6 (KIP-1005, KIP-1023).
func (m *Manager) tieredOffset(p *Partition, s *state, ts int64) segment.TimestampOffset {
	if !s.remote {
		return noOffset
	}
	v := m.o.Remote.View(p.tip)
	switch {
	case ts == LatestTiered && v.HighestOffset < 0:
		return noOffset
	case ts == LatestTiered:
		return segment.TimestampOffset{Timestamp: -1, Offset: v.HighestOffset, LeaderEpoch: v.HighestEpoch}
	case v.HighestOffset < 0 && p.log.LocalLogStart() == p.log.LogStart():
		return p.at(p.log.LogStart())
	case v.HighestOffset < 0:
		return noOffset // the leader does not know yet
	default:
		return p.at(max(v.HighestOffset+1, p.log.LogStart()))
	}
}

// offsetByTime looks in the tier first, then in the local log: the first
// record at or after the timestamp, or the largest timestamp over both.
func (m *Manager) offsetByTime(ctx context.Context, p *Partition, q OffsetQuery) (segment.TimestampOffset, error) {
	remote := p.log.LogStart() < p.log.LocalLogStart()
	find := func() (segment.TimestampOffset, bool, error) { return p.log.OffsetForTimestamp(q.Timestamp) }
	findRemote := func() (segment.TimestampOffset, bool, error) {
		return m.o.Remote.OffsetForTimestamp(ctx, p.tip, q.Timestamp)
	}
	if q.Timestamp == MaxTimestamp {
		find = p.log.MaxTimestamp
		findRemote = func() (segment.TimestampOffset, bool, error) { return m.o.Remote.MaxTimestamp(ctx, p.tip) }
	}
	var cold segment.TimestampOffset
	haveCold := false
	if remote {
		var err error
		if cold, haveCold, err = findRemote(); err != nil {
			return noOffset, err
		}
		// The tier may still hold what LogStart has passed.
		haveCold = haveCold && cold.Offset >= p.log.LogStart()
		if haveCold && q.Timestamp != MaxTimestamp {
			return cold, nil
		}
	}
	hot, haveHot, err := find()
	if err != nil {
		return noOffset, err
	}
	if haveHot && hot.Offset >= p.upTo(q.ReadCommitted, q.Follower) {
		haveHot = false
	}
	switch {
	case haveHot && haveCold && cold.Timestamp >= hot.Timestamp, haveCold && !haveHot:
		return cold, nil
	case haveHot:
		return hot, nil
	}
	return noOffset, nil
}

// EndOffsetForEpoch answers OffsetForLeaderEpoch (KIP-101, KIP-320): the
// largest known epoch at or below epoch and the offset where it ends.
func (m *Manager) EndOffsetForEpoch(tp metadata.TopicPartition, current, epoch int32) (foundEpoch int32, end int64, err error) {
	p, err := m.Partition(tp)
	if err != nil {
		return -1, -1, err
	}
	if _, err := p.leaderState(current); err != nil {
		return -1, -1, err
	}
	e, end := p.log.EndOffsetForEpoch(epoch)
	return e, end, nil
}

// DeleteRecords moves LogStart to offset, -1 for the high watermark, and
// returns the new LogStart (KIP-107).
func (m *Manager) DeleteRecords(tp metadata.TopicPartition, offset int64) (int64, error) {
	p, err := m.Partition(tp)
	if err != nil {
		return -1, err
	}
	if _, err := p.leaderState(-1); err != nil {
		return -1, err
	}
	if offset == -1 {
		offset = p.log.HighWatermark()
	}
	if offset < 0 || offset > p.log.HighWatermark() {
		return -1, fmt.Errorf("delete records of %s below %d, high watermark %d: %w", tp, offset, p.log.HighWatermark(), segment.ErrOffsetOutOfRange)
	}
	if err := p.log.SetLogStart(offset); err != nil {
		return -1, err
	}
	m.retainSoon()
	return p.log.LogStart(), nil
}

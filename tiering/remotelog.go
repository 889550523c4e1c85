package tiering

import (
	"context"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/read"
)

// Read returns whole batches of the tier from the one that holds offset on, see read.Reader.
func (m *Manager) Read(ctx context.Context, tip metadata.TopicIDPartition, offset int64, o segment.ReadOptions) (segment.RemoteData, error) {
	return m.reader.Read(ctx, tip, offset, o)
}

// EpochForOffset returns the leader epoch that wrote an offset of the tier.
func (m *Manager) EpochForOffset(ctx context.Context, tip metadata.TopicIDPartition, offset int64) (epoch int32, ok bool, err error) {
	return m.reader.EpochForOffset(ctx, tip, offset)
}

// EndOffsetForEpoch is OffsetForLeaderEpoch within the tier.
func (m *Manager) EndOffsetForEpoch(ctx context.Context, tip metadata.TopicIDPartition, epoch int32) (found int32, end int64, err error) {
	return m.reader.EndOffsetForEpoch(ctx, tip, epoch)
}

// AuxState reads the state at the end of the tier; false where nothing was ever copied.
func (m *Manager) AuxState(ctx context.Context, tip metadata.TopicIDPartition) (segment.AuxState, bool, error) {
	return m.reader.AuxState(ctx, tip)
}

// OffsetForTimestamp returns the first record of the tier, from offset from on, with a timestamp of at least ts.
func (m *Manager) OffsetForTimestamp(ctx context.Context, tip metadata.TopicIDPartition, ts, from int64) (segment.TimestampOffset, bool, error) {
	return m.reader.OffsetForTimestamp(ctx, tip, ts, from)
}

// MaxTimestamp returns the first record with the highest timestamp of the tier from offset from on.
func (m *Manager) MaxTimestamp(ctx context.Context, tip metadata.TopicIDPartition, from int64) (segment.TimestampOffset, bool, error) {
	return m.reader.MaxTimestamp(ctx, tip, from)
}

// AbortedTransactions returns those that touch offsets in [from, to) as far as the tier knows them.
func (m *Manager) AbortedTransactions(ctx context.Context, tip metadata.TopicIDPartition, from, to int64) ([]segment.AbortedTxn, error) {
	return m.reader.AbortedTransactions(ctx, tip, from, to)
}

// LastStableOffset is up to where the tier alone says how transactions ended.
func (m *Manager) LastStableOffset(ctx context.Context, tip metadata.TopicIDPartition) (int64, error) {
	return m.reader.LastStableOffset(ctx, tip)
}

// Behind returns how many bytes lie in the tier from offset on, and when the record at offset was made.
func (m *Manager) Behind(ctx context.Context, tip metadata.TopicIDPartition, offset int64) (bytes, timestamp int64, err error) {
	return m.reader.Behind(ctx, tip, offset)
}

// Refresh reads the remote state of a partition this broker does not lead, for followers that evict local
// segments or start from the tier.
func (m *Manager) Refresh(ctx context.Context, tip metadata.TopicIDPartition) (segment.RemoteView, error) {
	p := m.partition(tip)
	if p.led() {
		return *p.view.Load(), nil
	}
	man, err := m.current(ctx, p, true)
	if err != nil {
		return *p.view.Load(), read.ForLog(err)
	}
	p.observe(man)
	return *p.view.Load(), nil
}

package replica

import (
	"context"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// RemoteLog is what the replica manager needs of tiered storage;
// *tiering.Manager satisfies it. All methods are safe for concurrent use.
type RemoteLog interface {
	// Lead starts copying for a partition this broker leads, or, where the log's
	// RemoteEnabled is off, the deletion of what was copied. It is called again
	// when that changes. It never blocks.
	Lead(tip metadata.TopicIDPartition, leaderEpoch int32, log *segment.Log)
	// Resign ends what Lead started. It never blocks.
	Resign(tip metadata.TopicIDPartition)
	// View is the partition's remote state as last known.
	View(tip metadata.TopicIDPartition) segment.RemoteView
	// Read returns whole batches from the one that holds offset. A read whose
	// context ends goes on into the cache. The caller releases the data.
	Read(ctx context.Context, tip metadata.TopicIDPartition, offset int64, o segment.ReadOptions) (segment.RemoteData, error)
	// OffsetForTimestamp is the first remote record at or after ts, in ms, among
	// those from offset from on.
	OffsetForTimestamp(ctx context.Context, tip metadata.TopicIDPartition, ts, from int64) (segment.TimestampOffset, bool, error)
	// MaxTimestamp is the remote record from offset from on with the largest
	// timestamp, the first of several.
	MaxTimestamp(ctx context.Context, tip metadata.TopicIDPartition, from int64) (segment.TimestampOffset, bool, error)
	// EpochForOffset is the leader epoch that wrote a remote offset.
	EpochForOffset(ctx context.Context, tip metadata.TopicIDPartition, offset int64) (int32, bool, error)
	// EndOffsetForEpoch is the largest remote epoch at or below epoch and where
	// it ended, -1 and -1 when epoch is older than the tier.
	EndOffsetForEpoch(ctx context.Context, tip metadata.TopicIDPartition, epoch int32) (int32, int64, error)
	// AuxState is what a replica needs to go on from the tier's end; false for an
	// empty tier. It asks the store, not what is known here.
	AuxState(ctx context.Context, tip metadata.TopicIDPartition) (segment.AuxState, bool, error)
	// AbortedTransactions are those that touch offsets in [from, to), as far as
	// the tier knows.
	AbortedTransactions(ctx context.Context, tip metadata.TopicIDPartition, from, to int64) ([]segment.AbortedTxn, error)
	// LastStableOffset is up to where the tier alone knows how transactions ended.
	LastStableOffset(ctx context.Context, tip metadata.TopicIDPartition) (int64, error)
}

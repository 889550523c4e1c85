package coordinator

import (
	"context"
	"errors"
)

// Errors of the runtime's operations, besides those of the log.
var (
	// ErrNotCoordinator: this broker does not lead the partition (any more).
	ErrNotCoordinator = errors.New("not coordinator")
	// ErrLoading: the partition's log is being replayed.
	ErrLoading = errors.New("coordinator load in progress")
	// ErrUnknownRecord is returned by Machine.Replay for a record of a type or
	// version it does not know; it is skipped with a warning.
	ErrUnknownRecord = errors.New("unknown record")
)

// Term names a partition and the leader epoch at which it is led.
type Term struct {
	Partition, Epoch int32
}

// Log is what the runtime needs of the internal topic. Every method fails with
// ErrNotCoordinator if this broker does not lead the partition at the term's
// epoch, by the time it returns: what another leader made of the offsets is
// never taken for what was read or waited for. All methods are safe for
// concurrent use; a partition's Append is called by one goroutine at a time.
type Log interface {
	// Append writes one batch of the term's epoch at the end of the partition
	// and returns the offset of its last record as soon as it is in the log,
	// before it is committed. A batch over the topic's limit is
	// record.ErrTooLarge. An error means that nothing was appended. batch is not
	// kept.
	Append(ctx context.Context, t Term, batch []byte) (lastOffset int64, err error)
	// WaitCommitted returns when the high watermark is above offset.
	WaitCommitted(ctx context.Context, t Term, offset int64) error
	// Read returns whole batches from the one that holds from, about maxBytes
	// of them but at least one, the offset to read next, and the log's end.
	// It reads to the end of the log, beyond the high watermark.
	Read(ctx context.Context, t Term, from int64, maxBytes int) (batches []byte, next, end int64, err error)
	// LogStart returns the first offset of the partition.
	LogStart(ctx context.Context, t Term) (int64, error)
	// Leased says that no other broker can lead any partition of this one yet.
	// Without it, only a commit tells that this broker still leads.
	Leased() bool
}

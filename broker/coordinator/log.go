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

// Log is what the runtime needs of the internal topic. All methods are safe
// for concurrent use; a partition's Append is called by one goroutine at a time.
type Log interface {
	// Append writes one batch at the end of the partition and returns the
	// offset of its last record as soon as it is in the log, before it is
	// committed. The batch names its leader epoch; if that is not the one this
	// broker leads the partition at, the error is ErrNotCoordinator. A batch
	// over the topic's limit is record.ErrTooLarge. An error means that
	// nothing was appended. batch is not kept.
	Append(ctx context.Context, partition int32, batch []byte) (lastOffset int64, err error)
	// WaitCommitted returns when the high watermark is above offset. It
	// returns an error that is ErrNotCoordinator when the leadership is lost.
	WaitCommitted(ctx context.Context, partition int32, offset int64) error
	// Read returns whole batches from the one that holds from, about maxBytes
	// of them but at least one, the offset to read next, and the log's end.
	// It reads to the end of the log, beyond the high watermark.
	Read(ctx context.Context, partition int32, from int64, maxBytes int) (batches []byte, next, end int64, err error)
	// LogStart returns the first offset of the partition.
	LogStart(ctx context.Context, partition int32) (int64, error)
}

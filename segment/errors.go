package segment

import (
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrOffsetOutOfRange is returned for an offset that is not on the local
	// disk: below LocalLogStart or above LogEnd.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrCorrupt is returned when stored bytes are not what was written. It
	// fails one partition; PositionError says where.
	ErrCorrupt = errors.New("corrupt")
	// ErrOffline is returned by every operation on a log directory that met an
	// I/O error. It wraps the cause.
	ErrOffline = errors.New("log directory is offline")
	// ErrFenced is returned for an append with a leader epoch below the log's.
	ErrFenced = errors.New("fenced leader epoch")
	// ErrClosed is returned after Close or DeleteLog.
	ErrClosed = errors.New("log is closed")
	// ErrInvalidBatch is returned for records that may not be appended although
	// they are intact: offsets of a follower's batch that do not continue the
	// log, or several batches where one is allowed.
	ErrInvalidBatch = errors.New("invalid batch")
	// ErrForgotten is returned for a batch that looks out of order while only
	// records in the tier can tell whether it was appended: see [Log.Recollect].
	ErrForgotten = errors.New("whether the batch was appended is known to the tier only")
	// errOpen is returned for what only a partition that is not open lets be done.
	errOpen = errors.New("it is open already")
	// ErrNoSnapshot is returned when a producer snapshot can neither be read nor
	// computed.
	ErrNoSnapshot = errors.New("no producer snapshot")
)

// PositionError says where in a file something was wrong.
type PositionError struct {
	Op   string
	Path string
	Pos  int64
	Err  error
}

// Error names the operation, the file and the position.
func (e *PositionError) Error() string {
	return fmt.Sprintf("%s: %s at %d: %v", e.Op, e.Path, e.Pos, e.Err)
}

// Unwrap returns what was wrong.
func (e *PositionError) Unwrap() error { return e.Err }

// DamageError says that records which were durable are damaged or gone. It is
// ErrCorrupt and fails one partition. The records below Offset are sound; whoever
// can get those from Offset to End from a replica or from the tier may cut the log
// there, with [LogOptions].CutDamage when it is opened and with [Log.TruncateTo]
// afterwards.
type DamageError struct {
	Path   string // the .log file
	Pos    int64  // where in it
	Offset int64  // of the first record that is not there
	End    int64  // what was durable, and may have been acked, ends here, exclusive
	Err    error
}

// Error names the file, the position and the offsets.
func (e *DamageError) Error() string {
	return fmt.Sprintf("records %d to %d were durable and are damaged or gone: %s at %d: %v", e.Offset, e.End-1, e.Path, e.Pos, e.Err)
}

// Unwrap returns ErrCorrupt and what was wrong.
func (e *DamageError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// errShort is what is wrong with a file that ends too early.
var errShort = errors.New("the file is short")

// lost is the DamageError of a part.
func lost(p *part, offset, pos, end int64, err error) error {
	return &DamageError{Path: p.log.name, Pos: pos, Offset: offset, End: end, Err: err}
}

// found is lost for a part of an open log, whose owner is told, unless the part was
// removed or cut meanwhile: a file that is cut on purpose is short.
func (l *Log) found(p *part, offset, pos, end int64, err error) error {
	d := &DamageError{Path: p.log.name, Pos: pos, Offset: offset, End: end, Err: err}
	l.mu.Lock()
	here := slices.Contains(l.parts, p)
	l.mu.Unlock()
	if here && l.onDamage != nil {
		l.onDamage(d)
	}
	return d
}

// offlineError is ErrOffline with its cause.
type offlineError struct {
	dir   string
	cause error
}

func (e *offlineError) Error() string {
	return fmt.Sprintf("log directory %s is offline: %v", e.dir, e.cause)
}

func (e *offlineError) Unwrap() []error { return []error{ErrOffline, e.cause} }

package tiering

import (
	"errors"
	"fmt"

	"github.com/coldbrook/coldbrook/segment"
)

var (
	// ErrCorrupt marks an object or a manifest whose contents are not what was committed.
	ErrCorrupt = segment.ErrCorrupt
	// ErrOffsetOutOfRange is returned for offsets the tier does not hold.
	ErrOffsetOutOfRange = segment.ErrOffsetOutOfRange
	// ErrMissing marks an object that the committed manifest names and the store does not have.
	ErrMissing = errors.New("object is missing")
	// ErrNotLeader ends work of a partition whose leadership went away meanwhile.
	ErrNotLeader = errors.New("not the leader")
	// ErrDiverged is returned when the leader's log and the tier disagree about who wrote an offset.
	ErrDiverged = errors.New("the log does not continue the tier")
	// ErrStalled ends an upload that made no progress for too long.
	ErrStalled = errors.New("no progress")
	// ErrVersion marks an object written by a newer version of the program.
	ErrVersion = errors.New("unknown version")
)

// ObjectError says which object an operation failed on.
type ObjectError struct {
	Op     string
	Object string
	Err    error
}

func (e *ObjectError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Object, e.Err) }

// Unwrap returns the cause.
func (e *ObjectError) Unwrap() error { return e.Err }

package manifest

import "errors"

var (
	// ErrCorrupt marks an object or a manifest whose contents are not what was committed.
	ErrCorrupt = errors.New("corrupt")
	// ErrVersion marks an object written by a newer version of the program.
	ErrVersion = errors.New("unknown version")
	// ErrMissing marks an object that the committed manifest names and the store does not have.
	ErrMissing = errors.New("object is missing")
	// ErrOffsetOutOfRange is returned for offsets the tier does not hold.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrDiverged is returned when the leader's log and the tier disagree about who wrote an offset.
	ErrDiverged = errors.New("the log does not continue the tier")
	// ErrNoRoom says that the garbage list does not take the whole tier now.
	ErrNoRoom = errors.New("the list of pending deletions is full")
)

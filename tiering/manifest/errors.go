package manifest

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt marks an object or a manifest whose contents are not what was committed.
	ErrCorrupt = errors.New("corrupt")
	// ErrVersion marks an object of a newer format than this release reads: every VersionError is one.
	ErrVersion = errors.New("written by a newer release")
	// ErrMissing marks an object that the committed manifest names and the store does not have.
	ErrMissing = errors.New("object is missing")
	// ErrOffsetOutOfRange is returned for offsets the tier does not hold.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrDiverged is returned when the leader's log and the tier disagree about who wrote an offset.
	ErrDiverged = errors.New("the log does not continue the tier")
	// ErrNoRoom says that the garbage list does not take the whole tier now.
	ErrNoRoom = errors.New("the list of pending deletions is full")
)

// VersionError says that an object has a newer format than this release reads. It is no damage: nothing is to be put in
// the object's place, and no older object is to be taken for it. Which object it is says the error around it.
type VersionError struct {
	Format          string
	Version, Newest int // of the object, and that this release knows
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s of version %d, this release reads versions up to %d: %v", e.Format, e.Version, e.Newest, ErrVersion)
}

// Is makes every VersionError an ErrVersion.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }

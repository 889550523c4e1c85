package read

import (
	"errors"
	"hash/crc32"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// logError is an error of the tier under the kind by which those who read a log know it.
type logError struct {
	err  error
	kind error
}

// Error implements error.
func (e *logError) Error() string { return e.err.Error() }

// Unwrap returns the error and its kind.
func (e *logError) Unwrap() []error { return []error{e.err, e.kind} }

// ForLog gives an error of the tier to somebody who reads a log and does not care where its records lie.
func ForLog(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, manifest.ErrCorrupt):
		return &logError{err: err, kind: segment.ErrCorrupt}
	case errors.Is(err, manifest.ErrOffsetOutOfRange):
		return &logError{err: err, kind: segment.ErrOffsetOutOfRange}
	default:
		return err
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

package bucket

import (
	"errors"
	"fmt"

	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// ObjectError says which object an operation failed on.
type ObjectError struct {
	Op     string
	Object string
	Err    error
}

// Error implements error.
func (e *ObjectError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Object, e.Err) }

// Unwrap returns the cause.
func (e *ObjectError) Unwrap() error { return e.Err }

// Failed gives an error of the store the key it is about, and a missing object its own kind.
func Failed(op, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, object.ErrNotFound):
		return &ObjectError{Op: op, Object: key, Err: fmt.Errorf("%w: %w", manifest.ErrMissing, err)}
	case errors.Is(err, object.ErrShortBody), errors.Is(err, object.ErrTooLarge):
		return &ObjectError{Op: op, Object: key, Err: fmt.Errorf("%w: %w", manifest.ErrCorrupt, err)}
	default:
		return &ObjectError{Op: op, Object: key, Err: err}
	}
}

// IsDamage says whether an error is about what is stored rather than about reading it.
func IsDamage(err error) bool {
	return errors.Is(err, manifest.ErrCorrupt) || errors.Is(err, manifest.ErrMissing)
}

// Unusable says that an object is not there, is not what it should be, or is of a newer version: another one may do.
// Anything else is the store's fault and may pass.
func Unusable(err error) bool {
	return errors.Is(err, manifest.ErrCorrupt) || errors.Is(err, manifest.ErrMissing) || errors.Is(err, manifest.ErrVersion)
}

// Damage says which of a segment's objects are bad.
type Damage struct{ Log, Index bool }

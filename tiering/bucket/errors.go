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

// IsDamage says that an object is not there or is not what it should be: another one may do. Anything else is the store's
// fault and may pass, or about an object of a newer release (manifest.VersionError), which nothing may be taken for.
func IsDamage(err error) bool {
	return errors.Is(err, manifest.ErrCorrupt) || errors.Is(err, manifest.ErrMissing)
}

// Damage says which of a segment's objects are bad.
type Damage struct{ Log, Index bool }

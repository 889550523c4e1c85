package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// What callers test for with errors.Is.
var (
	ErrNotFound    = errors.New("object not found")
	ErrExists      = errors.New("object exists already")
	ErrAccess      = errors.New("access denied")
	ErrNoBucket    = errors.New("bucket does not exist")
	ErrUnavailable = errors.New("object store unavailable")
	ErrShortBody   = errors.New("range reaches beyond the end of the object")
	ErrChecksum    = errors.New("checksum of the object does not match")
	ErrTooLarge    = errors.New("object too large")
	ErrInvalid     = errors.New("invalid request")
	// ErrArchived is returned by Get for an object that a lifecycle rule has moved to a class that
	// must be restored before it can be read. It is not Retriable: only an operator or a restore that
	// is under way changes it, in minutes to hours. Asking again is right all the same, and cheap: the
	// S3 drivers ask the store for such an object once a minute and answer from memory in between.
	ErrArchived = errors.New("object is archived")
	// ErrUnsupported is returned for what this store does not do and nothing can stand in for. Check finds it at the
	// start.
	ErrUnsupported = errors.New("the object store cannot do this")
)

// Error says which operation on which object of which store went wrong. errors.Is finds the
// sentinel in Kind and whatever is in Err.
type Error struct {
	Op    string // put, get, head, delete, list, open, check
	Key   string // empty when the operation has none
	Store string // such as: bucket "b" at http://127.0.0.1:9000
	Kind  error  // one of the sentinels, or nil
	Hint  string // what an operator can do about it, may be empty
	Err   error  // what the driver said, may be nil

	again      repeat        // whether try repeats the request
	after      time.Duration // the pause the store asked for
	redirected bool          // the bucket is elsewhere
}

func (e *Error) Error() string {
	s := e.Op
	if e.Key != "" {
		s += " " + e.Key
	}
	s += " in " + e.Store
	if e.Kind != nil {
		s += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// fault is what this package itself finds wrong with an answer.
type fault struct {
	kind       error
	again      repeat
	text, hint string
}

func (f *fault) Error() string { return f.text }

// noSize is a description of an object that does not say how large it is. Unknown is not zero.
var noSize = &fault{kind: ErrUnavailable, again: soon, text: "the answer does not say how large the object is"}

// Unwrap gives errors.Is and errors.As both the sentinel and the cause.
func (e *Error) Unwrap() []error {
	var u []error
	if e.Kind != nil {
		u = append(u, e.Kind)
	}
	if e.Err != nil {
		u = append(u, e.Err)
	}
	return u
}

// Retriable reports whether a later attempt of the same operation may succeed with nothing
// changed by an operator.
func Retriable(err error) bool { return errors.Is(err, ErrUnavailable) }

// exactBody returns exactly want bytes of r and then io.EOF, and turns a body that breaks off into
// an *Error of kind ErrUnavailable. Reads go straight into the caller's buffer.
type exactBody struct {
	ctx  context.Context // of the one Get that this body belongs to
	r    io.ReadCloser
	left int64
	fail func(err error) error
}

func (b *exactBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if err := b.ctx.Err(); err != nil { // the transport notices a little later
		return 0, b.fail(err)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, nil // the next call says io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
		fallthrough
	case err != nil:
		return n, b.fail(fmt.Errorf("%d bytes missing: %w", b.left, err))
	}
	return n, nil
}

func (b *exactBody) Close() error { return b.r.Close() }

// emptyBody is what Get returns for a range of nothing.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

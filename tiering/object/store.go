package object

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"time"
)

// Store is a bucket: immutable objects under names. All methods are safe for concurrent use. Keys
// obey ValidKey. Errors match the sentinels of this package and are an *Error that names the
// operation, the key and the store.
type Store interface {
	// Put writes one object, whole or not at all, and returns when the store has made it durable. The
	// Info it returns has the body's checksum; HasCRC says that the store's answer confirmed it.
	// An existing object is replaced, or refused with ErrExists when o.IfAbsent. When o.HasCRC, a
	// body with another checksum is refused with ErrChecksum and leaves nothing behind. The body is
	// read through ReadAt, possibly from several goroutines and, on a retry, more than once; the
	// caller keeps it and must not change it until Put returns.
	Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error)

	// Get reads n bytes from off, or all from off when n < 0. The range must lie within the object
	// (off may equal the size only for off 0), else ErrShortBody. A body that breaks off returns
	// ErrUnavailable from Read. io.EOF means that the whole range was read. n == 0 asks nothing of
	// the store. The caller closes the body; ending ctx breaks it.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// Head describes one object, or returns ErrNotFound.
	Head(ctx context.Context, key string) (Info, error)

	// Delete removes objects. A key that is not there is no error. When some could not be removed,
	// the error joins one *Error for each of them (in batches of the store's choosing).
	Delete(ctx context.Context, keys ...string) error

	// List yields the objects whose key begins with prefix and is greater than after, in key order.
	// An error ends the sequence. Objects put or deleted meanwhile may or may not be seen. Names that are not
	// valid keys are others', and left out.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Uploads yields the multipart uploads of objects below prefix that are neither completed nor aborted, in no
	// order; those under way are among them. None for stores that have no such thing.
	Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error]

	// Abort gives a multipart upload up and frees what it holds. One that is gone is no error.
	Abort(ctx context.Context, u Upload) error

	// Close frees connections. No other call may be running or follow.
	Close() error
}

// Body is what Put stores. *io.SectionReader is one. Size must not change.
type Body interface {
	io.ReaderAt
	Size() int64
}

// Bytes makes a Body of b, which the caller must not change until Put returns.
func Bytes(b []byte) Body { return bytes.NewReader(b) }

// PutOptions modify Put.
type PutOptions struct {
	// IfAbsent makes Put fail with ErrExists when the key exists already.
	IfAbsent bool
	// CRC32C is the Castagnoli checksum of the whole body; it counts only when HasCRC. Without it
	// the drivers that send checksums compute one.
	CRC32C uint32
	HasCRC bool
	// Progress, when set, is told of each further run of bytes on its way into the store. It may be
	// called from several goroutines. After retries the sum exceeds the size.
	Progress func(bytes int64)
}

// Info describes an object.
type Info struct {
	Key      string
	Size     int64
	CRC32C   uint32 // of the whole object, when HasCRC
	HasCRC   bool   // whether the store knows the checksum (List never does)
	Modified time.Time
	ETag     string // opaque; another ETag means other contents
}

// ReadFull fills dst with the bytes of key from off on: one request, read straight into dst.
func ReadFull(ctx context.Context, s Store, key string, off int64, dst []byte) (int, error) {
	body, err := s.Get(ctx, key, off, int64(len(dst)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(body, dst)
	if cerr := body.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close body of %s: %w", key, cerr)
	}
	return n, err
}

// ReadAll reads a whole object of at most limit bytes; ErrTooLarge beyond.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	body, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes: %w", key, limit, ErrTooLarge)
	}
	return b, nil
}

// source is a body on its way into a store: it tells Progress of every read, and marks the body's
// own errors, so that a local disk's fault is not taken for the store's.
type source struct {
	Body
	progress func(int64)
}

func (s source) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.Body.ReadAt(b, off)
	if n > 0 && s.progress != nil {
		s.progress(int64(n))
	}
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// bodyError is an error of the body that was to be put.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// RetryableError tells aws-sdk-go-v2 not to read a broken disk again.
func (e *bodyError) RetryableError() bool { return false }

// shortBody is the error of a body that had fewer bytes than its Size.
func shortBody(err error) error {
	if err == io.EOF || err == nil {
		return &bodyError{io.ErrUnexpectedEOF}
	}
	return err
}

func newSource(b Body, o PutOptions) source { return source{b, o.Progress} }

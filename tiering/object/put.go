package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// sender is what a client library does of an upload. It sends each request once; put repeats.
// Checksums go along unless the store is said to refuse them.
type sender interface {
	sendObject(ctx context.Context, key string, body *io.SectionReader, sum uint32, ifAbsent bool) (stored, error)
	beginParts(ctx context.Context, key string) (id string, err error)
	sendPart(ctx context.Context, u Upload, p part, body *partBody) (stored, error)
	joinParts(ctx context.Context, u Upload, parts []part, sum uint32, ifAbsent bool) (stored, error)

	Head(ctx context.Context, key string) (Info, error)
	Abort(ctx context.Context, u Upload) error
}

// stored is how a store answers: the ETag of what it has now and, when it says one, the checksum
// in base64, which of joined parts may be the checksum of their checksums, a dash and their number.
type stored struct{ etag, crc string }

// put stores an object: a small one in one request, which is streamed from the body, a larger one in
// parts.
func (l *location) put(ctx context.Context, d sender, key string, body Body, o PutOptions) (Info, error) {
	if err := l.checkKey(key); err != nil {
		return Info{}, l.fail("put", key, err)
	}
	info := Info{Key: key, Size: body.Size(), Modified: time.Now()}
	if info.Size > singlePutBytes {
		if o.IfAbsent {
			if err := absent(ctx, d, key); err != nil {
				return Info{}, l.fail("put", key, err)
			}
		}
		u := &upload{location: l, sender: d, key: key, body: body, o: o}
		err := u.run(ctx, &info)
		return info, err
	}
	sum, err := bodySum(body, o, l.checksums)
	if err != nil {
		return Info{}, l.fail("put", key, err)
	}
	info.CRC32C = sum
	again := false
	err = l.try(ctx, request{op: "put", key: key, patience: ofRequests}, func(ctx context.Context) error {
		if again && o.IfAbsent {
			// A server that refuses may close the connection under the body, and its answer is lost then.
			if _, err := d.Head(ctx, key); err == nil {
				return errExistsAlready
			}
		}
		again = true
		out, err := d.sendObject(ctx, key, io.NewSectionReader(newSource(body, o), 0, info.Size), sum, o.IfAbsent)
		if err != nil {
			return err
		}
		info.ETag = out.etag
		if info.HasCRC, err = confirmed(out.crc, sum); err == nil && !info.HasCRC && out.etag == "" {
			err = l.lookAfter(ctx, d, &info)
		}
		return err
	})
	if err != nil {
		return Info{}, l.withoutChecksums(err)
	}
	return info, nil
}

// withoutChecksums names the setting for stores that refuse a PUT because of the checksum that goes with it. They say
// so in many ways.
func (l *location) withoutChecksums(err error) error {
	var e *Error
	if !l.checksums || !errors.As(err, &e) || e.Hint != "" || e.Err == nil || e.Kind != ErrUnsupported && (e.Kind != nil || answerStatus(e.Err) != http.StatusBadRequest) {
		return err
	}
	own := *e
	own.Hint = "if the store does not know CRC32C checksums, add ?checksum=when_required"
	return &own
}

// lookAfter looks at an object whose PUT was answered with nothing that only a store can know: neither checksum nor
// ETag. It may not be there.
func (l *location) lookAfter(ctx context.Context, d sender, info *Info) error {
	there, err := d.Head(ctx, info.Key)
	switch {
	case err != nil:
		return &fault{kind: ErrUnavailable, again: soon, text: "the answer does not say what was stored, and " + err.Error()}
	case there.Size != info.Size || there.HasCRC && there.CRC32C != info.CRC32C:
		return &fault{kind: ErrUnavailable, again: soon, text: fmt.Sprintf("the answer does not say what was stored, and %d bytes are there instead of %d", there.Size, info.Size)}
	}
	info.ETag = there.ETag
	return nil
}

// absent refuses to upload a large object that could not be stored in the end. Not all servers
// look at If-None-Match where a multipart upload completes.
func absent(ctx context.Context, d sender, key string) error {
	_, err := d.Head(ctx, key)
	switch {
	case err == nil:
		return errExistsAlready
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

var errExistsAlready = fmt.Errorf("found before the upload: %w", ErrExists)

// get opens a range with open, which sends one request and returns the body and its announced length.
func (l *location) get(ctx context.Context, key string, off, n int64, head func(context.Context, string) (Info, error),
	open func(ctx context.Context, httpRange string) (io.ReadCloser, int64, error),
) (io.ReadCloser, error) {
	if err := l.checkKey(key); err != nil {
		return nil, l.fail("get", key, err)
	}
	if n == 0 {
		return emptyBody{}, nil
	}
	if err := l.archive.recall(key, time.Now()); err != nil {
		return nil, err
	}
	var out io.ReadCloser
	err := l.try(ctx, request{op: "get", key: key, patience: ofRequests}, func(sent context.Context) error {
		body, length, err := open(sent, httpRange(off, n))
		if err != nil {
			return err
		}
		if err := l.checkRange(sent, key, off, n, length); err != nil {
			_ = body.Close() // not read
			return err
		}
		out = &exactBody{ctx: ctx, r: body, left: length, fail: func(err error) error { return l.fail("get", key, err) }}
		return nil
	})
	if errors.Is(err, ErrArchived) {
		err = l.archived(ctx, key, err, head)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// checkRange checks that the server is about to send what was asked for; length is what it announced.
func (l *location) checkRange(ctx context.Context, key string, off, n, length int64) error {
	first, last, total, ranged := answerOf(ctx).contentRange()
	var wrong error
	switch {
	case !ranged && off > 0, !ranged && n >= 0 && length > n:
		wrong = errors.New("the server ignores ranges")
	case length < 0:
		wrong = errors.New("the server does not say how much it sends")
	case ranged && (first != off || last-first+1 != length || n >= 0 && length > n):
		wrong = fmt.Errorf("asked for %d bytes from %d, the server sends %d to %d in %d bytes", n, off, first, last, length)
	case ranged && total >= 0 && last != total-1 && (n < 0 || length < n):
		wrong = fmt.Errorf("asked for %d bytes from %d of %d, the server sends %d", n, off, total, length)
	case length < n:
		return l.failCode("get", key, http.StatusRequestedRangeNotSatisfiable, "InvalidRange", fmt.Errorf("%d bytes from %d: the server has %d", n, off, length))
	default:
		return nil
	}
	return l.failCode("get", key, 0, "InvalidResponse", wrong)
}

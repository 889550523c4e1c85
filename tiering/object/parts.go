package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// Up to here an object goes up in one streamed request, which needs no buffer.
	singlePutBytes = 16 << 20
	// A part is read once, into a buffer: its checksum must be known before its first byte is sent,
	// and reading a body twice would cost the disk and the copy quota twice. The buffers of one store
	// are bounded by partsInFlight.
	partBytes     = 8 << 20
	partsInFlight = 8 // of all uploads together
	partWorkers   = 4 // of one upload
	maxParts      = 10_000
)

// upload is one multipart upload.
type upload struct {
	*location
	sender
	key  string
	body Body
	o    PutOptions
}

// part is one part that is being sent, or was.
type part struct {
	number int32 // from 1
	size   int64
	sum    uint32
	etag   string
}

// run uploads the body and fills in info. Whatever fails, what was uploaded is given up.
func (u *upload) run(ctx context.Context, info *Info) error {
	n := (info.Size + partBytes - 1) / partBytes
	if n > maxParts {
		return u.fail("put", u.key, fmt.Errorf("%d bytes are more than %d parts of %d: %w", info.Size, maxParts, partBytes, ErrTooLarge))
	}
	up := Upload{Key: u.key}
	err := u.try(ctx, request{op: "put", key: u.key, patience: ofRequests}, func(ctx context.Context) (err error) {
		up.ID, err = u.beginParts(ctx, u.key)
		return err
	})
	if err != nil {
		return err
	}
	parts := make([]part, n)
	if err = u.sendParts(ctx, up, parts); err == nil {
		err = u.join(ctx, up, parts, info)
	}
	if err == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if aerr := u.Abort(bounded, up); aerr != nil {
		return fmt.Errorf("%w; its upload %s is left: %s", err, up.ID, aerr.Error())
	}
	return err
}

// sendParts sends all parts, some at a time.
func (u *upload) sendParts(ctx context.Context, up Upload, parts []part) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partWorkers)
	for i := range parts {
		p := &parts[i]
		off := int64(i) * partBytes
		p.number, p.size = int32(i+1), min(partBytes, u.body.Size()-off)
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			place, err := u.window.enter(gctx, u.alive)
			if err != nil {
				return u.fail("put", u.key, err)
			}
			err = u.sendOne(gctx, up, p, off, place)
			place.leave(err == nil)
			return err
		})
	}
	err := g.Wait()
	if cause := ctx.Err(); cause != nil && err != nil && !errors.Is(err, cause) {
		return u.fail("put", u.key, fmt.Errorf("%w, after: %s", cause, err.Error()))
	}
	return err
}

// alive says that the upload waits for its turn, or as long as the store has asked for: who watches
// its progress must not take that for a store that hangs.
func (u *upload) alive() {
	if u.o.Progress != nil {
		u.o.Progress(0)
	}
}

func (u *upload) sendOne(ctx context.Context, up Upload, p *part, off int64, at *place) error {
	buf := at.buf.Bytes()[:p.size]
	if n, err := (source{Body: u.body}).ReadAt(buf, off); n < len(buf) {
		return u.fail("put", u.key, shortBody(err))
	}
	p.sum = crc32.Checksum(buf, castagnoli)
	slower := func() {
		at.slower()
		u.alive()
	}
	return u.try(ctx, request{op: "put", key: u.key, patience: ofParts, slower: slower}, func(ctx context.Context) error {
		body := newPartBody(buf, u.o.Progress)
		defer body.detach()
		out, err := u.sendPart(ctx, up, *p, body)
		if err != nil {
			return err
		}
		p.etag = out.etag
		_, err = confirmed(out.crc, p.sum)
		return err
	})
}

// join compares the checksum of the whole with what the caller and the store say, and completes the
// upload.
func (u *upload) join(ctx context.Context, up Upload, parts []part, info *Info) error {
	var sum uint32
	for _, p := range parts {
		sum = joinCRC(sum, p.sum, p.size)
	}
	if u.o.HasCRC && sum != u.o.CRC32C {
		return u.fail("put", u.key, fmt.Errorf("%08x, the caller says %08x: %w", sum, u.o.CRC32C, ErrChecksum))
	}
	sent := 0
	return u.try(ctx, request{op: "put", key: u.key, patience: ofParts}, func(ctx context.Context) error {
		sent++
		out, err := u.joinParts(ctx, up, parts, sum, u.o.IfAbsent)
		if err != nil && sent > 1 && noSuchUpload(err) { // the answer may have got lost
			out.etag, err = u.completed(ctx, parts, info.Size, sum, err)
		}
		if err != nil {
			return err
		}
		info.ETag, info.CRC32C = out.etag, sum
		if info.HasCRC, err = confirmedWhole(out.crc, parts, sum); err == nil && !info.HasCRC && out.etag == "" {
			err = u.lookAfter(ctx, u.sender, info)
		}
		return err
	})
}

// confirmedWhole is confirmed for joined parts.
func confirmedWhole(answer string, parts []part, sum uint32) (bool, error) {
	ofSums, count, composite := strings.Cut(answer, "-")
	if !composite {
		return confirmed(answer, sum)
	}
	h := crc32.New(castagnoli)
	for _, p := range parts {
		_ = binary.Write(h, binary.BigEndian, p.sum) // a hash takes all
	}
	if count != strconv.Itoa(len(parts)) {
		return false, ErrChecksum
	}
	return confirmed(ofSums, h.Sum32())
}

// completed looks whether the object that is there now is the one of parts. It returns lost when not.
func (u *upload) completed(ctx context.Context, parts []part, size int64, sum uint32, lost error) (etag string, err error) {
	info, err := u.Head(ctx, u.key)
	if err != nil || info.Size != size {
		return "", lost
	}
	if info.HasCRC && info.CRC32C == sum || !info.HasCRC && info.ETag == joinedETag(parts) {
		return info.ETag, nil
	}
	return "", lost
}

// joinedETag is the ETag that S3 gives to joined parts: the MD5 of their MD5s, and how many.
func joinedETag(parts []part) string {
	h := md5.New()
	for _, p := range parts {
		b, err := hex.DecodeString(p.etag)
		if err != nil {
			return ""
		}
		_, _ = h.Write(b) // a hash takes all
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts))
}

// noSuchUpload says that an upload was completed or given up.
func noSuchUpload(err error) bool { return answerCode(err) == "NoSuchUpload" }

// partBody reads a part's buffer and tells of what was read. Once detached it reads nothing more: the
// transport may still be sending when an early answer has ended the request, and the buffer goes on to
// another part.
type partBody struct {
	progress func(int64)

	mu sync.Mutex
	r  *bytes.Reader
}

func newPartBody(b []byte, progress func(int64)) *partBody {
	return &partBody{r: bytes.NewReader(b), progress: progress}
}

var errDetached = errors.New("the request has ended")

func (b *partBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.r == nil {
		b.mu.Unlock()
		return 0, errDetached
	}
	n, err := b.r.Read(p)
	b.mu.Unlock()
	if n > 0 && b.progress != nil {
		b.progress(int64(n))
	}
	return n, err
}

// Seek serves the libraries, which find out the size by it.
func (b *partBody) Seek(off int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.r == nil {
		return 0, errDetached
	}
	return b.r.Seek(off, whence)
}

func (b *partBody) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.r = nil
}

var _ io.ReadSeeker = (*partBody)(nil)

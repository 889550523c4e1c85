package upload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Put stores an object and believes it only when the store's answer, or a HEAD, has its size and, where
// the store knows one, its checksum.
func (u *Uploader) Put(ctx context.Context, key string, body object.Body, crc uint32) error {
	var info object.Info
	err := u.putRetried(ctx, key, body, crc, &info)
	if err != nil {
		return bucket.Failed("copy", key, err)
	}
	if !info.HasCRC || info.Size != body.Size() {
		err = u.bucket.Retry(ctx, func(ctx context.Context) (err error) {
			info, err = u.bucket.Store.Head(ctx, u.bucket.Prefix+key)
			if errors.Is(err, object.ErrNotFound) { // some stores show an object a moment after they took it
				err = fmt.Errorf("%w: %w", object.ErrUnavailable, err)
			}
			return err
		})
		if err != nil {
			return bucket.Failed("verify", key, err)
		}
	}
	if info.Size != body.Size() || info.HasCRC && info.CRC32C != crc {
		return &bucket.ObjectError{Op: "verify", Object: key, Err: fmt.Errorf("%d bytes with checksum %08x, want %d and %08x: %w",
			info.Size, info.CRC32C, body.Size(), crc, manifest.ErrCorrupt)}
	}
	return nil
}

// putRetried is retry for a PUT, whose attempts may take as long as they make progress.
func (u *Uploader) putRetried(ctx context.Context, key string, body object.Body, crc uint32, info *object.Info) error {
	for n := 0; ; n++ {
		attempt, progress, cancel := u.stallContext(ctx)
		var err error
		*info, err = u.bucket.Store.Put(attempt, u.bucket.Prefix+key, &limitedBody{Body: body, u: u, ctx: attempt, progress: progress},
			object.PutOptions{CRC32C: crc, HasCRC: true, Progress: progress})
		stalled := errors.Is(context.Cause(attempt), ErrStalled)
		cancel()
		if err != nil && stalled {
			err = fmt.Errorf("%w for %v: %w", ErrStalled, u.bucket.Stall(), err)
		}
		if err == nil || n == bucket.Retries || ctx.Err() != nil || !stalled && !object.Retriable(err) {
			return err
		}
		if !u.bucket.Pause(ctx, n) {
			return err
		}
	}
}

// stallContext returns a context that ends with ErrStalled when progress was not called for the cluster's stall.
func (u *Uploader) stallContext(ctx context.Context) (context.Context, func(int64), context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(u.bucket.Stall(), func() { cancel(ErrStalled) })
	return ctx, func(int64) { timer.Reset(u.bucket.Stall()) }, func() {
		timer.Stop()
		cancel(context.Canceled)
	}
}

// uploadRun is how much of a segment is read at a time for an upload, whatever a driver asks for at once: the disk and
// the quota are taken in small bites between which producers get their turn.
const uploadRun = 1 << 20

// limitedBody reads in runs, each taken out of the copy quota before it is read. Waiting for the quota is progress.
// It holds no bytes itself.
type limitedBody struct {
	object.Body
	u        *Uploader
	ctx      context.Context // of the one upload that this body belongs to
	progress func(int64)
}

func (b *limitedBody) ReadAt(p []byte, off int64) (n int, err error) {
	run := min(uploadRun, max(int64(b.u.rate.Burst())/4, 1))
	for len(p) > 0 {
		k := min(int64(len(p)), run)
		waited, err := bucket.Take(b.ctx, b.u.rate, k)
		if err != nil {
			return n, err
		}
		if waited > 0 {
			b.u.metrics.copyThrottle.Add(b.ctx, waited.Seconds())
			b.progress(0)
		}
		got, err := b.Body.ReadAt(p[:k], off)
		n += got
		if err != nil || int64(got) < k {
			return n, err
		}
		p, off = p[k:], off+k
	}
	return n, nil
}

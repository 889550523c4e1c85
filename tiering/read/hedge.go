package read

import (
	"context"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// get fills dst from an object. A GET that takes longer than 95 of 100 do is asked for a second time, and the
// first answer counts: one slow connection or one slow disk of the store must not hold a reader up.
func (r *Reader) get(ctx context.Context, key string, pos int64, dst []byte) error {
	begun := time.Now()
	after := r.pace.hedgeAfter()
	if after == 0 || int64(len(dst)) > r.o.ChunkBytes { // a hedge has memory of its own, a chunk each
		_, err := object.ReadFull(ctx, r.bucket.Reads, key, pos, dst)
		if err == nil {
			r.pace.took(time.Since(begun), time.Now())
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan error, 1)
	go func() {
		_, err := object.ReadFull(ctx, r.bucket.Reads, key, pos, dst)
		first <- err
	}()
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case err := <-first:
		if err == nil {
			r.pace.took(time.Since(begun), time.Now())
		}
		return err
	case <-timer.C:
	}
	if !r.pace.startHedge() {
		err := <-first
		if err == nil {
			r.pace.took(time.Since(begun), time.Now())
		}
		return err
	}
	defer r.pace.endHedge()
	return r.hedge(ctx, cancel, key, pos, dst, first, begun)
}

// hedge asks again and returns when one of the two answers is in dst and the other has ended.
func (r *Reader) hedge(ctx context.Context, cancel context.CancelFunc, key string, pos int64, dst []byte, first chan error, begun time.Time) error {
	r.metrics.hedges.Add(ctx, 1)
	second, buf := make(chan error, 1), r.again.Get().(*[]byte)
	defer r.again.Put(buf) // both GETs have ended by then
	if int64(cap(*buf)) < r.o.ChunkBytes {
		*buf = make([]byte, r.o.ChunkBytes)
	}
	again := (*buf)[:len(dst)]
	go func() {
		_, err := object.ReadFull(ctx, r.bucket.Reads, key, pos, again)
		second <- err
	}()
	var err error
	select {
	case err = <-first:
		if err != nil {
			break
		}
		cancel()
		<-second
		r.pace.took(time.Since(begun), time.Now())
		return nil
	case err = <-second:
		if err != nil {
			break
		}
		cancel()
		<-first // dst is nobody else's from here on
		copy(dst, again)
		r.metrics.hedgesWon.Add(ctx, 1)
		r.pace.took(time.Since(begun), time.Now())
		return nil
	}
	// One failed: the other decides.
	select {
	case other := <-first:
		if other == nil {
			return nil
		}
	case other := <-second:
		if other == nil {
			copy(dst, again)
			return nil
		}
	}
	return err
}

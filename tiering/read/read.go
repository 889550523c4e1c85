package read

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// maxPins bounds the chunks of one answer.
const maxPins = 64

// complainEvery is the least time between two lines about reads that failed.
const complainEvery = 10 * time.Second

// Read returns whole batches of the tier from the one that holds offset on: those that end at or before o.UpTo, at
// most o.MaxBytes, but at least one when o.MinOne. It waits for the first chunk only; further ones are part of the
// answer when they are there, and none at all when o.Holder holds its share of the cache already. When ctx ends first the
// fetch goes on into the cache and the next Read finds it. The caller releases the data. Errors: ErrOffsetOutOfRange; ErrCorrupt and ErrMissing in an *ObjectError.
func (r *Reader) Read(ctx context.Context, tip metadata.TopicIDPartition, offset int64, o segment.ReadOptions) (segment.RemoteData, error) {
	start := time.Now()
	ctx = withReader(ctx, cache.Reader{Client: o.Reader, Holder: cmp.Or(o.Holder, o.Reader)})
	ctx, span := r.o.Tracer.Start(ctx, "remote fetch", trace.WithAttributes(attribute.Int("partition", int(tip.Partition)), attribute.Int64("offset", offset)))
	defer span.End()
	r.metrics.fetchRequests.Add(ctx, 1)
	d, err := r.read(ctx, tip, offset, o)
	r.metrics.fetchSeconds.Record(ctx, time.Since(start).Seconds())
	if err != nil {
		if ctx.Err() == nil {
			r.metrics.fetchErrors.Add(ctx, 1)
			span.SetStatus(codes.Error, err.Error())
			r.complain(tip, offset, err)
		}
		return nil, ForLog(err)
	}
	r.metrics.fetchBytes.Add(ctx, d.size)
	return d, nil
}

// complain logs that a read failed, now and then: clients ask again and again, and are told only that the storage
// is in trouble.
func (r *Reader) complain(tip metadata.TopicIDPartition, offset int64, err error) {
	now := time.Now().UnixNano()
	if last := r.complained.Load(); errors.Is(err, manifest.ErrOffsetOutOfRange) || last != 0 && now-last < int64(complainEvery) || !r.complained.CompareAndSwap(last, now) {
		return
	}
	r.log.Warn("remote read failed", "topic_id", tip.Topic, "partition", tip.Partition, "offset", offset, "err", err)
}

func (r *Reader) read(ctx context.Context, tip metadata.TopicIDPartition, offset int64, o segment.ReadOptions) (*data, error) {
	man, err := r.manifests.Current(ctx, tip, false)
	if err == nil && (man.Root == nil || offset >= man.Root.EndOffset) && !r.manifests.Leads(tip) {
		man, err = r.manifests.Current(ctx, tip, true) // a follower's image may be behind
	}
	if err != nil {
		return nil, err
	}
	d, err := r.readFrom(ctx, tip, man, offset, o)
	if err != nil && vanished(err) {
		// The manifest may have been replaced long ago without us knowing.
		again, ferr := r.manifests.Current(ctx, tip, true)
		if ferr != nil || again.Pointer.Manifest == man.Pointer.Manifest {
			return nil, err
		}
		return r.readFrom(ctx, tip, again, offset, o)
	}
	return d, err
}

func (r *Reader) readFrom(ctx context.Context, tip metadata.TopicIDPartition, man bucket.Manifest, offset int64, o segment.ReadOptions) (*data, error) {
	if man.Root == nil {
		return nil, fmt.Errorf("offset %d, the tier is empty: %w", offset, manifest.ErrOffsetOutOfRange)
	}
	if offset < man.Root.StartOffset || offset >= man.Root.EndOffset {
		return nil, fmt.Errorf("offset %d, tier holds %d to %d: %w", offset, man.Root.StartOffset, man.Root.HighestOffset(), manifest.ErrOffsetOutOfRange)
	}
	begun := time.Now()
	d := &data{next: offset}
	if offset >= o.UpTo {
		return d, nil
	}
	var err error
	for at, done := offset, false; !done && err == nil && at < min(man.Root.EndOffset, o.UpTo); {
		at, done, err = r.readEntry(ctx, man, at, o, d)
	}
	if errors.Is(err, cache.ErrShare) {
		err = nil // other answers are to be taken first, or what there is of this one
	}
	if err != nil && d.size == 0 {
		return nil, err
	}
	if d.size > 0 {
		r.readAhead(ctx, man, answer{
			tip: tip, offset: offset, next: d.next, size: d.size, waited: time.Since(begun), last: d.next >= man.Root.EndOffset,
		}, o.MaxBytes)
	}
	return d, nil
}

// readEntry fills d from the segment that holds at, and returns where the next one begins.
func (r *Reader) readEntry(ctx context.Context, man bucket.Manifest, at int64, o segment.ReadOptions, d *data) (next int64, done bool, err error) {
	entry, err := man.Find(ctx, at)
	if err != nil {
		return at, false, err
	}
	if d.size > 0 && !r.bucket.Memo.Has(manifest.SegmentKey(man.Dir, entry.Object, manifest.IndexSuffix)) {
		return at, true, nil // an answer with something in it waits for nothing more
	}
	seg, err := r.segment(ctx, man.Dir, entry)
	if err != nil {
		return at, false, err
	}
	done, err = r.readSegment(ctx, man.Dir, seg, at, o, d)
	return entry.LastOffset + 1, done, err
}

// largestRun is how large a chunk of several batches may be.
func (r *Reader) largestRun() int64 { return max(r.o.ChunkBytes, index.MaxCutInterval) }

// readSegment fills d from one segment; done is false when all of the segment at or after offset is in d.
func (r *Reader) readSegment(ctx context.Context, dir string, s *bucket.Segment, offset int64, o segment.ReadOptions, d *data) (done bool, err error) {
	for i := s.ChunkOf(offset); i < len(s.Chunks); i++ {
		var pin piece
		whole := true // the piece reaches to the end of its chunk
		switch size := s.Chunks[i].Size; {
		case size > r.largestRun() && !o.MinOne && size > int64(o.MaxBytes):
			return true, nil // one batch, which would be read in vain
		case len(d.pins) == 0:
			if pin, whole, err = r.first(ctx, dir, s, i, offset, o); err != nil {
				return false, err
			}
		case len(d.pins) == maxPins:
			return true, nil
		default:
			// Waiting for memory while holding some could last for ever: only what is there.
			var there bool
			if pin.pin, there = r.cache.Lookup(readerOf(ctx), chunkKey(s, i)); !there {
				return true, nil
			}
		}
		run, next, more := cutRun(pin.Bytes(), offset, o, int64(o.MaxBytes)-d.size, o.MinOne && d.size == 0)
		if len(run) == 0 && more && !whole { // a hole up to the end of the part
			pin.Release()
			if pin, err = r.chunk(ctx, s, i); err != nil {
				return false, err
			}
			whole = true
			run, next, more = cutRun(pin.Bytes(), offset, o, int64(o.MaxBytes)-d.size, o.MinOne && d.size == 0)
		}
		if len(run) == 0 {
			pin.Release()
			if !more {
				return true, nil
			}
			continue // a hole up to the end of this chunk
		}
		d.add(pin, run, next)
		if !more || !whole {
			return true, nil
		}
	}
	return false, nil
}

// cutRun returns the batches of b that a read wants: from the one that holds offset, within left bytes (or one
// batch when minOne), ending at or before o.UpTo. more says that the end of b was what ended it. The batches were
// checked when they entered the cache, so only their headers are looked at.
func cutRun(b []byte, offset int64, o segment.ReadOptions, left int64, minOne bool) (run []byte, next int64, more bool) {
	from, to := 0, 0
	next = offset
	for pos := 0; pos < len(b); {
		batch, _, err := record.Next(b[pos:])
		if err != nil {
			return nil, offset, false // impossible: checked on entry
		}
		end := pos + batch.Size()
		if batch.LastOffset() < offset {
			from, to, pos = end, end, end
			continue
		}
		if batch.NextOffset() > o.UpTo || int64(end-from) > left && !(minOne && to == from) {
			return b[from:to], next, false
		}
		to, next, pos = end, batch.NextOffset(), end
	}
	return b[from:to], next, true
}

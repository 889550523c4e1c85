package upload

import (
	"context"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Copy copies the part of a sealed segment from offset from on, and verifies it.
func (u *Uploader) Copy(ctx context.Context, l *Leader, s segment.Sealed, from int64) (entry manifest.Entry, err error) {
	start := time.Now()
	ctx, span := u.tracer.Start(ctx, "remote copy", trace.WithAttributes(attribute.String("topic", l.Topic),
		attribute.Int("partition", int(l.TIP.Partition)), attribute.Int64("offset", from), attribute.Int64("bytes", s.Size)))
	u.metrics.copyRequests.Add(ctx, 1)
	defer func() {
		if err != nil {
			u.metrics.copyErrors.Add(ctx, 1)
			span.SetStatus(codes.Error, err.Error())
		} else {
			u.metrics.copyBytes.Add(ctx, entry.Bytes)
			u.metrics.copySeconds.Record(ctx, time.Since(start).Seconds())
		}
		span.End()
	}()
	u.log.Debug("COPY_SEGMENT_STARTED", "topic", l.Topic, "partition", l.TIP.Partition, "epoch", l.Epoch, "offset", from, "last", s.LastOffset)
	seg, err := l.Log.OpenSealed(s.BaseOffset)
	if err != nil {
		return entry, fmt.Errorf("open segment %d: %w", s.BaseOffset, err)
	}
	defer seg.Release()
	entry, index, body, err := describe(seg, s, from)
	if err != nil {
		return entry, fmt.Errorf("segment %d: %w", s.BaseOffset, err)
	}
	entry.Created = start.UnixMilli()
	entry.Object = manifest.NewStem(entry.BaseOffset, l.Epoch)
	return entry, u.putPair(ctx, l.Dir(), &entry, body, index)
}

// putPair stores both objects of an entry, or neither.
func (u *Uploader) putPair(ctx context.Context, dir string, e *manifest.Entry, log object.Body, index []byte) error {
	err := u.Put(ctx, manifest.SegmentKey(dir, e.Object, manifest.LogSuffix), log, uint32(e.CRC32C))
	if err == nil {
		err = u.Put(ctx, manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix), object.Bytes(index), uint32(e.IndexCRC32C))
	}
	if err != nil {
		u.Discard(ctx, dir, []string{e.Object})
	}
	return err
}

// lineageOf is a log's lineage in the words of the manifest.
func lineageOf(epochs []segment.EpochEntry) manifest.Lineage {
	out := make(manifest.Lineage, len(epochs))
	for i, e := range epochs {
		out[i] = manifest.EpochEntry(e)
	}
	return out
}

// describe builds what is stored of a sealed segment from offset from on: its entry, its index object, its bytes.
func describe(seg *segment.SealedSegment, s segment.Sealed, from int64) (manifest.Entry, []byte, object.Body, error) {
	sc := index.NewScan(from, s.LastOffset, s.Size)
	if err := seg.Scan(sc.Batch); err != nil {
		return manifest.Entry{}, nil, nil, err
	}
	if err := sc.Finish(); err != nil {
		return manifest.Entry{}, nil, nil, err
	}
	if at, size := sc.Extent(); at+size != s.Size {
		return manifest.Entry{}, nil, nil, fmt.Errorf("its batches end at position %d of %d: %w", at+size, s.Size, segment.ErrCorrupt)
	}
	at, size := sc.Newest()
	top := make([]byte, size)
	if _, err := seg.LogFile().ReadAt(top, at); err != nil && err != io.EOF {
		return manifest.Entry{}, nil, nil, fmt.Errorf("read the batch with the highest timestamp: %w", err)
	}
	x := &index.Index{Epochs: lineageOf(seg.Epochs())}
	for _, part := range []struct {
		name string
		into *[]byte
		read func() ([]byte, error)
	}{
		{"producer snapshot", &x.Snapshot, seg.ProducerSnapshot}, {"offset index", &x.Offset, seg.OffsetIndex},
		{"time index", &x.Time, seg.TimeIndex}, {"transaction index", &x.Txn, seg.TxnIndex},
	} {
		var err error
		if *part.into, err = part.read(); err != nil {
			return manifest.Entry{}, nil, nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	entry, encoded, err := sc.Build(s.BaseOffset, x, top)
	if err != nil {
		return manifest.Entry{}, nil, nil, err
	}
	at, size = sc.Extent()
	return entry, encoded, io.NewSectionReader(seg.LogFile(), at, size), nil
}

const (
	removeLimit = 10 * time.Second
	stopLimit   = time.Second // removeLimit while stopping
)

// Discard deletes copies no manifest will ever name. It is best effort and bounded, also when ctx has ended:
// what stays is an orphan for the collector.
func (u *Uploader) Discard(ctx context.Context, dir string, stems []string) {
	limit := removeLimit
	if ctx.Err() != nil {
		limit = stopLimit // somebody waits for the end of this broker
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var keys []string
	for _, s := range stems {
		keys = append(keys, manifest.OwnKeys(dir, s)...)
	}
	if err := u.bucket.Remove(ctx, keys); err != nil {
		u.log.Debug("aborted copy is left to the collector", "object", keys[0], "err", err)
	}
}

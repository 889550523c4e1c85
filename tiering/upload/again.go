package upload

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNoSource says that the local log cannot give what is lost.
var ErrNoSource = errors.New("the local log no longer has it")

// Again copies a segment whose objects are bad a second time, from the local log where that has it, and returns the entry
// with the new name. Bytes other than those that were committed never replace them.
func (u *Uploader) Again(ctx context.Context, l *Leader, dir string, old manifest.Entry, d bucket.Damage) (manifest.Entry, error) {
	next := old
	next.Object = manifest.NewStem(old.BaseOffset, l.Epoch) // Created stays: the records are no younger for it
	body, release, err := u.logSource(ctx, dir, l, &old, d)
	if err != nil {
		return next, err
	}
	defer release()
	index, err := u.indexSource(ctx, dir, l, &next, old.Object, d)
	if err != nil {
		return next, err
	}
	return next, u.putPair(ctx, l.Dir(), &next, body, index)
}

// logSource returns the bytes of a segment: the local log's when the object is bad, else the object's own.
func (u *Uploader) logSource(ctx context.Context, dir string, l *Leader, e *manifest.Entry, d bucket.Damage) (object.Body, func(), error) {
	if !d.Log {
		return &storeBody{c: u.bucket, ctx: ctx, key: manifest.SegmentKey(dir, e.Object, manifest.LogSuffix), size: e.Bytes}, func() {}, nil
	}
	body, release, err := gather(l.Log, e)
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

// indexSource returns the index object and notes what it is in next: a new one when the old is bad, else the old.
func (u *Uploader) indexSource(ctx context.Context, dir string, l *Leader, next *manifest.Entry, old string, d bucket.Damage) ([]byte, error) {
	if !d.Index {
		b, err := u.bucket.GetAll(ctx, manifest.SegmentKey(dir, old, manifest.IndexSuffix), next.IndexBytes)
		if err == nil && bucket.Checksum(b) != uint32(next.IndexCRC32C) {
			err = fmt.Errorf("index object: %w", manifest.ErrCorrupt)
		}
		return b, err
	}
	for _, s := range l.Log.Sealed(next.LastOffset) {
		if s.LastOffset != next.LastOffset || s.BaseOffset > next.BaseOffset {
			break
		}
		seg, err := l.Log.OpenSealed(s.BaseOffset)
		if err != nil {
			return nil, err
		}
		defer seg.Release()
		entry, index, _, err := describe(seg, s, next.BaseOffset)
		if err != nil {
			return nil, err
		}
		if entry.CRC32C != next.CRC32C || entry.Bytes != next.Bytes {
			return nil, fmt.Errorf("the local segment has other bytes, checksum %08x, want %08x: %w", uint32(entry.CRC32C), uint32(next.CRC32C), ErrNoSource)
		}
		next.IndexBytes, next.IndexHead, next.IndexCRC32C, next.Aborted = entry.IndexBytes, entry.IndexHead, entry.IndexCRC32C, entry.Aborted
		next.AbortedFrom, next.AbortedStable = entry.AbortedFrom, entry.AbortedStable
		return index, nil
	}
	return nil, fmt.Errorf("no local segment ends at offset %d, so its index cannot be made again: %w", next.LastOffset, ErrNoSource)
}

// gather finds the bytes of an entry in the sealed segments of a log, whatever their borders. What it returns is what
// was committed: size and checksum are compared. release must be called also after an error.
func gather(log *segment.Log, e *manifest.Entry) (object.Body, func(), error) {
	var open []*segment.SealedSegment
	release := func() {
		for _, s := range open {
			s.Release()
		}
	}
	var parts joined
	sum, size := uint32(0), int64(0)
	for _, s := range log.Sealed(e.BaseOffset) {
		if s.BaseOffset > e.LastOffset {
			break
		}
		seg, err := log.OpenSealed(s.BaseOffset)
		if err != nil {
			return nil, release, err
		}
		open = append(open, seg)
		start, end := int64(-1), int64(0)
		err = seg.Scan(func(b record.Batch, pos int64) error {
			if b.BaseOffset() < e.BaseOffset || b.LastOffset() > e.LastOffset {
				return nil
			}
			if start < 0 {
				start = pos
			}
			end = pos + int64(b.Size())
			sum = crc32.Update(sum, castagnoli, b)
			return nil
		})
		if err != nil {
			return nil, release, err
		}
		if start >= 0 {
			parts = append(parts, io.NewSectionReader(seg.LogFile(), start, end-start))
			size += end - start
		}
	}
	if size != e.Bytes || sum != uint32(e.CRC32C) {
		return nil, release, fmt.Errorf("%d bytes of offsets %d to %d are local, checksum %08x, want %d and %08x: %w",
			size, e.BaseOffset, e.LastOffset, sum, e.Bytes, uint32(e.CRC32C), ErrNoSource)
	}
	return parts, release, nil
}

// joined is a Body of several.
type joined []*io.SectionReader

// Size implements object.Body.
func (j joined) Size() int64 {
	var n int64
	for _, r := range j {
		n += r.Size()
	}
	return n
}

// ReadAt implements io.ReaderAt.
func (j joined) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for _, r := range j {
		if off >= r.Size() {
			off -= r.Size()
			continue
		}
		k, err := r.ReadAt(b[n:min(int64(len(b)), int64(n)+r.Size()-off)], off)
		n += k
		if err != nil && err != io.EOF || n == len(b) {
			return n, err
		}
		off = 0
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// storeBody is an object that is copied to another name.
type storeBody struct {
	c    *bucket.Cluster
	ctx  context.Context // of the one copy that this body belongs to
	key  string
	size int64
}

// Size implements object.Body.
func (s *storeBody) Size() int64 { return s.size }

// ReadAt implements io.ReaderAt.
func (s *storeBody) ReadAt(b []byte, off int64) (int, error) {
	want := b[:min(int64(len(b)), s.size-off)]
	ctx, cancel := context.WithTimeout(s.ctx, s.c.Stall())
	defer cancel()
	n, err := object.ReadFull(ctx, s.c.Store, s.c.Prefix+s.key, off, want)
	if err == nil && len(want) < len(b) {
		err = io.EOF
	}
	return n, err
}

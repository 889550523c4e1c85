package tiering

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoSource says that the local log cannot give what is lost.
var errNoSource = errors.New("the local log no longer has it")

// replaceObjects uploads a segment's pair of objects under a new name and has the manifest name that. It is a job of
// the partition's pass. Bytes other than those that were committed never replace them.
func (m *Manager) replaceObjects(ctx context.Context, p *partition, l *leadership, man bucket.Manifest, old manifest.Entry, d bucket.Damage) (string, bucket.Manifest, error) {
	if man.Root == nil {
		return "", man, manifest.ErrOffsetOutOfRange
	}
	if now, err := man.Find(ctx, old.BaseOffset); err != nil || now.Object != old.Object {
		return "", man, errors.Join(err, fmt.Errorf("the manifest no longer names %s", old.Object))
	}
	next := old
	next.Object, next.Created = manifest.NewStem(old.BaseOffset, l.epoch), time.Now().UnixMilli()
	body, release, err := m.logSource(ctx, man.Dir, l, &old, d)
	if err != nil {
		return "", man, err
	}
	defer release()
	index, err := m.indexSource(ctx, man.Dir, l, &next, old.Object, d)
	if err != nil {
		return "", man, err
	}
	dir := manifest.PartitionDir(l.topic, p.tip)
	if err = m.putVerified(ctx, manifest.SegmentKey(dir, next.Object, manifest.LogSuffix), body, uint32(next.CRC32C)); err == nil {
		err = m.putVerified(ctx, manifest.SegmentKey(dir, next.Object, manifest.IndexSuffix), object.Bytes(index), uint32(next.IndexCRC32C))
	}
	if err != nil {
		m.removePairs(ctx, dir, []string{next.Object})
		return "", man, err
	}
	e := manifest.NewEdit(man.Root, man.Load, time.Now(), m.o.Grace)
	e.Forget(manifest.SweptItems(man.Root.Garbage, l.swept))
	if err := e.Replace(ctx, old, next); err != nil {
		m.removePairs(ctx, dir, []string{next.Object})
		return "", man, err
	}
	if err := m.commit(ctx, p, l, man, e); err != nil {
		return "", man, err
	}
	m.bucket.Memo.Drop(manifest.SegmentKey(man.Dir, old.Object, manifest.IndexSuffix))
	man, err = m.current(ctx, p, false)
	return next.Object, man, err
}

// logSource returns the bytes of a segment: the local log's when the object is bad, else the object's own.
func (m *Manager) logSource(ctx context.Context, dir string, l *leadership, e *manifest.Entry, d bucket.Damage) (object.Body, func(), error) {
	if !d.Log {
		return &storeBody{m: m, ctx: ctx, key: manifest.SegmentKey(dir, e.Object, manifest.LogSuffix), size: e.Bytes}, func() {}, nil
	}
	body, release, err := gather(l.log, e)
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

// indexSource returns the index object and notes what it is in next: a new one when the old is bad, else the old.
func (m *Manager) indexSource(ctx context.Context, dir string, l *leadership, next *manifest.Entry, old string, d bucket.Damage) ([]byte, error) {
	if !d.Index {
		b, err := m.bucket.GetAll(ctx, manifest.SegmentKey(dir, old, manifest.IndexSuffix), next.IndexBytes)
		if err == nil && bucket.Checksum(b) != uint32(next.IndexCRC32C) {
			err = fmt.Errorf("index object: %w", manifest.ErrCorrupt)
		}
		return b, err
	}
	for _, s := range l.log.Sealed(next.LastOffset) {
		if s.LastOffset != next.LastOffset || s.BaseOffset > next.BaseOffset {
			break
		}
		seg, err := l.log.OpenSealed(s.BaseOffset)
		if err != nil {
			return nil, err
		}
		defer seg.Release()
		entry, index, _, err := describe(seg, s, next.BaseOffset)
		if err != nil {
			return nil, err
		}
		if entry.CRC32C != next.CRC32C || entry.Bytes != next.Bytes {
			return nil, fmt.Errorf("the local segment has other bytes, checksum %08x, want %08x: %w", uint32(entry.CRC32C), uint32(next.CRC32C), errNoSource)
		}
		next.IndexBytes, next.IndexHead, next.IndexCRC32C, next.Aborted = entry.IndexBytes, entry.IndexHead, entry.IndexCRC32C, entry.Aborted
		next.AbortedFrom, next.AbortedStable = entry.AbortedFrom, entry.AbortedStable
		return index, nil
	}
	return nil, fmt.Errorf("no local segment ends at offset %d, so its index cannot be made again: %w", next.LastOffset, errNoSource)
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
			size, e.BaseOffset, e.LastOffset, sum, e.Bytes, uint32(e.CRC32C), errNoSource)
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
	m    *Manager
	ctx  context.Context // of the one copy that this body belongs to
	key  string
	size int64
}

// Size implements object.Body.
func (s *storeBody) Size() int64 { return s.size }

// ReadAt implements io.ReaderAt.
func (s *storeBody) ReadAt(b []byte, off int64) (int, error) {
	want := b[:min(int64(len(b)), s.size-off)]
	ctx, cancel := context.WithTimeout(s.ctx, s.m.o.Stall)
	defer cancel()
	n, err := object.ReadFull(ctx, s.m.bucket.Store, s.m.bucket.Prefix+s.key, off, want)
	if err == nil && len(want) < len(b) {
		err = io.EOF
	}
	return n, err
}

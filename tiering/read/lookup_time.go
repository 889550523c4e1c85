package read

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// OffsetForTimestamp returns the first record of the tier with a timestamp of at least ts (milliseconds), among those
// from offset from on, which is the log's start as the caller knows it; false when there is none.
//
// The manifest leads to the segment and its cuts to the one piece of it that holds the record: a run of batches of
// at most 256 KiB, or one larger batch. That piece is read, unless its chunk is in the cache. Less will not do for an
// exact answer: the timestamps of records are known only inside their batch, compressed, and an index of batches
// would be an object to read as well, as far away as the piece.
func (r *Reader) OffsetForTimestamp(ctx context.Context, tip metadata.TopicIDPartition, ts, from int64) (found segment.TimestampOffset, ok bool, err error) {
	err = r.lookup(ctx, tip, func(man bucket.Manifest) error {
		found, ok = segment.TimestampOffset{}, false
		floor := max(from, man.Root.LogStartOffset)
		for at := max(floor, man.Root.StartOffset); at < man.Root.EndOffset; {
			entry, err := man.FindTime(ctx, ts, at)
			if err != nil || entry == nil {
				return err
			}
			if found, ok, err = r.timeInSegment(ctx, man, entry, ts, floor); ok || err != nil {
				return err
			}
			at = entry.LastOffset + 1 // only markers, or records below the floor, qualified
		}
		return nil
	})
	return found, ok && err == nil, err
}

// timeInSegment looks into the first piece that can hold the record, and should it hold none, as when only a marker
// of a transaction is that new, into what follows, chunk by chunk.
func (r *Reader) timeInSegment(ctx context.Context, man bucket.Manifest, entry *manifest.Entry, ts, floor int64) (found segment.TimestampOffset, ok bool, err error) {
	seg, err := r.segmentWithCuts(ctx, man.Dir, entry)
	if err != nil {
		return found, false, err
	}
	cuts := seg.Head.Cuts
	i := sort.Search(len(cuts), func(i int) bool { return cuts[i].MaxTimestamp >= ts })
	i = max(i, sort.Search(len(cuts), func(i int) bool { return cuts[i].Offset > floor })-1)
	if i == len(cuts) {
		return found, false, nil
	}
	want := timeQuery{ts: ts, floor: floor}
	if found, ok, err = r.timeInPiece(ctx, seg, i, want); ok || err != nil {
		return found, ok, err
	}
	for c := seg.ChunkOf(cuts[i].Offset); c < len(seg.Chunks); c++ {
		pin, err := r.chunk(ctx, seg, c)
		if err != nil {
			return found, false, err
		}
		found, ok, err = want.in(pin.Bytes(), seg.Object)
		pin.Release()
		if ok || err != nil {
			return found, ok, err
		}
	}
	return found, false, nil
}

// segmentWithCuts is segment with the whole table of cuts, which readers do not need: some 100 KiB of a segment of
// a gigabyte.
func (r *Reader) segmentWithCuts(ctx context.Context, dir string, e *manifest.Entry) (*bucket.Segment, error) {
	key := manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix)
	return bucket.Load(ctx, r.bucket.Memo, key+"#cuts", func(ctx context.Context) (*bucket.Segment, int64, error) {
		s, err := r.bucket.Segment(ctx, dir, e, r.o.ChunkBytes)
		if err != nil {
			return nil, 0, err
		}
		if !r.bucket.Memo.Has(key) { // who asks for a time reads from there next
			plain, head := *s, *s.Head
			head.Cuts, plain.Head = nil, &head
			r.bucket.Memo.Put(key, &plain, plain.Weight())
		}
		return s, s.Weight(), nil
	})
}

// timeInPiece looks into the piece between cut i and the next one.
func (r *Reader) timeInPiece(ctx context.Context, seg *bucket.Segment, i int, want timeQuery) (segment.TimestampOffset, bool, error) {
	cut, end := seg.Head.Cuts[i], seg.Head.LogBytes
	if i+1 < len(seg.Head.Cuts) {
		end = seg.Head.Cuts[i+1].Position
	}
	n := seg.ChunkOf(cut.Offset)
	whole := seg.Chunks[n]
	if pin, there := r.cache.Lookup(readerOf(ctx), chunkKey(seg, n)); there {
		defer pin.Release()
		return want.in(pin.Bytes()[cut.Position-whole.Position:], seg.Object)
	}
	part := index.Chunk{Position: cut.Position, Size: end - cut.Position, Offset: cut.Offset}
	key := partKey(seg, part)
	if part.Size == whole.Size {
		key = chunkKey(seg, n)
	}
	pin, err := r.piece(ctx, seg, key, part)
	if err != nil {
		return segment.TimestampOffset{}, false, err
	}
	defer pin.Release()
	return want.in(pin.Bytes(), seg.Object)
}

// timeQuery asks for the first record, from offset floor on, with a timestamp of at least ts.
type timeQuery struct{ ts, floor int64 }

// decompressLimit bounds what looking for a record may decompress.
const decompressLimit = 256 << 20

// errFound ends a walk over records.
var errFound = errors.New("found")

// in looks through checked batches. Markers of transactions do not count, as in the local log.
func (q timeQuery) in(b []byte, object string) (found segment.TimestampOffset, ok bool, err error) {
	err = eachRecord(b, object, func(batch record.Batch) bool {
		return batch.MaxTimestamp() >= q.ts && batch.LastOffset() >= q.floor
	}, func(batch record.Batch, r record.Record) error {
		if r.Timestamp < q.ts || r.Offset < q.floor {
			return nil
		}
		found, ok = segment.TimestampOffset{Timestamp: r.Timestamp, Offset: r.Offset, LeaderEpoch: batch.LeaderEpoch()}, true
		return errFound
	})
	return found, ok, err
}

// eachRecord calls fn for the records of those batches that might be wanted, until it returns errFound.
func eachRecord(b []byte, object string, might func(record.Batch) bool, fn func(record.Batch, record.Record) error) error {
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return &bucket.ObjectError{Op: "read", Object: object, Err: err}
		}
		b = rest
		if batch.IsControl() || !might(batch) {
			continue
		}
		err = batch.Each(record.NewDecompressor(decompressLimit), func(r record.Record) error { return fn(batch, r) })
		switch {
		case errors.Is(err, errFound):
			return nil
		case err != nil:
			return &bucket.ObjectError{Op: "read", Object: object, Err: fmt.Errorf("batch at offset %d: %w", batch.BaseOffset(), err)}
		}
	}
	return nil
}

// MaxTimestamp returns the first record with the highest timestamp of the tier from offset from on, from the manifest
// alone. Only where from, the log's start, lies inside a segment whose highest timestamp was below it must the rest
// of that segment be read; that takes timestamps that fall.
func (r *Reader) MaxTimestamp(ctx context.Context, tip metadata.TopicIDPartition, from int64) (found segment.TimestampOffset, ok bool, err error) {
	err = r.lookup(ctx, tip, func(man bucket.Manifest) error {
		found, ok = segment.TimestampOffset{}, false
		floor := max(from, man.Root.LogStartOffset, man.Root.StartOffset)
		if floor >= man.Root.EndOffset {
			return nil
		}
		best, err := man.MaxTimestamp(ctx, floor)
		if err != nil {
			return err
		}
		if best == nil || best.MaxTimestamp <= man.NewestAround(floor) {
			first, err := man.Find(ctx, floor)
			switch {
			case err != nil:
				return err
			case first.BaseOffset >= floor || !manifest.Newer(first.MaxTimestamp, first.BaseOffset, best):
			case first.MaxTimestampOffset >= floor:
				best = first
			default:
				found, ok, err = r.newestInRest(ctx, man, first, floor)
			}
			if err != nil {
				return err
			}
		}
		if best != nil && (!ok || best.MaxTimestamp > found.Timestamp) {
			epoch, _ := best.Epochs.At(best.MaxTimestampOffset)
			found, ok = segment.TimestampOffset{Timestamp: best.MaxTimestamp, Offset: best.MaxTimestampOffset, LeaderEpoch: epoch}, true
		}
		return nil
	})
	return found, ok && err == nil, err
}

// newestInRest reads a segment from offset floor on.
func (r *Reader) newestInRest(ctx context.Context, man bucket.Manifest, entry *manifest.Entry, floor int64) (best segment.TimestampOffset, ok bool, err error) {
	seg, err := r.segment(ctx, man.Dir, entry)
	if err != nil {
		return best, false, err
	}
	for c := seg.ChunkOf(floor); c < len(seg.Chunks); c++ {
		pin, err := r.chunk(ctx, seg, c)
		if err != nil {
			return best, false, err
		}
		err = eachRecord(pin.Bytes(), seg.Object, func(batch record.Batch) bool {
			return batch.LastOffset() >= floor && (!ok || batch.MaxTimestamp() > best.Timestamp)
		}, func(batch record.Batch, r record.Record) error {
			if r.Offset >= floor && (!ok || r.Timestamp > best.Timestamp) {
				best, ok = segment.TimestampOffset{Timestamp: r.Timestamp, Offset: r.Offset, LeaderEpoch: batch.LeaderEpoch()}, true
			}
			return nil
		})
		pin.Release()
		if err != nil {
			return best, false, err
		}
	}
	return best, ok, nil
}

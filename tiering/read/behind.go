package read

import (
	"context"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
)

// Behind returns how many bytes of segments lie in the tier from offset on, and when the record at offset was made, in
// milliseconds: 0 and -1 at the tier's end and behind it, -1 also for records without a time. Offsets before the tier
// are taken for its start. No record is read: manifest and index know where chunks of a segment begin and the largest
// timestamp up to the end of each (see Options.ChunkBytes), and what lies within one is told in proportion of offsets.
func (r *Reader) Behind(ctx context.Context, tip metadata.TopicIDPartition, offset int64) (bytes, timestamp int64, err error) {
	timestamp = -1
	err = r.lookup(ctx, tip, func(man bucket.Manifest) error {
		bytes, timestamp = 0, -1
		at := max(offset, man.Root.StartOffset)
		if at >= man.Root.EndOffset {
			return nil
		}
		entry, after, before, err := man.Measure(ctx, at)
		if err != nil {
			return err
		}
		seg, err := r.segment(ctx, man.Dir, entry)
		if err != nil {
			return err
		}
		within, ts := behind(seg, at, before)
		bytes, timestamp = after+within, ts
		return nil
	})
	return bytes, timestamp, err
}

// behind returns the bytes of s from offset on and the time of the record at offset; before is the time of what
// comes before s.
func behind(s *bucket.Segment, offset, before int64) (bytes, timestamp int64) {
	i := s.ChunkOf(offset)
	c := s.Chunks[i]
	next, size := s.Entry.LastOffset+1, c.Size
	if i+1 < len(s.Chunks) {
		next = s.Chunks[i+1].Offset
	}
	if i > 0 {
		before = s.Chunks[i-1].MaxTimestamp
	}
	part := 0.0 // of the chunk that lies before offset
	if offset > c.Offset && next > c.Offset {
		part = float64(offset-c.Offset) / float64(next-c.Offset)
	}
	timestamp = c.MaxTimestamp
	if before >= 0 && before < c.MaxTimestamp {
		timestamp = before + int64(part*float64(c.MaxTimestamp-before))
	}
	return s.Entry.Bytes - c.Position - int64(part*float64(size)), timestamp
}

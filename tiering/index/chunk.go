package index

import (
	"fmt"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Chunk is a run of whole batches of a segment's object: what one ranged read fetches and the cache keeps. Chunks
// are unions of the pieces between the cuts of the index, so every batch lies in one chunk and can be checked
// when the chunk comes in, and the same object always has the same chunks.
type Chunk struct {
	Position, Size int64
	Offset         int64 // base offset of its first batch
	MaxTimestamp   int64 // highest timestamp of all batches up to its end
}

// Chunks joins neighbouring pieces to chunks of at most limit bytes; a larger piece is a chunk of its own.
func Chunks(cuts []Cut, size, limit int64) []Chunk {
	var out []Chunk
	for i, c := range cuts {
		end := size
		if i+1 < len(cuts) {
			end = cuts[i+1].Position
		}
		if n := len(out); n > 0 && end-out[n-1].Position <= limit {
			out[n-1].Size, out[n-1].MaxTimestamp = end-out[n-1].Position, c.MaxTimestamp
			continue
		}
		out = append(out, Chunk{Position: c.Position, Size: end - c.Position, Offset: c.Offset, MaxTimestamp: c.MaxTimestamp})
	}
	return out
}

// CheckBatches checks every batch: its checksum, and that offsets rise from first and stay within last.
func CheckBatches(b []byte, first, last int64) error {
	next := first
	for n := 0; len(b) > 0; n++ {
		batch, rest, err := record.Next(b)
		switch {
		case err != nil:
		case n == 0 && batch.BaseOffset() != first, batch.BaseOffset() < next, batch.LastOffset() > last:
			err = fmt.Errorf("batch of offsets %d to %d, want %d up to %d", batch.BaseOffset(), batch.LastOffset(), next, last)
		default:
			err = batch.Verify()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", manifest.ErrCorrupt, err)
		}
		next, b = batch.LastOffset()+1, rest
	}
	return nil
}

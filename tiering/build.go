package tiering

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// decompressLimit bounds what finding the record with the highest timestamp may decompress.
const decompressLimit = 256 << 20

// scan is told of each batch of a sealed segment, its checksum verified, by SealedSegment.Scan. It checks their
// order, sums the bytes and notes what the entry and the index need. Batches before offset from are left out.
type scan struct {
	from, last int64 // offsets of the slice
	interval   int64 // bytes between cuts

	start    int64 // position of the slice in the segment's file, -1 until found
	end      int64
	next     int64 // offset after the last batch
	crc      uint32
	maxTS    int64
	maxAt    [2]int64 // position in the file and size of the first batch that has maxTS
	lastCut  int64
	cuts     []Cut
	epochs   manifest.Lineage
	anything bool
}

// cutInterval keeps the table of cuts around a thousand entries, and no chunk smaller than worth a request.
func cutInterval(size int64) int64 { return min(max(size/1024, 1<<10), maxCutInterval) }

// maxCutInterval is the most bytes of several batches between two cuts.
const maxCutInterval = 256 << 10

func (s *scan) batch(b record.Batch, pos int64) error {
	if b.LastOffset() < s.from {
		return nil
	}
	switch {
	case !s.anything && b.BaseOffset() < s.from:
		return fmt.Errorf("a batch of offsets %d to %d straddles the tier's end %d: %w", b.BaseOffset(), b.LastOffset(), s.from, manifest.ErrDiverged)
	case s.anything && (pos != s.end || b.BaseOffset() < s.next), b.LastOffset() > s.last || b.LastOffset() < b.BaseOffset():
		return fmt.Errorf("batch of offsets %d to %d at position %d: %w", b.BaseOffset(), b.LastOffset(), pos, manifest.ErrCorrupt)
	}
	if !s.anything {
		s.anything, s.start, s.lastCut = true, pos, pos
		s.maxTS = b.MaxTimestamp()
		s.maxAt = [2]int64{pos, int64(b.Size())}
		s.cuts = append(s.cuts, Cut{Offset: b.BaseOffset(), Position: 0})
	} else if pos+int64(b.Size())-s.lastCut > s.interval {
		// The batch that would make the piece too long starts the next one; maximum so far belongs to the last.
		s.cuts[len(s.cuts)-1].MaxTimestamp = s.maxTS
		s.cuts = append(s.cuts, Cut{Offset: b.BaseOffset(), Position: pos - s.start})
		s.lastCut = pos
	}
	if b.MaxTimestamp() > s.maxTS {
		s.maxTS = b.MaxTimestamp()
		s.maxAt = [2]int64{pos, int64(b.Size())}
	}
	if n := len(s.epochs); n == 0 || b.LeaderEpoch() != s.epochs[n-1].Epoch {
		start := b.BaseOffset()
		if n == 0 {
			start = s.from // offsets before the first batch, if any, hold nothing
		}
		s.epochs = append(s.epochs, manifest.EpochEntry{Epoch: b.LeaderEpoch(), StartOffset: start})
	}
	s.crc = crc32.Update(s.crc, castagnoli, b)
	s.end, s.next = pos+int64(b.Size()), b.LastOffset()+1
	return nil
}

func (s *scan) finish() error {
	if !s.anything {
		return fmt.Errorf("no batch from offset %d to %d: %w", s.from, s.last, manifest.ErrCorrupt)
	}
	s.cuts[len(s.cuts)-1].MaxTimestamp = s.maxTS
	return nil
}

// timestampOffset finds the first record with the highest timestamp in the batch b. A batch that does not
// decompress answers with its last offset, as Kafka's shallow search does.
func timestampOffset(b record.Batch, ts int64) int64 {
	found := int64(-1)
	err := b.Each(record.NewDecompressor(decompressLimit), func(r record.Record) error {
		if found < 0 && r.Timestamp >= ts {
			found = r.Offset
		}
		return nil
	})
	if err != nil || found < 0 {
		return b.LastOffset()
	}
	return found
}

// sliceIndex re-bases Kafka's offset index from a segment to the slice of it that starts at base, position start.
func sliceOffsetIndex(b []byte, old, base, start int64) []byte {
	out := make([]byte, 0, len(b))
	for ; len(b) >= offsetEntryBytes; b = b[offsetEntryBytes:] {
		offset := old + int64(binary.BigEndian.Uint32(b))
		pos := int64(binary.BigEndian.Uint32(b[4:]))
		if pos < start || offset < base {
			continue
		}
		out = binary.BigEndian.AppendUint32(out, uint32(offset-base))
		out = binary.BigEndian.AppendUint32(out, uint32(pos-start))
	}
	return out
}

func sliceTimeIndex(b []byte, old, base int64) []byte {
	out := make([]byte, 0, len(b))
	for ; len(b) >= timeEntryBytes; b = b[timeEntryBytes:] {
		if offset := old + int64(binary.BigEndian.Uint32(b[8:])); offset >= base {
			out = append(out, b[:8]...)
			out = binary.BigEndian.AppendUint32(out, uint32(offset-base))
		}
	}
	return out
}

// txnEntry is one entry of Kafka's transaction index: version 2, producer id 8, first, last, last stable offset 8.
func txnEntry(b []byte) segment.AbortedTxn {
	be := binary.BigEndian
	return segment.AbortedTxn{
		ProducerID: int64(be.Uint64(b[2:])), FirstOffset: int64(be.Uint64(b[10:])),
		LastOffset: int64(be.Uint64(b[18:])), LastStableOffset: int64(be.Uint64(b[26:])),
	}
}

func sliceTxnIndex(b []byte, base int64) []byte {
	out := make([]byte, 0, len(b))
	for ; len(b) >= txnEntryBytes; b = b[txnEntryBytes:] {
		if txnEntry(b).LastOffset >= base {
			out = append(out, b[:txnEntryBytes]...)
		}
	}
	return out
}

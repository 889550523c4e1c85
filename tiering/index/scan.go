package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// decompressLimit bounds what finding the record with the highest timestamp may decompress.
const decompressLimit = 256 << 20

// Scan is told of each batch of a sealed segment, its checksum verified, in the order of the file. It checks their
// order, sums the bytes and notes what the entry and the index need. Batches before offset from are left out.
type Scan struct {
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

// NewScan begins the scan of offsets from to last of a segment of size bytes.
func NewScan(from, last, size int64) *Scan {
	return &Scan{from: from, last: last, interval: cutInterval(size), start: -1}
}

// cutInterval keeps the table of cuts around a thousand entries, and no chunk smaller than worth a request.
func cutInterval(size int64) int64 { return min(max(size/1024, 1<<10), MaxCutInterval) }

// MaxCutInterval is the most bytes of several batches between two cuts.
const MaxCutInterval = 256 << 10

// Batch takes the batch at position pos of the segment's file.
func (s *Scan) Batch(b record.Batch, pos int64) error {
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

// Finish ends the scan; one that saw no batch is an error.
func (s *Scan) Finish() error {
	if !s.anything {
		return fmt.Errorf("no batch from offset %d to %d: %w", s.from, s.last, manifest.ErrCorrupt)
	}
	s.cuts[len(s.cuts)-1].MaxTimestamp = s.maxTS
	return nil
}

// Newest is the position in the segment's file and the size of the first batch that has the highest timestamp.
func (s *Scan) Newest() (at, size int64) { return s.maxAt[0], s.maxAt[1] }

// Extent is where the slice lies in the segment's file.
func (s *Scan) Extent() (at, size int64) { return s.start, s.end - s.start }

// Build makes the index object of what was scanned and the manifest's entry for it, which has no name yet. x has what
// the log's own files say of the segment that starts at offset base; top is the batch that newest found.
func (s *Scan) Build(base int64, x *Index, top record.Batch) (manifest.Entry, []byte, error) {
	x.BaseOffset, x.LastOffset, x.LogBytes, x.LogCRC32C = s.from, s.last, s.end-s.start, manifest.CRC(s.crc)
	x.MaxTimestamp, x.Cuts = s.maxTS, s.cuts
	x.Txn = sliceTxnIndex(x.Txn, s.from)
	if s.from != base {
		x.Offset = sliceOffsetIndex(x.Offset, base, s.from, s.start)
		x.Time = sliceTimeIndex(x.Time, base, s.from)
	}
	if len(x.Epochs) == 0 {
		x.Epochs = s.epochs
	}
	encoded, head, err := x.Encode()
	if err != nil {
		return manifest.Entry{}, nil, err
	}
	abortedFrom, abortedStable := abortedSpan(x.Txn)
	return manifest.Entry{
		AbortedFrom: abortedFrom, AbortedStable: abortedStable,
		BaseOffset: s.from, LastOffset: s.last, MaxTimestamp: s.maxTS, MaxTimestampOffset: timestampOffset(top, s.maxTS),
		Bytes: s.end - s.start, CRC32C: manifest.CRC(s.crc), IndexBytes: int64(len(encoded)), IndexHead: head,
		IndexCRC32C: manifest.CRC(crc32.Checksum(encoded, castagnoli)), Epochs: s.epochs, Aborted: len(x.Txn) > 0,
	}, encoded, nil
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

// sliceOffsetIndex re-bases Kafka's offset index from a segment to the slice of it that starts at base, position start.
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

// sliceTimeIndex does the same for the time index.
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

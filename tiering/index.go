package tiering

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// The .idx object, big-endian:
//
//	 0  8  magic "CBRKIDX\n"
//	 8  2  version, 1
//	10  2  number of sections
//	12  4  head: bytes from the start that a cold read needs (this, the table, chunks and epochs)
//	16  8  base offset            24  8  last offset, inclusive
//	32  8  bytes of the .log      40  8  highest timestamp
//	48  4  CRC32C of the .log     52  4  zero
//	56  24 per section: type 2, zero 2, CRC32C 4, position 8, length 8
//	 …  4  CRC32C of all bytes before it
//	 …     the sections, in the order of the table, without gaps
//
// Sections: 1 chunks (16 bytes: relative offset 4, position 4, highest timestamp of all batches before the next
// cut 8) · 2 leader epochs (12 bytes: epoch 4, start offset 8; the whole lineage up to the segment's end) · 3
// Kafka's .txnindex · 4 Kafka's .snapshot at the segment's end · 5 Kafka's .index · 6 Kafka's .timeindex. A reader
// skips types it does not know.
const (
	indexMagic     = "CBRKIDX\n"
	indexVersion   = 1
	indexFixed     = 56
	indexTableItem = 24
	maxSections    = 16
	maxHeadBytes   = 2 << 20

	cutBytes         = 16
	epochBytes       = 12
	offsetEntryBytes = 8
	timeEntryBytes   = 12
	txnEntryBytes    = 34
)

// Section is the type of a part of an .idx object.
type Section uint16

// The sections of an .idx object.
const (
	SectionChunks Section = 1 + iota
	SectionEpochs
	SectionTxn
	SectionSnapshot
	SectionOffset
	SectionTime
)

// Cut is a batch border at which a segment may be divided for reading.
type Cut struct {
	Offset       int64 // base offset of the batch that starts here
	Position     int64
	MaxTimestamp int64 // highest of all batches from the segment's start to the next cut
}

// Index is the contents of an .idx object.
type Index struct {
	BaseOffset, LastOffset int64
	LogBytes               int64
	LogCRC32C              manifest.CRC
	MaxTimestamp           int64
	Cuts                   []Cut
	Epochs                 manifest.Lineage // lineage up to LastOffset
	Txn, Snapshot          []byte
	Offset, Time           []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type place struct {
	crc      uint32
	pos, len int64
}

// indexHead is what a cold read keeps of an .idx object.
type indexHead struct {
	base, last, logBytes, maxTimestamp int64
	logCRC                             manifest.CRC
	cuts                               []Cut
	epochs                             manifest.Lineage
	sections                           map[Section]place
}

// encode returns the object and the length of its head.
func (x *Index) encode() (b []byte, head int64, err error) {
	if err := x.validate(); err != nil {
		return nil, 0, err
	}
	parts := []struct {
		t Section
		b []byte
	}{
		{SectionChunks, x.encodeCuts()}, {SectionEpochs, encodeEpochs(x.Epochs)}, {SectionTxn, x.Txn},
		{SectionSnapshot, x.Snapshot}, {SectionOffset, x.Offset}, {SectionTime, x.Time},
	}
	table := indexFixed + indexTableItem*len(parts) + 4
	total := table
	for _, p := range parts {
		total += len(p.b)
	}
	head = int64(table + len(parts[0].b) + len(parts[1].b))
	if total > manifest.MaxIndexBytes || head > maxHeadBytes {
		return nil, 0, fmt.Errorf("index of %d bytes with a head of %d: want at most %d and %d", total, head, manifest.MaxIndexBytes, maxHeadBytes)
	}
	be := binary.BigEndian
	b = make([]byte, 0, total)
	b = append(b, indexMagic...)
	b = be.AppendUint16(b, indexVersion)
	b = be.AppendUint16(b, uint16(len(parts)))
	b = be.AppendUint32(b, uint32(head))
	b = be.AppendUint64(b, uint64(x.BaseOffset))
	b = be.AppendUint64(b, uint64(x.LastOffset))
	b = be.AppendUint64(b, uint64(x.LogBytes))
	b = be.AppendUint64(b, uint64(x.MaxTimestamp))
	b = be.AppendUint32(b, uint32(x.LogCRC32C))
	b = be.AppendUint32(b, 0)
	pos := table
	for _, p := range parts {
		b = be.AppendUint16(b, uint16(p.t))
		b = be.AppendUint16(b, 0)
		b = be.AppendUint32(b, crc32.Checksum(p.b, castagnoli))
		b = be.AppendUint64(b, uint64(pos))
		b = be.AppendUint64(b, uint64(len(p.b)))
		pos += len(p.b)
	}
	b = be.AppendUint32(b, crc32.Checksum(b, castagnoli))
	for _, p := range parts {
		b = append(b, p.b...)
	}
	return b, head, nil
}

func (x *Index) validate() error {
	if err := validCuts(x.Cuts, x.BaseOffset, x.LastOffset, x.LogBytes, x.MaxTimestamp); err != nil {
		return err
	}
	if err := manifest.ValidEpochs(x.Epochs, x.LastOffset+1); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		b    []byte
		unit int
	}{{"offset index", x.Offset, offsetEntryBytes}, {"time index", x.Time, timeEntryBytes}, {"transaction index", x.Txn, txnEntryBytes}} {
		if len(s.b)%s.unit != 0 {
			return fmt.Errorf("%s of %d bytes: %w", s.name, len(s.b), manifest.ErrCorrupt)
		}
	}
	return nil
}

func validCuts(cuts []Cut, base, last, size, maxTS int64) error {
	if base < 0 || last < base || last == math.MaxInt64 || size <= 0 || size > manifest.MaxEntryBytes || len(cuts) == 0 {
		return fmt.Errorf("index of offsets %d to %d, %d bytes, %d cuts: %w", base, last, size, len(cuts), manifest.ErrCorrupt)
	}
	for i, c := range cuts {
		bad := c.Offset < base || c.Offset > last || c.Position < 0 || c.Position >= size || c.MaxTimestamp > maxTS
		if i == 0 {
			bad = bad || c.Position != 0
		} else {
			p := cuts[i-1]
			bad = bad || c.Offset <= p.Offset || c.Position <= p.Position || c.MaxTimestamp < p.MaxTimestamp
		}
		if bad {
			return fmt.Errorf("cut %d at offset %d, position %d: %w", i, c.Offset, c.Position, manifest.ErrCorrupt)
		}
	}
	if cuts[len(cuts)-1].MaxTimestamp != maxTS {
		return fmt.Errorf("highest timestamp %d, want %d: %w", cuts[len(cuts)-1].MaxTimestamp, maxTS, manifest.ErrCorrupt)
	}
	return nil
}

func (x *Index) encodeCuts() []byte {
	b := make([]byte, 0, cutBytes*len(x.Cuts))
	for _, c := range x.Cuts {
		b = binary.BigEndian.AppendUint32(b, uint32(c.Offset-x.BaseOffset))
		b = binary.BigEndian.AppendUint32(b, uint32(c.Position))
		b = binary.BigEndian.AppendUint64(b, uint64(c.MaxTimestamp))
	}
	return b
}

func encodeEpochs(l manifest.Lineage) []byte {
	b := make([]byte, 0, epochBytes*len(l))
	for _, e := range l {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.StartOffset))
	}
	return b
}

// decodeIndexHead reads the head of an .idx object of size bytes in all. b is not kept.
func decodeIndexHead(b []byte, size int64) (*indexHead, error) {
	be := binary.BigEndian
	switch {
	case len(b) < indexFixed || string(b[:8]) != indexMagic:
		return nil, fmt.Errorf("index of %d bytes: no magic: %w", len(b), manifest.ErrCorrupt)
	case be.Uint16(b[8:]) != indexVersion:
		return nil, fmt.Errorf("index version %d: %w", be.Uint16(b[8:]), manifest.ErrVersion)
	}
	n := int(be.Uint16(b[10:]))
	table := indexFixed + indexTableItem*n
	if n > maxSections || len(b) < table+4 || be.Uint32(b[52:]) != 0 {
		return nil, fmt.Errorf("index of %d sections in %d bytes: %w", n, len(b), manifest.ErrCorrupt)
	}
	if got, want := crc32.Checksum(b[:table], castagnoli), be.Uint32(b[table:]); got != want {
		return nil, fmt.Errorf("index table: checksum %08x, want %08x: %w", got, want, manifest.ErrCorrupt)
	}
	head := int64(be.Uint32(b[12:]))
	if head != int64(len(b)) || head > maxHeadBytes {
		return nil, fmt.Errorf("index head of %d bytes, have %d: %w", head, len(b), manifest.ErrCorrupt)
	}
	h := &indexHead{
		base: int64(be.Uint64(b[16:])), last: int64(be.Uint64(b[24:])), logBytes: int64(be.Uint64(b[32:])),
		maxTimestamp: int64(be.Uint64(b[40:])), logCRC: manifest.CRC(be.Uint32(b[48:])), sections: make(map[Section]place, n),
	}
	next := int64(table + 4)
	for i := range n {
		item := b[indexFixed+indexTableItem*i:]
		t := Section(be.Uint16(item))
		p := place{crc: be.Uint32(item[4:]), pos: int64(be.Uint64(item[8:])), len: int64(be.Uint64(item[16:]))}
		if _, twice := h.sections[t]; twice || be.Uint16(item[2:]) != 0 || p.pos != next || p.len < 0 || p.len > size-next {
			return nil, fmt.Errorf("index section %d at %d of %d bytes: %w", t, p.pos, p.len, manifest.ErrCorrupt)
		}
		next += p.len
		h.sections[t] = p
	}
	if next != size {
		return nil, fmt.Errorf("index of %d bytes, want %d: %w", size, next, manifest.ErrCorrupt)
	}
	return h, h.decodeParts(b)
}

func (h *indexHead) decodeParts(b []byte) error {
	cuts, err := h.part(b, SectionChunks, cutBytes)
	if err != nil {
		return err
	}
	h.cuts = make([]Cut, len(cuts)/cutBytes)
	for i := range h.cuts {
		c := cuts[i*cutBytes:]
		h.cuts[i] = Cut{
			Offset:       h.base + int64(binary.BigEndian.Uint32(c)),
			Position:     int64(binary.BigEndian.Uint32(c[4:])),
			MaxTimestamp: int64(binary.BigEndian.Uint64(c[8:])),
		}
	}
	if err := validCuts(h.cuts, h.base, h.last, h.logBytes, h.maxTimestamp); err != nil {
		return err
	}
	epochs, err := h.part(b, SectionEpochs, epochBytes)
	if err != nil {
		return err
	}
	h.epochs = make(manifest.Lineage, len(epochs)/epochBytes)
	for i := range h.epochs {
		e := epochs[i*epochBytes:]
		h.epochs[i] = manifest.EpochEntry{Epoch: int32(binary.BigEndian.Uint32(e)), StartOffset: int64(binary.BigEndian.Uint64(e[4:]))}
	}
	return manifest.ValidEpochs(h.epochs, h.last+1)
}

// part returns a section that lies in the head, checked.
func (h *indexHead) part(b []byte, t Section, unit int64) ([]byte, error) {
	p, ok := h.sections[t]
	if !ok || p.pos+p.len > int64(len(b)) || p.len%unit != 0 {
		return nil, fmt.Errorf("index section %d of %d bytes: %w", t, p.len, manifest.ErrCorrupt)
	}
	part := b[p.pos : p.pos+p.len]
	return part, h.check(t, part)
}

// check verifies the bytes of a section.
func (h *indexHead) check(t Section, b []byte) error {
	if got, want := crc32.Checksum(b, castagnoli), h.sections[t].crc; got != want {
		return fmt.Errorf("index section %d: checksum %08x, want %08x: %w", t, got, want, manifest.ErrCorrupt)
	}
	return nil
}

// DecodeIndex reads a whole .idx object. The sections are views of b.
func DecodeIndex(b []byte) (*Index, error) {
	if len(b) > manifest.MaxIndexBytes || len(b) < indexFixed {
		return nil, fmt.Errorf("index of %d bytes: %w", len(b), manifest.ErrCorrupt)
	}
	head := int64(binary.BigEndian.Uint32(b[12:]))
	if head > int64(len(b)) {
		return nil, fmt.Errorf("index of %d bytes with a head of %d: %w", len(b), head, manifest.ErrCorrupt)
	}
	h, err := decodeIndexHead(b[:head], int64(len(b)))
	if err != nil {
		return nil, err
	}
	x := &Index{
		BaseOffset: h.base, LastOffset: h.last, LogBytes: h.logBytes, LogCRC32C: h.logCRC,
		MaxTimestamp: h.maxTimestamp, Cuts: h.cuts, Epochs: h.epochs,
	}
	for t, into := range map[Section]*[]byte{SectionTxn: &x.Txn, SectionSnapshot: &x.Snapshot, SectionOffset: &x.Offset, SectionTime: &x.Time} {
		p := h.sections[t]
		if *into = b[p.pos : p.pos+p.len]; p.len > 0 {
			if err := h.check(t, *into); err != nil {
				return nil, err
			}
		}
	}
	return x, x.validate()
}

package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Bounds and sizes of the format.
const (
	magic        = "CBRKIDX\n"
	version      = 1
	fixedBytes   = 56
	tableItem    = 24
	maxSections  = 16
	maxHeadBytes = 2 << 20

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

type place struct {
	crc            uint32
	Position, Size int64
}

// Head is what a cold read keeps of an .idx object.
type Head struct {
	BaseOffset, LastOffset, LogBytes, maxTimestamp int64
	LogCRC32C                                      manifest.CRC
	Cuts                                           []Cut
	Epochs                                         manifest.Lineage
	Sections                                       map[Section]place
}

// Encode returns the object and the length of its head.
func (x *Index) Encode() (b []byte, head int64, err error) {
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
	table := fixedBytes + tableItem*len(parts) + 4
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
	b = append(b, magic...)
	b = be.AppendUint16(b, version)
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

// DecodeHead reads the head of an .idx object of size bytes in all. b is not kept.
func DecodeHead(b []byte, size int64) (*Head, error) {
	be := binary.BigEndian
	switch {
	case len(b) < fixedBytes || string(b[:8]) != magic:
		return nil, fmt.Errorf("index of %d bytes: no magic: %w", len(b), manifest.ErrCorrupt)
	case be.Uint16(b[8:]) > version:
		return nil, &manifest.VersionError{Format: "coldbrook.segment.index", Version: int(be.Uint16(b[8:])), Newest: version}
	case be.Uint16(b[8:]) != version:
		return nil, fmt.Errorf("index of version %d: %w", be.Uint16(b[8:]), manifest.ErrCorrupt)
	}
	n := int(be.Uint16(b[10:]))
	table := fixedBytes + tableItem*n
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
	h := &Head{
		BaseOffset: int64(be.Uint64(b[16:])), LastOffset: int64(be.Uint64(b[24:])), LogBytes: int64(be.Uint64(b[32:])),
		maxTimestamp: int64(be.Uint64(b[40:])), LogCRC32C: manifest.CRC(be.Uint32(b[48:])), Sections: make(map[Section]place, n),
	}
	next := int64(table + 4)
	for i := range n {
		item := b[fixedBytes+tableItem*i:]
		t := Section(be.Uint16(item))
		p := place{crc: be.Uint32(item[4:]), Position: int64(be.Uint64(item[8:])), Size: int64(be.Uint64(item[16:]))}
		if _, twice := h.Sections[t]; twice || be.Uint16(item[2:]) != 0 || p.Position != next || p.Size < 0 || p.Size > size-next {
			return nil, fmt.Errorf("index section %d at %d of %d bytes: %w", t, p.Position, p.Size, manifest.ErrCorrupt)
		}
		next += p.Size
		h.Sections[t] = p
	}
	if next != size {
		return nil, fmt.Errorf("index of %d bytes, want %d: %w", size, next, manifest.ErrCorrupt)
	}
	return h, h.decodeParts(b)
}

func (h *Head) decodeParts(b []byte) error {
	cuts, err := h.part(b, SectionChunks, cutBytes)
	if err != nil {
		return err
	}
	h.Cuts = make([]Cut, len(cuts)/cutBytes)
	for i := range h.Cuts {
		c := cuts[i*cutBytes:]
		h.Cuts[i] = Cut{
			Offset:       h.BaseOffset + int64(binary.BigEndian.Uint32(c)),
			Position:     int64(binary.BigEndian.Uint32(c[4:])),
			MaxTimestamp: int64(binary.BigEndian.Uint64(c[8:])),
		}
	}
	if err := validCuts(h.Cuts, h.BaseOffset, h.LastOffset, h.LogBytes, h.maxTimestamp); err != nil {
		return err
	}
	epochs, err := h.part(b, SectionEpochs, epochBytes)
	if err != nil {
		return err
	}
	h.Epochs = make(manifest.Lineage, len(epochs)/epochBytes)
	for i := range h.Epochs {
		e := epochs[i*epochBytes:]
		h.Epochs[i] = manifest.EpochEntry{Epoch: int32(binary.BigEndian.Uint32(e)), StartOffset: int64(binary.BigEndian.Uint64(e[4:]))}
	}
	return manifest.ValidEpochs(h.Epochs, h.LastOffset+1)
}

// part returns a section that lies in the head, checked.
func (h *Head) part(b []byte, t Section, unit int64) ([]byte, error) {
	p, ok := h.Sections[t]
	if !ok || p.Position+p.Size > int64(len(b)) || p.Size%unit != 0 {
		return nil, fmt.Errorf("index section %d of %d bytes: %w", t, p.Size, manifest.ErrCorrupt)
	}
	part := b[p.Position : p.Position+p.Size]
	return part, h.Check(t, part)
}

// Section says where a section of the object lies; size is 0 where there is none.
func (h *Head) Section(t Section) (pos, size int64) {
	return h.Sections[t].Position, h.Sections[t].Size
}

// IsOf refuses the index of another segment than the entry's.
func (h *Head) IsOf(e *manifest.Entry) error {
	return isOf(e, h.BaseOffset, h.LastOffset, h.LogBytes, h.LogCRC32C)
}

// IsOf refuses the index of another segment than the entry's.
func (x *Index) IsOf(e *manifest.Entry) error {
	return isOf(e, x.BaseOffset, x.LastOffset, x.LogBytes, x.LogCRC32C)
}

func isOf(e *manifest.Entry, base, last, logBytes int64, logCRC manifest.CRC) error {
	if base != e.BaseOffset || last != e.LastOffset || logBytes != e.Bytes || logCRC != e.CRC32C {
		return fmt.Errorf("it describes offsets %d to %d: %w", base, last, manifest.ErrCorrupt)
	}
	return nil
}

// Check verifies the bytes of a section.
func (h *Head) Check(t Section, b []byte) error {
	if got, want := crc32.Checksum(b, castagnoli), h.Sections[t].crc; got != want {
		return fmt.Errorf("index section %d: checksum %08x, want %08x: %w", t, got, want, manifest.ErrCorrupt)
	}
	return nil
}

// Decode reads a whole .idx object. The sections are views of b.
func Decode(b []byte) (*Index, error) {
	if len(b) > manifest.MaxIndexBytes || len(b) < fixedBytes {
		return nil, fmt.Errorf("index of %d bytes: %w", len(b), manifest.ErrCorrupt)
	}
	head := int64(binary.BigEndian.Uint32(b[12:]))
	if head > int64(len(b)) {
		return nil, fmt.Errorf("index of %d bytes with a head of %d: %w", len(b), head, manifest.ErrCorrupt)
	}
	h, err := DecodeHead(b[:head], int64(len(b)))
	if err != nil {
		return nil, err
	}
	x := &Index{
		BaseOffset: h.BaseOffset, LastOffset: h.LastOffset, LogBytes: h.LogBytes, LogCRC32C: h.LogCRC32C,
		MaxTimestamp: h.maxTimestamp, Cuts: h.Cuts, Epochs: h.Epochs,
	}
	for t, into := range map[Section]*[]byte{SectionTxn: &x.Txn, SectionSnapshot: &x.Snapshot, SectionOffset: &x.Offset, SectionTime: &x.Time} {
		p := h.Sections[t]
		if *into = b[p.Position : p.Position+p.Size]; p.Size > 0 {
			if err := h.Check(t, *into); err != nil {
				return nil, err
			}
		}
	}
	return x, x.validate()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Producer is what an idempotent producer puts on a batch.
type Producer struct {
	ID           int64
	Epoch        int16
	BaseSequence int32
}

// BuilderOptions says what batches to build. The zero value makes plain,
// uncompressed batches from offset 0.
type BuilderOptions struct {
	Compression   Compression
	Producer      *Producer // nil: none
	Transactional bool
	Control       bool
	BaseOffset    int64
	LeaderEpoch   int32
	TimestampType TimestampType
	// LogAppendTime is the time, in milliseconds, of a batch of that type.
	LogAppendTime int64
}

// Builder builds batches record by record. It copies what it is given. Not safe
// for concurrent use.
type Builder struct {
	o       BuilderOptions
	buf     []byte // header, then records
	count   int32
	last    int32 // offset delta of the last record, -1: none
	base    int64 // timestamp of the first
	largest int64 // timestamp
}

// NewBuilder returns an empty Builder.
func NewBuilder(o BuilderOptions) *Builder {
	b := &Builder{o: o}
	b.clear()
	return b
}

func (b *Builder) clear() {
	if cap(b.buf) < HeaderSize {
		b.buf = make([]byte, HeaderSize, 1024)
	}
	b.buf = b.buf[:HeaderSize]
	b.count, b.last, b.base, b.largest = 0, -1, NoTimestamp, NoTimestamp
}

// Reset empties the Builder for a batch with other options; memory is kept.
func (b *Builder) Reset(o BuilderOptions) {
	b.o = o
	b.clear()
}

// Append adds a record with the next offset. The timestamp is in milliseconds; a
// nil key or value is null.
func (b *Builder) Append(timestamp int64, key, value []byte, headers ...Header) {
	b.append(b.last+1, timestamp, key, value, headers)
}

// AppendRecord adds a record with its own offset, which may leave a gap after the
// one before (compaction does) but lies behind it.
func (b *Builder) AppendRecord(r Record) error {
	delta := r.Offset - b.o.BaseOffset
	if delta <= int64(b.last) || delta > math.MaxInt32 {
		return fmt.Errorf("%w: offset %d after %d in a batch from %d", ErrInvalidRecord, r.Offset, b.NextOffset()-1, b.o.BaseOffset)
	}
	b.append(int32(delta), r.Timestamp, r.Key, r.Value, r.Headers)
	return nil
}

func (b *Builder) append(delta int32, timestamp int64, key, value []byte, headers []Header) {
	if b.count == 0 {
		b.base = timestamp
	}
	b.largest = max(b.largest, timestamp)
	b.last = delta
	b.count++
	size := 1 + varintSize(timestamp-b.base) + varintSize(int64(delta)) + bytesSize(key) + bytesSize(value) +
		varintSize(int64(len(headers)))
	for _, h := range headers {
		size += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	b.buf = slices.Grow(b.buf, size+5)
	b.buf = appendVarint(b.buf, int64(size))
	b.buf = append(b.buf, 0)
	b.buf = appendVarint(b.buf, timestamp-b.base)
	b.buf = appendVarint(b.buf, int64(delta))
	b.buf = appendBytes(b.buf, key)
	b.buf = appendBytes(b.buf, value)
	b.buf = appendVarint(b.buf, int64(len(headers)))
	for _, h := range headers {
		b.buf = appendVarint(b.buf, int64(len(h.Key)))
		b.buf = append(b.buf, h.Key...)
		b.buf = appendBytes(b.buf, h.Value)
	}
}

func bytesSize(p []byte) int {
	if p == nil {
		return 1
	}
	return varintSize(int64(len(p))) + len(p)
}

func appendBytes(b, p []byte) []byte {
	if p == nil {
		return append(b, 1) // zigzag of -1
	}
	return append(appendVarint(b, int64(len(p))), p...)
}

// Size returns the bytes of the batch so far, before compression.
func (b *Builder) Size() int { return len(b.buf) }

// Count returns the number of records so far.
func (b *Builder) Count() int { return int(b.count) }

// NextOffset returns the offset that Append would give.
func (b *Builder) NextOffset() int64 { return b.o.BaseOffset + int64(b.last) + 1 }

// Build returns the batch, freshly allocated, or nil if there is no record. The
// Builder keeps its records; Reset empties it.
func (b *Builder) Build() Batch {
	if b.count == 0 {
		return nil
	}
	var out Batch
	if b.o.Compression == None {
		out = slices.Clone(b.buf)
	} else {
		var err error
		out, err = Compress(slices.Clone(b.buf[:HeaderSize]), b.o.Compression, b.buf[HeaderSize:])
		if err != nil {
			// Writing to memory: only an unknown codec fails.
			panic(fmt.Sprintf("record: %v", err))
		}
	}
	b.putHeader(out)
	return out
}

func (b *Builder) putHeader(out Batch) {
	attributes := int16(b.o.Compression)
	largest := b.largest
	if b.o.TimestampType == LogAppendTime {
		attributes |= attrLogAppendTime
		largest = b.o.LogAppendTime
	}
	if b.o.Transactional {
		attributes |= attrTransactional
	}
	if b.o.Control {
		attributes |= attrControl
	}
	p := Producer{ID: NoProducerID, Epoch: -1, BaseSequence: NoSequence}
	if b.o.Producer != nil {
		p = *b.o.Producer
	}
	be := binary.BigEndian
	be.PutUint64(out, uint64(b.o.BaseOffset))
	be.PutUint32(out[posLength:], uint32(len(out)-lengthOverhead))
	be.PutUint32(out[posLeaderEpoch:], uint32(b.o.LeaderEpoch))
	out[posMagic] = 2
	be.PutUint16(out[posAttributes:], uint16(attributes))
	be.PutUint32(out[posLastDelta:], uint32(b.last))
	be.PutUint64(out[posBaseTimestamp:], uint64(b.base))
	be.PutUint64(out[posMaxTimestamp:], uint64(largest))
	be.PutUint64(out[posProducerID:], uint64(p.ID))
	be.PutUint16(out[posProducerEpoch:], uint16(p.Epoch))
	be.PutUint32(out[posBaseSequence:], uint32(p.BaseSequence))
	be.PutUint32(out[posCount:], uint32(b.count))
	out.setCRC()
}

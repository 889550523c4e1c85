// Package record knows Kafka's record batches of format v2: it splits, validates,
// reads and builds them. A [Batch] is a view over bytes that somebody else owns;
// nothing is decoded before it is asked for. Decompression is bounded, streamed
// and pooled: a batch that claims to be large costs no memory.
//
//	offset size field                      offset size field
//	     0    8 base offset                    27    8 base timestamp
//	     8    4 length of what follows         35    8 max timestamp
//	    12    4 partition leader epoch         43    8 producer id
//	    16    1 magic = 2                      51    2 producer epoch
//	    17    4 CRC32C of 21…end               53    4 base sequence
//	    21    2 attributes                     57    4 record count
//	    23    4 last offset delta              61    … records, compressed or not
//
// All integers are big endian. Attributes: bits 0–2 compression, 3 log append
// time, 4 transactional, 5 control, 6 base timestamp holds a delete horizon.
// A record is: length, attributes (1 byte), timestamp delta, offset delta, key
// length and key, value length and value, header count, and for each header key
// length and key, value length and value; lengths, deltas and counts are zigzag
// varints, -1 is null. Base offset and leader epoch lie outside the CRC, so the
// broker sets them without touching the rest.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// HeaderSize is the size of a batch without its records.
const HeaderSize = 61

const (
	posLength        = 8
	posLeaderEpoch   = 12
	posMagic         = 16
	posCRC           = 17
	posAttributes    = 21
	posLastDelta     = 23
	posBaseTimestamp = 27
	posMaxTimestamp  = 35
	posProducerID    = 43
	posProducerEpoch = 51
	posBaseSequence  = 53
	posCount         = 57

	// lengthOverhead is what the length field does not count.
	lengthOverhead = 12
)

// Attribute bits.
const (
	attrCompression   = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// Kafka's words for "none".
const (
	NoProducerID  int64 = -1
	NoSequence    int32 = -1
	NoTimestamp   int64 = -1
	NoLeaderEpoch int32 = -1
)

var (
	// ErrTorn means that the bytes end within a batch: they are a prefix of one, as
	// the tail of a log is after a crash or the end of a size-limited read.
	ErrTorn = errors.New("batch ends early")
	// ErrCorrupt means bytes that no producer and no broker wrote like this.
	ErrCorrupt = errors.New("corrupt batch")
	// ErrMagic means a record format other than v2; v0 and v1 (Kafka before 0.11)
	// are not supported.
	ErrMagic = errors.New("unsupported record format: only v2 (magic 2) is supported")
	// ErrTooLarge means a batch above the caller's limit, as sent or decompressed.
	ErrTooLarge = errors.New("batch too large")
	// ErrInvalidTimestamp means a timestamp outside the limits of the topic.
	ErrInvalidTimestamp = errors.New("invalid timestamp")
	// ErrInvalidRecord means a batch or record that breaks the rules for producers.
	ErrInvalidRecord = errors.New("invalid record")
)

// RecordError says which record of a batch is at fault.
type RecordError struct {
	Index int // position in the batch, from 0
	Err   error
}

func (e *RecordError) Error() string { return fmt.Sprintf("record %d: %v", e.Index, e.Err) }

// Unwrap returns what is wrong with the record.
func (e *RecordError) Unwrap() error { return e.Err }

// TimestampType says what the timestamps of a batch mean.
type TimestampType int8

// The timestamp types.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// String returns the name used in message.timestamp.type.
func (t TimestampType) String() string {
	if t == LogAppendTime {
		return "LogAppendTime"
	}
	return "CreateTime"
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is exactly one v2 batch, as Next returns it. It is a view: it does not
// own its bytes, and the setters change them in place. The methods need a
// structurally sound batch and do not check it again.
type Batch []byte

// Next splits the first batch off b. It checks length and magic only, not the
// CRC: see Batch.Verify and Validate. ErrTorn means that b, which may be empty,
// is a prefix of a batch; ErrCorrupt that it is none; ErrMagic that its
// format is not v2. Nothing is copied.
func Next(b []byte) (batch Batch, rest []byte, err error) {
	if len(b) >= lengthOverhead && int32(binary.BigEndian.Uint32(b[posLength:])) <= 0 {
		return nil, b, fmt.Errorf("%w: length %d", ErrCorrupt, int32(binary.BigEndian.Uint32(b[posLength:])))
	}
	if len(b) <= posMagic {
		return nil, b, ErrTorn
	}
	if magic := int8(b[posMagic]); magic != 2 {
		if magic == 0 || magic == 1 {
			return nil, b, fmt.Errorf("%w: magic %d", ErrMagic, magic)
		}
		return nil, b, fmt.Errorf("%w: %w: magic %d", ErrCorrupt, ErrMagic, magic)
	}
	size := int64(lengthOverhead) + int64(binary.BigEndian.Uint32(b[posLength:]))
	if size < HeaderSize {
		return nil, b, fmt.Errorf("%w: %d bytes, want at least %d", ErrCorrupt, size, HeaderSize)
	}
	if int64(len(b)) < size {
		return nil, b, ErrTorn
	}
	return Batch(b[:size:size]), b[size:], nil
}

// PeekSize returns the size of the batch that b begins with, or 0 if b is too
// short to tell (12 bytes). The size is what the bytes claim: bound it before use.
func PeekSize(b []byte) int64 {
	if len(b) < lengthOverhead {
		return 0
	}
	return lengthOverhead + int64(int32(binary.BigEndian.Uint32(b[posLength:])))
}

func (b Batch) int64At(pos int) int64 { return int64(binary.BigEndian.Uint64(b[pos:])) }
func (b Batch) int32At(pos int) int32 { return int32(binary.BigEndian.Uint32(b[pos:])) }

// Size returns the bytes of the batch, header included.
func (b Batch) Size() int { return len(b) }

// BaseOffset returns the offset of the first record, or what it was before
// compaction removed it.
func (b Batch) BaseOffset() int64 { return b.int64At(0) }

// SetBaseOffset assigns the offset of the first record. The CRC does not cover it.
func (b Batch) SetBaseOffset(offset int64) { binary.BigEndian.PutUint64(b, uint64(offset)) }

// LastOffset returns the offset of the last record, inclusive.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// NextOffset returns the offset after the last one.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// LeaderEpoch returns the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() int32 { return b.int32At(posLeaderEpoch) }

// SetLeaderEpoch stamps the batch. The CRC does not cover it.
func (b Batch) SetLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(epoch))
}

// CRC returns the stored CRC32C.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[posCRC:]) }

// ComputeCRC returns the CRC32C of what the bytes are.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[posAttributes:], castagnoli) }

// Verify returns ErrCorrupt if the bytes are not those the CRC was made of.
func (b Batch) Verify() error {
	if got, want := b.ComputeCRC(), b.CRC(); got != want {
		return fmt.Errorf("%w: CRC32C %08x, want %08x", ErrCorrupt, got, want)
	}
	return nil
}

func (b Batch) setCRC() { binary.BigEndian.PutUint32(b[posCRC:], b.ComputeCRC()) }

// Attributes returns the attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[posAttributes:])) }

// Compression returns how the records are compressed. 5 to 7 are no codec.
func (b Batch) Compression() Compression { return Compression(b[posAttributes+1] & attrCompression) }

// TimestampType returns what the timestamps mean.
func (b Batch) TimestampType() TimestampType {
	return TimestampType(b[posAttributes+1] & attrLogAppendTime >> 3)
}

// IsTransactional reports whether the batch is part of a transaction.
func (b Batch) IsTransactional() bool { return b[posAttributes+1]&attrTransactional != 0 }

// IsControl reports whether the batch holds a marker instead of data.
func (b Batch) IsControl() bool { return b[posAttributes+1]&attrControl != 0 }

// DeleteHorizonSet reports whether the base timestamp is a delete horizon
// (KIP-534).
func (b Batch) DeleteHorizonSet() bool { return b[posAttributes+1]&attrDeleteHorizon != 0 }

// LastOffsetDelta returns the last offset relative to the base offset.
func (b Batch) LastOffsetDelta() int32 { return b.int32At(posLastDelta) }

// BaseTimestamp returns the milliseconds to which the records' timestamps are
// relative.
func (b Batch) BaseTimestamp() int64 { return b.int64At(posBaseTimestamp) }

// MaxTimestamp returns the largest timestamp in milliseconds, or the append time
// of a batch of type LogAppendTime.
func (b Batch) MaxTimestamp() int64 { return b.int64At(posMaxTimestamp) }

// ProducerID returns the idempotent producer's id, or NoProducerID.
func (b Batch) ProducerID() int64 { return b.int64At(posProducerID) }

// HasProducerID reports whether an idempotent producer wrote the batch.
func (b Batch) HasProducerID() bool { return b.ProducerID() > NoProducerID }

// ProducerEpoch returns the idempotent producer's epoch, or -1.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[posProducerEpoch:])) }

// BaseSequence returns the sequence number of the first record, or NoSequence.
func (b Batch) BaseSequence() int32 { return b.int32At(posBaseSequence) }

// LastSequence returns the sequence number of the last record, or NoSequence.
func (b Batch) LastSequence() int32 {
	if b.BaseSequence() == NoSequence {
		return NoSequence
	}
	return AddSequence(b.BaseSequence(), b.LastOffsetDelta())
}

// AddSequence adds n ≥ 0 to a sequence number, which wraps from MaxInt32 to 0:
// DefaultRecordBatch.incrementSequence.
func AddSequence(sequence, n int32) int32 {
	if sequence > math.MaxInt32-n {
		return n - (math.MaxInt32 - sequence) - 1
	}
	return sequence + n
}

// Count returns the number of records.
func (b Batch) Count() int32 { return b.int32At(posCount) }

// Records returns the records as stored, compressed or not.
func (b Batch) Records() []byte { return b[HeaderSize:] }

// SetMaxTimestamp sets the type of the timestamps and the largest of them, and
// the CRC if that changed anything.
func (b Batch) SetMaxTimestamp(t TimestampType, milliseconds int64) {
	if b.TimestampType() == t && b.MaxTimestamp() == milliseconds {
		return
	}
	b[posAttributes+1] = b[posAttributes+1]&^attrLogAppendTime | byte(t)<<3
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(milliseconds))
	b.setCRC()
}

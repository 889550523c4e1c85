package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Header is a header of a record. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a batch. A nil Key or Value is null.
type Record struct {
	Offset    int64
	Timestamp int64 // milliseconds
	Key       []byte
	Value     []byte
	Headers   []Header
}

// defect is what is wrong with a record's bytes. It is a string, so that the
// parser stays free of allocations.
type defect string

const (
	sound        defect = ""
	badLength    defect = "length"
	badAttribute defect = "attributes"
	badTimestamp defect = "timestamp delta"
	badOffset    defect = "offset delta"
	badKey       defect = "key"
	badValue     defect = "value"
	badCount     defect = "header count"
	badHeader    defect = "header"
	badTail      defect = "bytes after the last header"
)

// span is a range of bytes; at < 0 is null.
type span struct{ at, end int }

func (s span) of(b []byte) []byte {
	if s.at < 0 {
		return nil
	}
	return b[s.at:s.end:s.end]
}

// fields is where the parts of one record lie.
type fields struct {
	timestampDelta int64
	offsetDelta    int64
	key, value     span
	headers        int // position of the first header
	headerCount    int
}

// parse reads the record body b, without its length, and checks all of it.
func (f *fields) parse(b []byte) defect {
	if len(b) == 0 {
		return badAttribute
	}
	// Byte 0 is the attributes, unused so far: Kafka ignores them.
	u, i := uvarint(b, 1)
	if i < 0 {
		return badTimestamp
	}
	f.timestampDelta = unzigzag(u)
	if u, i = uvarint(b, i); i < 0 {
		return badOffset
	}
	f.offsetDelta = unzigzag(u)
	if i = f.key.parse(b, i); i < 0 {
		return badKey
	}
	if i = f.value.parse(b, i); i < 0 {
		return badValue
	}
	u, i = uvarint(b, i)
	// Each header takes two bytes at least.
	if n := unzigzag(u); i < 0 || n < 0 || n > int64(len(b)-i)/2 {
		return badCount
	}
	f.headers, f.headerCount = i, int(unzigzag(u))
	if u != 0 {
		var h span
		for range f.headerCount {
			if i = h.parse(b, i); i < 0 || h.at < 0 {
				return badHeader
			}
			if i = h.parse(b, i); i < 0 {
				return badHeader
			}
		}
	}
	if i != len(b) {
		return badTail
	}
	return sound
}

// parse reads a length and skips so many bytes. It returns the position after
// them, or -1.
func (s *span) parse(b []byte, i int) int {
	u, i := uvarint(b, i)
	if i < 0 {
		return -1
	}
	n := unzigzag(u)
	if n < 0 {
		s.at, s.end = -1, -1
		if n < -1 {
			return -1
		}
		return i
	}
	if n > int64(len(b)-i) {
		return -1
	}
	s.at, s.end = i, i+int(n)
	return s.end
}

// appendHeaders decodes the headers of a body that was parsed.
func (f *fields) appendHeaders(hs []Header, b []byte) []Header {
	i := f.headers
	var key, value span
	for range f.headerCount {
		i = key.parse(b, i)
		i = value.parse(b, i)
		hs = append(hs, Header{Key: string(key.of(b)), Value: value.of(b)})
	}
	return hs
}

// split reads the length at i and returns the record body and the position after
// it. A body of nil means a bad length, or one that reaches beyond b.
func split(b []byte, i int) (body []byte, next int) {
	var u uint64
	if i+8 <= len(b) {
		var n uint
		u, n = word(binary.LittleEndian.Uint64(b[i:]))
		if n == 0 {
			u, i = uvarint(b, i)
		} else {
			i += int(n)
		}
	} else {
		u, i = uvarint(b, i)
	}
	if i < 0 {
		return nil, -1
	}
	n := unzigzag(u)
	if n <= 0 || n > int64(len(b)-i) {
		return nil, -1
	}
	return b[i : i+int(n)], i + int(n)
}

// Each calls fn with each record of the batch, in order. The record is a view
// that is valid until fn returns. Compressed records are decompressed by d, up to
// its limit; a nil d stands for one with the default limit. Each stops with the
// error of fn; a batch that cannot be read, in full, is ErrCorrupt, and one that
// decompresses to more than the limit ErrTooLarge. It does not check the CRC. While
// fn has a compressed record of more than 2 MiB, nobody else has one.
func (b Batch) Each(d *Decompressor, fn func(Record) error) error {
	if b.Compression() == None {
		return b.eachPlain(fn)
	}
	if d == nil {
		d = decompressors.Get().(*Decompressor)
		defer decompressors.Put(d)
	}
	if b.Count() == 0 && len(b.Records()) == 0 {
		return nil
	}
	if err := d.open(b.Compression(), b.Records(), 0); err != nil {
		return err
	}
	defer d.close()
	v := viewer{batch: b, fn: fn}
	for i := range int(b.Count()) {
		body, err := d.record()
		if err == nil {
			err = v.record(body)
		}
		if err != nil {
			return v.fault(i, err)
		}
	}
	return d.end()
}

func (b Batch) eachPlain(fn func(Record) error) error {
	v := viewer{batch: b, fn: fn}
	data, at := b.Records(), 0
	for i := range int(b.Count()) {
		body, next := split(data, at)
		err := error(badLength)
		if body != nil {
			err = v.record(body)
		}
		if err != nil {
			return v.fault(i, err)
		}
		at = next
	}
	if at != len(data) {
		return fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(data)-at)
	}
	return nil
}

// Error makes a defect an error: the parser itself allocates none.
func (d defect) Error() string { return "bad " + string(d) }

// viewer hands records of one batch to fn.
type viewer struct {
	batch   Batch
	fn      func(Record) error
	headers []Header
	stopped bool // by fn
}

func (v *viewer) record(body []byte) error {
	var f fields
	if d := f.parse(body); d != sound {
		return d
	}
	if f.offsetDelta < 0 || f.offsetDelta > int64(v.batch.LastOffsetDelta()) {
		return badOffset
	}
	v.headers = f.appendHeaders(v.headers[:0], body)
	r := Record{
		Offset:    v.batch.BaseOffset() + f.offsetDelta,
		Timestamp: v.batch.MaxTimestamp(),
		Key:       f.key.of(body),
		Value:     f.value.of(body),
	}
	if len(v.headers) > 0 {
		r.Headers = v.headers
	}
	if v.batch.TimestampType() == CreateTime {
		r.Timestamp = v.batch.BaseTimestamp() + f.timestampDelta
	}
	err := v.fn(r)
	v.stopped = err != nil
	return err
}

// fault passes fn's errors on and says where bytes are bad.
func (v *viewer) fault(i int, err error) error {
	if v.stopped {
		return err
	}
	if _, ok := err.(defect); ok {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return &RecordError{Index: i, Err: err}
}

// addTimestamp returns base + delta and whether that is no overflow.
func addTimestamp(base, delta int64) (int64, bool) {
	if delta > 0 && base > math.MaxInt64-delta || delta < 0 && base < math.MinInt64-delta {
		return 0, false
	}
	return base + delta, true
}

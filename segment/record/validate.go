package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// ValidateOptions are the rules of a topic for batches that its leader appends.
type ValidateOptions struct {
	// FromClient adds what Kafka asks of producers: offsets 0…n-1, no control
	// batches, a sequence for an idempotent producer. Without it, as for the
	// brokers' own coordinators, offsets may have gaps.
	FromClient bool
	// Now is the time of the append.
	Now time.Time
	// TimestampType is the topic's. LogAppendTime replaces the timestamps by Now.
	TimestampType TimestampType
	// TimestampBeforeMax and TimestampAfterMax bound how far a timestamp of type
	// CreateTime may lie before and after Now. 0 or less, and the longest Duration
	// there is, mean unlimited.
	TimestampBeforeMax, TimestampAfterMax time.Duration
	// RequireKey refuses null keys: the topic is compacted.
	RequireKey bool
	// MaxBytes bounds the batch, both as sent and as stored. 0 means unlimited.
	MaxBytes int
	// MaxDecompressed bounds what a batch decompresses to. 0 means
	// DefaultMaxDecompressed. The bytes are streamed, not held.
	MaxDecompressed int64
	// Target is the codec in which the topic stores batches.
	Target Target
}

// Validated is what Validate learned of a batch.
type Validated struct {
	// Batch is the batch to store: the one given, or its replacement if it had to
	// be compressed otherwise, which is freshly allocated.
	Batch        Batch
	Recompressed bool
	// MaxTimestamp is in milliseconds; NoTimestamp if no record has one.
	MaxTimestamp int64
	// OffsetOfMaxTimestamp is the first offset with MaxTimestamp. It counts from
	// the base offset the batch came with, which is 0 if it is from a client.
	OffsetOfMaxTimestamp int64
}

// Validate checks a batch that a leader is to append, to the last byte of the last
// record: Kafka's LogValidator. It stamps b's timestamp type and max timestamp in
// place, as Kafka does, and changes nothing else. It allocates nothing for a
// batch that is not compressed and next to nothing for one that is.
//
// Errors: ErrCorrupt (CRC, structure, compressed stream), ErrMagic, ErrTooLarge,
// ErrInvalidTimestamp and ErrInvalidRecord; a *RecordError where one record is at
// fault. After an error b is as it was.
func Validate(b Batch, o ValidateOptions) (Validated, error) {
	if err := o.checkHeader(b); err != nil {
		return Validated{}, err
	}
	w := newWalk(b, &o)
	var err error
	if b.Compression() == None {
		err = w.plain(b)
	} else {
		err = w.compressed(b, o.MaxDecompressed)
	}
	if err != nil {
		return Validated{}, err
	}
	v := Validated{Batch: b, MaxTimestamp: w.maxTimestamp, OffsetOfMaxTimestamp: b.BaseOffset() + w.maxDelta}
	if o.TimestampType == LogAppendTime {
		v.MaxTimestamp, v.OffsetOfMaxTimestamp = o.Now.UnixMilli(), b.BaseOffset()
	}
	if target := o.Target.of(b.Compression()); target != b.Compression() {
		if v.Batch, err = recompress(b, target, &o); err != nil {
			return Validated{}, err
		}
		v.Recompressed = true
	}
	v.Batch.SetMaxTimestamp(o.TimestampType, v.MaxTimestamp)
	return v, nil
}

// checkHeader checks what can be known without looking at the records.
func (o *ValidateOptions) checkHeader(b Batch) error {
	if len(b) < HeaderSize || PeekSize(b) != int64(len(b)) {
		return fmt.Errorf("%w: %d bytes, header says %d", ErrCorrupt, len(b), PeekSize(b))
	}
	if b[posMagic] != 2 {
		return fmt.Errorf("%w: magic %d", ErrMagic, int8(b[posMagic]))
	}
	if o.MaxBytes > 0 && len(b) > o.MaxBytes {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, len(b), o.MaxBytes)
	}
	if err := b.Verify(); err != nil {
		return err
	}
	if !b.Compression().Known() {
		return fmt.Errorf("%w: unknown %v", ErrCorrupt, b.Compression())
	}
	count, last := b.Count(), b.LastOffsetDelta()
	if o.FromClient {
		return checkClientHeader(b)
	}
	if count < 0 || last < 0 || int64(count) > int64(last)+1 {
		return fmt.Errorf("%w: %d records with last offset delta %d", ErrInvalidRecord, count, last)
	}
	return nil
}

// checkClientHeader is LogValidator.validateBatch for AppendOrigin.CLIENT, plus
// what no client may claim.
func checkClientHeader(b Batch) error {
	count, last := b.Count(), b.LastOffsetDelta()
	switch {
	case b.BaseOffset() != 0:
		// UnifiedLog.analyzeAndValidateRecords.
		return fmt.Errorf("%w: base offset %d, want 0", ErrInvalidRecord, b.BaseOffset())
	case count <= 0 || int64(last)+1 != int64(count):
		return fmt.Errorf("%w: %d records with last offset delta %d", ErrInvalidRecord, count, last)
	case b.IsControl():
		return fmt.Errorf("%w: clients may not write control records", ErrInvalidRecord)
	case b.HasProducerID() && (b.BaseSequence() < 0 || b.ProducerEpoch() < 0):
		return fmt.Errorf("%w: producer %d with epoch %d and base sequence %d", ErrInvalidRecord,
			b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	case b.IsTransactional() && !b.HasProducerID():
		return fmt.Errorf("%w: transactional without a producer id", ErrInvalidRecord)
	case b.DeleteHorizonSet():
		// The base timestamp would be taken for the time to drop tombstones.
		return fmt.Errorf("%w: clients may not set a delete horizon", ErrInvalidRecord)
	}
	return nil
}

// walk goes through the records of one batch. It holds what the rules need of batch
// and options, so that neither has to be looked up for each record.
type walk struct {
	fromClient, requireKey bool

	createTime       bool  // the topic's timestamps are the producers'
	earliest, latest int64 // then, of a timestamp in milliseconds
	claimsAppendTime bool  // the batch says that its timestamps are a broker's
	baseTimestamp    int64
	lastDelta        int64

	previous     int64 // offset delta
	maxTimestamp int64
	maxDelta     int64 // of the first record with maxTimestamp
}

func newWalk(b Batch, o *ValidateOptions) walk {
	w := walk{
		fromClient: o.FromClient, requireKey: o.RequireKey,
		createTime: o.TimestampType == CreateTime, claimsAppendTime: b.TimestampType() == LogAppendTime,
		baseTimestamp: b.BaseTimestamp(), lastDelta: int64(b.LastOffsetDelta()),
		previous: -1, maxTimestamp: NoTimestamp,
	}
	// A time before 1970 is one as any other: archives have them. Only what has no
	// distance from now, as an int64, is refused whatever the topic allows.
	now := o.Now.UnixMilli()
	w.earliest, w.latest = max(now, 0)-math.MaxInt64, math.MaxInt64
	if before := o.TimestampBeforeMax; before > 0 && before != math.MaxInt64 {
		w.earliest = now - before.Milliseconds()
	}
	if after := o.TimestampAfterMax; after > 0 && after != math.MaxInt64 {
		w.latest = now + after.Milliseconds()
	}
	return w
}

func (w *walk) plain(b Batch) error {
	data, at := b.Records(), 0
	var f fields
	for i := range int(b.Count()) {
		body, next := split(data, at)
		if next < 0 {
			return malformed(i, badLength)
		}
		if !f.quick(body) {
			if d := f.parse(body); d != sound {
				return malformed(i, d)
			}
		}
		if err := w.record(i, f.timestampDelta, f.offsetDelta, f.key.at >= 0); err != nil {
			return err
		}
		at = next
	}
	if at != len(data) {
		return fmt.Errorf("%w: %d bytes after the last record", ErrInvalidRecord, len(data)-at)
	}
	return nil
}

func (w *walk) compressed(b Batch, limit int64) error {
	if b.Count() == 0 && len(b.Records()) == 0 {
		return nil
	}
	d := decompressors.Get().(*Decompressor)
	defer decompressors.Put(d)
	return w.through(d, b, limit)
}

func (w *walk) through(d *Decompressor, b Batch, limit int64) error {
	if err := d.open(b.Compression(), b.Records(), limit); err != nil {
		return err
	}
	defer d.close()
	for i := range int(b.Count()) {
		s, err := d.shape()
		if bad, ok := err.(defect); ok {
			return malformed(i, bad)
		}
		if err != nil {
			return err
		}
		if err := w.record(i, s.timestampDelta, s.offsetDelta, s.hasKey); err != nil {
			return err
		}
	}
	return d.end()
}

// record applies the rules to record i.
func (w *walk) record(i int, timestampDelta, offsetDelta int64, hasKey bool) error {
	if w.fromClient && offsetDelta != int64(i) || offsetDelta <= w.previous || offsetDelta > w.lastDelta {
		return malformed(i, badOffset)
	}
	w.previous = offsetDelta
	if !hasKey && w.requireKey {
		return &RecordError{Index: i, Err: fmt.Errorf("%w: a compacted topic needs a key", ErrInvalidRecord)}
	}
	timestamp, ok := addTimestamp(w.baseTimestamp, timestampDelta)
	if !ok {
		return &RecordError{Index: i, Err: fmt.Errorf("%w: too large", ErrInvalidTimestamp)}
	}
	// LogValidator.validateTimestamp.
	switch {
	case w.createTime && timestamp != NoTimestamp:
		if timestamp < w.earliest || timestamp > w.latest {
			return &RecordError{Index: i, Err: fmt.Errorf("%w: %d is not within %d and %d", ErrInvalidTimestamp,
				timestamp, w.earliest, w.latest)}
		}
	case w.claimsAppendTime:
		return &RecordError{Index: i, Err: fmt.Errorf("%w: producers may not set the type LogAppendTime", ErrInvalidTimestamp)}
	}
	if timestamp > w.maxTimestamp {
		w.maxTimestamp, w.maxDelta = timestamp, offsetDelta
	}
	return nil
}

func malformed(i int, d defect) error {
	return &RecordError{Index: i, Err: fmt.Errorf("%w: %w", ErrInvalidRecord, d)}
}

// recompress returns a copy of a valid batch whose records are stored in codec c.
func recompress(b Batch, c Compression, o *ValidateOptions) (Batch, error) {
	out := limitedBuffer{b: append(make([]byte, 0, len(b)), b[:HeaderSize]...), limit: o.MaxBytes}
	w := newCompressor(c, &out)
	if err := copyRecords(w, b, o.MaxDecompressed); err != nil {
		return nil, fmt.Errorf("recompress from %v to %v: %w", b.Compression(), c, err)
	}
	if err := w.finish(); err != nil {
		return nil, fmt.Errorf("recompress from %v to %v: %w", b.Compression(), c, err)
	}
	batch := Batch(out.b)
	batch[posAttributes+1] = batch[posAttributes+1]&^attrCompression | byte(c)
	binary.BigEndian.PutUint32(batch[posLength:], uint32(len(batch)-lengthOverhead))
	batch.setCRC()
	return batch, nil
}

// limitedBuffer refuses to grow beyond a limit.
type limitedBuffer struct {
	b     []byte
	limit int // 0: none
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.limit > 0 && len(l.b)+len(p) > l.limit {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, l.limit)
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

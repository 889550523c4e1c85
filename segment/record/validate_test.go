package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

const nowMs = 1_700_000_000_000

// rawRecord is a record before it has any reason to be sound.
func rawRecord(body ...byte) []byte {
	return append(appendVarint(nil, int64(len(body))), body...)
}

// rawBatch wraps records in a header with a right CRC.
func rawBatch(count int32, records []byte, edit func(Batch)) Batch {
	b := NewBuilder(BuilderOptions{})
	b.Append(nowMs, nil, nil)
	out := append(b.Build()[:HeaderSize:HeaderSize], records...)
	be := binary.BigEndian
	be.PutUint32(out[posLength:], uint32(len(out)-lengthOverhead))
	be.PutUint32(out[posCount:], uint32(count))
	be.PutUint32(out[posLastDelta:], uint32(count-1))
	if edit != nil {
		edit(out)
	}
	out.setCRC()
	return out
}

// one is a sound record: key "k", value "v".
var one = rawRecord(0, 0, 0, 2, 'k', 2, 'v', 0)

func put32(pos int, v int32) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint32(b[pos:], uint32(v)) }
}

func put64(pos int, v int64) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint64(b[pos:], uint64(v)) }
}

func attributes(bits byte) func(Batch) {
	return func(b Batch) { b[posAttributes+1] = bits }
}

func all(edits ...func(Batch)) func(Batch) {
	return func(b Batch) {
		for _, e := range edits {
			e(b)
		}
	}
}

// TestValidateRefuses goes through everything a batch can get wrong.
func TestValidateRefuses(t *testing.T) {
	client := ValidateOptions{FromClient: true, Now: time.UnixMilli(nowMs)}
	with := func(change func(*ValidateOptions)) ValidateOptions {
		o := client
		change(&o)
		return o
	}
	broker := with(func(o *ValidateOptions) { o.FromClient = false })
	for _, c := range []struct {
		name   string
		batch  Batch
		o      ValidateOptions
		want   error
		record int // -1: not about a record
	}{
		{"sound", rawBatch(1, one, nil), client, nil, -1},
		{"sound, from the broker", rawBatch(1, one, put64(0, 77)), broker, nil, -1},
		{"short", Batch(rawBatch(1, one, nil)[:60]), client, ErrCorrupt, -1},
		{"longer than it says", append(rawBatch(1, one, nil), 0), client, ErrCorrupt, -1},
		{"old format", rawBatch(1, one, func(b Batch) { b[posMagic] = 1 }), client, ErrMagic, -1},
		{"too large", rawBatch(1, one, nil), with(func(o *ValidateOptions) { o.MaxBytes = HeaderSize + 5 }), ErrTooLarge, -1},
		{"flipped bit", func() Batch { b := rawBatch(1, one, nil); b[HeaderSize+3] ^= 1; return b }(), client, ErrCorrupt, -1},
		{"unknown codec", rawBatch(1, one, attributes(5)), client, ErrCorrupt, -1},
		{"base offset", rawBatch(1, one, put64(0, 1)), client, ErrInvalidRecord, -1},
		{"no records", rawBatch(0, nil, nil), client, ErrInvalidRecord, -1},
		{"negative count", rawBatch(-1, one, nil), client, ErrInvalidRecord, -1},
		{"negative count, from the broker", rawBatch(-1, one, nil), broker, ErrInvalidRecord, -1},
		{"count above offsets", rawBatch(2, append(bytes.Clone(one), one...), put32(posLastDelta, 0)), broker, ErrInvalidRecord, -1},
		{"offsets above count", rawBatch(1, one, put32(posLastDelta, 1)), client, ErrInvalidRecord, -1},
		{"offsets above count, from the broker", rawBatch(1, one, put32(posLastDelta, 1)), broker, nil, -1},
		{"largest offset delta", rawBatch(math.MinInt32, one, put32(posLastDelta, math.MaxInt32)), client, ErrInvalidRecord, -1},
		{"control", rawBatch(1, one, attributes(attrControl)), client, ErrInvalidRecord, -1},
		{"control, from the broker", rawBatch(1, one, attributes(attrControl)), broker, nil, -1},
		{"producer without sequence", rawBatch(1, one, put64(posProducerID, 5)), client, ErrInvalidRecord, -1},
		{"producer without sequence, from the broker", rawBatch(1, one, put64(posProducerID, 5)), broker, nil, -1},
		{"transaction without producer", rawBatch(1, one, attributes(attrTransactional)), client, ErrInvalidRecord, -1},
		{"delete horizon", rawBatch(1, one, attributes(attrDeleteHorizon)), client, ErrInvalidRecord, -1},
		{"fewer records than counted", rawBatch(2, one, nil), client, ErrInvalidRecord, 1},
		{"more records than counted", rawBatch(1, append(bytes.Clone(one), one...), nil), client, ErrInvalidRecord, -1},
		{"offset delta", rawBatch(1, rawRecord(0, 0, 2, 1, 1, 0), nil), client, ErrInvalidRecord, 0},
		{"negative offset delta", rawBatch(1, rawRecord(0, 0, 1, 1, 1, 0), nil), broker, ErrInvalidRecord, 0},
		{"same offset twice", rawBatch(2, append(bytes.Clone(one), one...), nil), broker, ErrInvalidRecord, 1},
		{"offset delta beyond the last", rawBatch(1, rawRecord(0, 0, 2, 1, 1, 0), nil), broker, ErrInvalidRecord, 0},
		{"empty record", rawBatch(1, rawRecord(), nil), client, ErrInvalidRecord, 0},
		{"negative length", rawBatch(1, []byte{1}, nil), client, ErrInvalidRecord, 0},
		{"length beyond the batch", rawBatch(1, []byte{100, 0, 0, 0, 1, 1, 0}, nil), client, ErrInvalidRecord, 0},
		{"endless length", rawBatch(1, bytes.Repeat([]byte{0xff}, 20), nil), client, ErrInvalidRecord, 0},
		{"no timestamp", rawBatch(1, rawRecord(0), nil), client, ErrInvalidRecord, 0},
		{"no offset", rawBatch(1, rawRecord(0, 0), nil), client, ErrInvalidRecord, 0},
		{"no key", rawBatch(1, rawRecord(0, 0, 0), nil), client, ErrInvalidRecord, 0},
		{"key beyond the record", rawBatch(1, rawRecord(0, 0, 0, 20, 1, 0), nil), client, ErrInvalidRecord, 0},
		{"key length -2", rawBatch(1, rawRecord(0, 0, 0, 3, 1, 0), nil), client, ErrInvalidRecord, 0},
		{"no value", rawBatch(1, rawRecord(0, 0, 0, 1), nil), client, ErrInvalidRecord, 0},
		{"no header count", rawBatch(1, rawRecord(0, 0, 0, 1, 1), nil), client, ErrInvalidRecord, 0},
		{"negative header count", rawBatch(1, rawRecord(0, 0, 0, 1, 1, 1), nil), client, ErrInvalidRecord, 0},
		{"header count beyond the record", rawBatch(1, rawRecord(0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f), nil), client, ErrInvalidRecord, 0},
		{"null header key", rawBatch(1, rawRecord(0, 0, 0, 1, 1, 2, 1, 1), nil), client, ErrInvalidRecord, 0},
		{"header cut", rawBatch(1, rawRecord(0, 0, 0, 1, 1, 2, 2, 'h', 4, 'v'), nil), client, ErrInvalidRecord, 0},
		{"bytes after the headers", rawBatch(1, rawRecord(0, 0, 0, 1, 1, 0, 9), nil), client, ErrInvalidRecord, 0},
		{"null key on a compacted topic", rawBatch(1, rawRecord(0, 0, 0, 1, 1, 0), nil),
			with(func(o *ValidateOptions) { o.RequireKey = true }), ErrInvalidRecord, 0},
		{"too old", rawBatch(1, one, put64(posBaseTimestamp, nowMs-1001)),
			with(func(o *ValidateOptions) { o.TimestampBeforeMax = time.Second }), ErrInvalidTimestamp, 0},
		{"just not too old", rawBatch(1, one, put64(posBaseTimestamp, nowMs-1000)),
			with(func(o *ValidateOptions) { o.TimestampBeforeMax = time.Second }), nil, -1},
		{"too new", rawBatch(1, one, put64(posBaseTimestamp, nowMs+1001)),
			with(func(o *ValidateOptions) { o.TimestampAfterMax = time.Second }), ErrInvalidTimestamp, 0},
		{"just not too new", rawBatch(1, one, put64(posBaseTimestamp, nowMs+1000)),
			with(func(o *ValidateOptions) { o.TimestampAfterMax = time.Second }), nil, -1},
		{"too new, but replaced", rawBatch(1, one, put64(posBaseTimestamp, nowMs+1001)),
			with(func(o *ValidateOptions) { o.TimestampAfterMax, o.TimestampType = time.Second, LogAppendTime }), nil, -1},
		{"none, with limits", rawBatch(1, one, put64(posBaseTimestamp, NoTimestamp)),
			with(func(o *ValidateOptions) { o.TimestampAfterMax, o.TimestampBeforeMax = time.Second, time.Second }), nil, -1},
		{"before 1970", rawBatch(1, one, put64(posBaseTimestamp, -86_400_000)), client, nil, -1},
		{"before 1678, unlimited", rawBatch(1, one, put64(posBaseTimestamp, -9_300_000_000_000)),
			with(func(o *ValidateOptions) { o.TimestampBeforeMax = math.MaxInt64 }), nil, -1},
		{"before 1970, too old", rawBatch(1, one, put64(posBaseTimestamp, -2)),
			with(func(o *ValidateOptions) { o.TimestampBeforeMax = time.Second }), ErrInvalidTimestamp, 0},
		{"before 1970, but replaced", rawBatch(1, one, put64(posBaseTimestamp, -2)),
			with(func(o *ValidateOptions) { o.TimestampType = LogAppendTime }), nil, -1},
		{"as long ago as can be said", rawBatch(1, one, put64(posBaseTimestamp, math.MinInt64)), client, ErrInvalidTimestamp, 0},
		{"an append time that no broker set", rawBatch(1, one, all(put64(posBaseTimestamp, NoTimestamp), attributes(attrLogAppendTime))), client, ErrInvalidTimestamp, 0},
		{"an append time, to be replaced", rawBatch(1, one, attributes(attrLogAppendTime)),
			with(func(o *ValidateOptions) { o.TimestampType = LogAppendTime }), ErrInvalidTimestamp, 0},
		{"timestamp overflow", rawBatch(1, rawRecord(0, 2, 0, 1, 1, 0), put64(posBaseTimestamp, math.MaxInt64)), client, ErrInvalidTimestamp, 0},
		{"limits that overflow", rawBatch(1, one, nil),
			with(func(o *ValidateOptions) { o.TimestampAfterMax, o.TimestampBeforeMax = math.MaxInt64, math.MaxInt64 }), nil, -1},
		{"garbage as gzip", rawBatch(1, one, attributes(byte(Gzip))), client, ErrCorrupt, -1},
		{"garbage as snappy", rawBatch(1, one, attributes(byte(Snappy))), client, ErrCorrupt, -1},
		{"garbage as lz4", rawBatch(1, one, attributes(byte(LZ4))), client, ErrCorrupt, -1},
		{"garbage as zstd", rawBatch(1, one, attributes(byte(Zstd))), client, ErrCorrupt, -1},
		{"nothing as zstd", rawBatch(1, nil, attributes(byte(Zstd))), client, ErrCorrupt, -1},
		{"two attributes", rawBatch(1, one, all(attributes(0), put64(posMaxTimestamp, 5))), client, nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.batch)
			_, err := Validate(c.batch, c.o)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("Validate = %v, want %v", err, c.want)
			}
			if err != nil && !bytes.Equal(before, c.batch) {
				t.Error("a refused batch was changed")
			}
			var at *RecordError
			if index := -1; errors.As(err, &at) != (c.record >= 0) || at != nil && at.Index != c.record {
				if at != nil {
					index = at.Index
				}
				t.Errorf("%v: record %d, want %d", err, index, c.record)
			}
		})
	}
}

// TestValidateStampsTheBatch checks what Kafka's LogValidator writes into headers.
func TestValidateStampsTheBatch(t *testing.T) {
	build := func() Batch {
		b := NewBuilder(BuilderOptions{})
		for _, ts := range []int64{nowMs + 5, nowMs + 9, nowMs + 9, nowMs + 1} {
			b.Append(ts, nil, []byte("v"))
		}
		return b.Build()
	}
	t.Run("create time", func(t *testing.T) {
		b := build()
		b.SetMaxTimestamp(LogAppendTime, 3) // a client's lie
		v, err := Validate(b, ValidateOptions{FromClient: true, Now: time.UnixMilli(nowMs)})
		if err != nil {
			t.Fatal(err)
		}
		if v.MaxTimestamp != nowMs+9 || v.OffsetOfMaxTimestamp != 1 || v.Recompressed {
			t.Errorf("%+v", v)
		}
		if !bytes.Equal(v.Batch, build()) {
			t.Error("the header was not put right")
		}
	})
	t.Run("log append time", func(t *testing.T) {
		b := build()
		v, err := Validate(b, ValidateOptions{FromClient: true, Now: time.UnixMilli(nowMs), TimestampType: LogAppendTime})
		if err != nil {
			t.Fatal(err)
		}
		if v.MaxTimestamp != nowMs || v.OffsetOfMaxTimestamp != 0 || b.TimestampType() != LogAppendTime || b.MaxTimestamp() != nowMs {
			t.Errorf("%+v", v)
		}
		if err := b.Verify(); err != nil {
			t.Error(err)
		}
		for _, r := range readBatch(t, b) {
			if r.Timestamp != nowMs {
				t.Errorf("record %d has timestamp %d", r.Offset, r.Timestamp)
			}
		}
	})
	t.Run("nothing to change", func(t *testing.T) {
		b := build()
		if _, err := Validate(b, ValidateOptions{FromClient: true}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, build()) {
			t.Error("a right header was changed")
		}
	})
}

// TestRecompress checks every pair of codecs.
func TestRecompress(t *testing.T) {
	for _, from := range allCodecs {
		for _, to := range allCodecs {
			t.Run(from.String()+" to "+to.String(), func(t *testing.T) {
				b, want := buildSample(BuilderOptions{Compression: from, Producer: &Producer{1, 2, 3}}, 400)
				v, err := Validate(b, ValidateOptions{FromClient: true, Target: to.Target(), MaxBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				if v.Recompressed != (from != to) || v.Batch.Compression() != to {
					t.Fatalf("recompressed %v to %v", v.Recompressed, v.Batch.Compression())
				}
				got, rest, err := Next(v.Batch)
				if err != nil || len(rest) > 0 || got.Verify() != nil {
					t.Fatalf("Next: %v, Verify: %v", err, got.Verify())
				}
				compareRecords(t, want, readBatch(t, got))
				if got.BaseSequence() != 3 || got.ProducerID() != 1 || got.Count() != 400 {
					t.Error("the header changed")
				}
			})
		}
	}
	t.Run("beyond the limit", func(t *testing.T) {
		b := batchOf(t, Zstd, 100, 10000)
		_, err := Validate(b, ValidateOptions{FromClient: true, Target: None.Target(), MaxBytes: 100_000})
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("Validate = %v, want ErrTooLarge", err)
		}
	})
}

// TestDecompressionIsBounded feeds batches that are small and decompress to a lot.
func TestDecompressionIsBounded(t *testing.T) {
	const size = 16 << 20
	for _, c := range allCodecs[1:] {
		t.Run(c.String(), func(t *testing.T) {
			bomb := batchOf(t, c, 1, size)
			d := NewDecompressor(1 << 20)
			_, verr := Validate(bomb, ValidateOptions{FromClient: true, MaxDecompressed: 1 << 20})
			_, derr := Decompress(nil, c, bomb.Records(), d)
			for name, err := range map[string]error{
				"Validate": verr, "Each": bomb.Each(d, func(Record) error { return nil }), "Decompress": derr,
			} {
				// A record that claims more than the limit is refused by its length.
				if !errors.Is(err, ErrTooLarge) && !errors.Is(err, badLength) {
					t.Errorf("%s = %v, want ErrTooLarge", name, err)
				}
			}
			used := allocated(func() {
				if _, err := Validate(bomb, ValidateOptions{FromClient: true}); err != nil {
					t.Error(err)
				}
			})
			if used > 6<<20 {
				t.Errorf("Validate of a record of %d bytes allocated %d", size, used)
			}
		})
	}
}

// TestSnappyFramings reads what Kafka's Java client writes and its variants.
func TestSnappyFramings(t *testing.T) {
	plain, _ := buildSample(BuilderOptions{}, 700)
	framed, err := Compress(nil, Snappy, plain.Records())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(framed, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")) {
		t.Errorf("xerial header %q", framed[:16])
	}
	for name, payload := range map[string][]byte{
		"framed":       framed,
		"concatenated": append(bytes.Clone(framed), framed[:16]...),
	} {
		got, err := Decompress(nil, Snappy, payload, nil)
		if err != nil || !bytes.Equal(got, plain.Records()) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for cut := range 40 {
		if got, err := Decompress(nil, Snappy, framed[:len(framed)-1-cut], nil); err == nil && len(got) == len(plain.Records()) {
			t.Errorf("%d bytes cut: no error", 1+cut)
		}
	}
}

// TestLZ4AcceptsWhatJavaReads checks the frame flags Kafka's Java client refuses.
func TestLZ4AcceptsWhatJavaReads(t *testing.T) {
	payload, err := Compress(nil, LZ4, []byte(strings.Repeat("abc", 100)))
	if err != nil {
		t.Fatal(err)
	}
	if flg, bd := payload[4], payload[5]; flg != 0x60 || bd != 0x40 {
		t.Errorf("FLG %02x BD %02x, want version 1, independent blocks, 64 KiB", flg, bd)
	}
	for name, bad := range map[string]func(p []byte){
		"dependent blocks": func(p []byte) { p[4] &^= 0x20 },
		"legacy frame":     func(p []byte) { p[0] = 0x02; p[1] = 0x21; p[2] = 0x4c; p[3] = 0x18 },
		"version":          func(p []byte) { p[4] |= 0x80 },
	} {
		p := bytes.Clone(payload)
		bad(p)
		if _, err := Decompress(nil, LZ4, p, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func TestBytesAfterTheStreamAreRefused(t *testing.T) {
	for _, c := range allCodecs[1:] {
		payload, err := Compress(nil, c, []byte("some bytes"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decompress(nil, c, append(payload, "junk"...), nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v, want ErrCorrupt", c, err)
		}
	}
}

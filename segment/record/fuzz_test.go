package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime/metrics"
	"strings"
	"testing"
)

// allocated returns the bytes that fn allocates.
func allocated(fn func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	fn()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// FuzzBatch gives arbitrary bytes a right length and CRC and reads them in every
// way: no panic, bounded memory, and what is valid reads and builds back the same.
func FuzzBatch(f *testing.F) {
	for _, c := range allCodecs {
		b, _ := buildSample(BuilderOptions{Compression: c}, 20)
		f.Add([]byte(b))
		b, _ = buildSample(BuilderOptions{Compression: c, Transactional: true, Producer: &Producer{7, 1, 0}, TimestampType: LogAppendTime}, 2)
		f.Add([]byte(b))
	}
	f.Add([]byte(NewEndTxnBatch(9, 1, EndTxnMarker{Commit: true, CoordinatorEpoch: 3}, nowMs)))
	f.Add([]byte(rawBatch(3, append(bytes.Clone(one), rawRecord(0, 0, 2, 1, 1, 2, 2, 'h', 1)...), nil)))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 20
		_, _, _ = Next(data) // any error is fine, a panic is not
		if len(data) < HeaderSize {
			return
		}
		b := Batch(bytes.Clone(data))
		binary.BigEndian.PutUint32(b[posLength:], uint32(len(b)-lengthOverhead))
		b[posMagic] = 2
		b.setCRC()
		if got, rest, err := Next(b); err != nil || len(rest) > 0 || len(got) != len(b) {
			t.Fatalf("Next of a framed batch: %v", err)
		}
		var err error
		o := ValidateOptions{FromClient: true, MaxDecompressed: limit}
		used := allocated(func() { _, err = Validate(b, o) })
		if bound := uint64(20*limit + 64*len(b)); used > bound {
			t.Errorf("Validate of %d bytes allocated %d", len(b), used)
		}
		o.FromClient = false
		if _, berr := Validate(bytes.Clone(b), o); err == nil && berr != nil {
			t.Errorf("valid from a client, but not from a broker: %v", berr)
		}
		var records []Record
		eachErr := b.Each(NewDecompressor(limit), func(r Record) error {
			r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			headers := r.Headers
			r.Headers = nil
			for _, h := range headers {
				r.Headers = append(r.Headers, Header{h.Key, bytes.Clone(h.Value)})
			}
			records = append(records, r)
			return nil
		})
		if err != nil {
			return
		}
		if eachErr != nil {
			t.Fatalf("Validate accepts what Each does not: %v", eachErr)
		}
		checkRebuilt(t, b, records)
	})
}

// checkRebuilt builds the records of a valid batch anew and reads them back.
func checkRebuilt(t *testing.T, b Batch, records []Record) {
	t.Helper()
	builder := NewBuilder(BuilderOptions{BaseOffset: b.BaseOffset()})
	for _, r := range records {
		if err := builder.AppendRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	again := builder.Build()
	if again.Count() != b.Count() || again.LastOffset() != b.LastOffset() {
		t.Fatalf("rebuilt %d records to %d, want %d to %d", again.Count(), again.LastOffset(), b.Count(), b.LastOffset())
	}
	i := 0
	err := again.Each(nil, func(r Record) error {
		if !equalRecords(r, records[i]) {
			t.Errorf("record %d: %v, want %v", i, r, records[i])
		}
		i++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := Validate(again, ValidateOptions{FromClient: true}); err != nil {
		t.Error(err)
	}
}

func equalRecords(a, b Record) bool {
	same := func(p, q []byte) bool { return bytes.Equal(p, q) && (p == nil) == (q == nil) }
	if a.Offset != b.Offset || a.Timestamp != b.Timestamp || !same(a.Key, b.Key) || !same(a.Value, b.Value) || len(a.Headers) != len(b.Headers) {
		return false
	}
	for i := range a.Headers {
		if a.Headers[i].Key != b.Headers[i].Key || !same(a.Headers[i].Value, b.Headers[i].Value) {
			return false
		}
	}
	return true
}

// FuzzCompressedEqualsPlain compares the walk through a decompressor, which never
// holds a large record, with the walk over plain bytes: same verdict, same record
// at fault, same timestamps.
func FuzzCompressedEqualsPlain(f *testing.F) {
	big := func(records ...Record) []byte {
		b := NewBuilder(BuilderOptions{})
		for i, r := range records {
			r.Offset = int64(i)
			if err := b.AppendRecord(r); err != nil {
				f.Fatal(err)
			}
		}
		return b.Build().Records()
	}
	const hold = 64
	long := []byte(strings.Repeat("x", 3*hold))
	f.Add(big(Record{Value: long}), int32(1), 0)
	f.Add(big(Record{Key: []byte("k")}, Record{Key: long, Value: long, Timestamp: 9, Headers: []Header{{"h", long}, {"i", nil}}}, Record{}), int32(3), 0)
	f.Add(big(Record{Value: long, Headers: []Header{{string(long), long}}}), int32(1), 200)
	f.Add(big(Record{Value: long[:hold-10]}, Record{Value: long[:20]}), int32(2), 1)
	f.Add(big(Record{Value: long[:hold-20], Headers: []Header{{"h", nil}}}), int32(1), 1)
	bad := big(Record{Value: long, Headers: []Header{{"h", nil}}})
	f.Add(append(bad[:len(bad)-4:len(bad)-4], 1, 2, 'h', 1), int32(1), 0)
	f.Add(append(bad[:len(bad)-4:len(bad)-4], 2, 1, 'h', 1), int32(1), 0)
	f.Add(append(bad[:len(bad)-4:len(bad)-4], 2, 2, 'h', 3), int32(1), 0)
	d := NewDecompressor(0)
	d.hold = hold
	f.Add([]byte(one), int32(1), 0)
	f.Add(bytes.Repeat([]byte{0xff}, 30), int32(1), 0)
	f.Fuzz(func(t *testing.T, records []byte, count int32, cut int) {
		if cut > 0 {
			records = records[:max(0, len(records)-cut)]
		}
		o := ValidateOptions{FromClient: true}
		plain := newWalk(rawBatch(count, records, nil), &o)
		perr := plain.plain(rawBatch(count, records, nil))
		for _, c := range []Compression{Snappy, LZ4} {
			payload, err := Compress(nil, c, records)
			if err != nil {
				t.Fatal(err)
			}
			b := rawBatch(count, payload, attributes(byte(c)))
			got := newWalk(b, &o)
			gerr := got.through(d, b, 0)
			if (perr == nil) != (gerr == nil) || perr == nil && got != plain {
				t.Fatalf("%v: %v, %+v; plain: %v, %+v", c, gerr, got, perr, plain)
			}
			var p, g *RecordError
			if errors.As(perr, &p) && errors.As(gerr, &g) && p.Index != g.Index {
				t.Fatalf("%v: %v; plain: %v", c, g, p)
			}
		}
	})
}

// FuzzDecompress feeds arbitrary payloads to every codec.
func FuzzDecompress(f *testing.F) {
	for _, c := range allCodecs[1:] {
		p, err := Compress(nil, c, []byte(strings.Repeat("hello ", 50)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int8(c), p)
	}
	f.Add(int8(Snappy), []byte("\xff\xff\xff\xff\x0f"))
	f.Add(int8(Zstd), []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0, 0})
	f.Fuzz(func(t *testing.T, codec int8, payload []byte) {
		const limit = 1 << 20
		c := Compression(codec)
		if !c.Known() || c == None {
			return
		}
		var out []byte
		var err error
		used := allocated(func() { out, err = Decompress(nil, c, payload, NewDecompressor(limit)) })
		if len(out) > limit || used > 24<<20 {
			t.Errorf("%v: %d bytes out, %d allocated", c, len(out), used)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %v", c, err)
		}
		if err == nil {
			again, err := Compress(nil, c, out)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Decompress(nil, c, again, nil)
			if err != nil || !bytes.Equal(back, out) {
				t.Errorf("%v: what was decompressed does not compress: %v", c, err)
			}
		}
	})
}

// FuzzQuickEqualsParse checks that the short cut for common records never says
// anything that the parser would not.
func FuzzQuickEqualsParse(f *testing.F) {
	b := NewBuilder(BuilderOptions{})
	for _, size := range []int{0, 1, 20, 63, 64, 200, 8192, 1 << 20} {
		for _, key := range [][]byte{nil, {}, []byte("key"), make([]byte, 100)} {
			b.Append(int64(size%5000), key, make([]byte, size))
			b.Append(-int64(size)*1000, key, nil)
		}
	}
	data, taken := b.Build().Records(), 0
	for at := 0; at < len(data); {
		body, next := split(data, at)
		if new(fields).quick(body) {
			taken++
		}
		if len(body) < 1000 {
			f.Add(body)
		}
		at = next
	}
	if taken < 20 {
		f.Errorf("%d of %d common records took the short cut", taken, b.Count())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var quick, full fields
		if !quick.quick(body) {
			return
		}
		if bad := full.parse(body); bad != sound {
			t.Fatalf("quick accepts what parse calls %v", bad)
		}
		quick.headers = full.headers
		if quick != full {
			t.Fatalf("quick %+v, parse %+v", quick, full)
		}
	})
}

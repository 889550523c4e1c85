package record

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// golden is a batch of two records, laid out by hand from Kafka's documentation.
// Never change it.
const golden = "" +
	"000000000000002a" + // base offset 42
	"0000004c" + // length 76
	"00000007" + // leader epoch 7
	"02" + // magic
	"7c349d76" + // CRC32C
	"0010" + // attributes: transactional
	"00000001" + // last offset delta
	"0000018bcfe56800" + // base timestamp
	"0000018bcfe56803" + // max timestamp
	"00000000000003e8" + // producer 1000
	"0002" + // producer epoch 2
	"00000009" + // base sequence 9
	"00000002" + // two records
	// length 12, attributes, timestamp delta 0, offset delta 0, key "k", value "value", no headers
	"18" + "00" + "00" + "00" + "026b" + "0a76616c7565" + "00" +
	// length 13, attributes, delta 3, delta 1, key null, value empty, header "h": "v", header "n": null
	"1a" + "00" + "06" + "02" + "01" + "00" + "04" + "0268" + "0276" + "026e" + "01"

func TestGoldenBatch(t *testing.T) {
	raw, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(BuilderOptions{
		BaseOffset: 42, LeaderEpoch: 7, Transactional: true,
		Producer: &Producer{ID: 1000, Epoch: 2, BaseSequence: 9},
	})
	b.Append(1_700_000_000_000, []byte("k"), []byte("value"))
	b.Append(1_700_000_000_003, nil, []byte{}, Header{"h", []byte("v")}, Header{"n", nil})
	built := b.Build()
	if got := hex.EncodeToString(built); got != golden {
		t.Fatalf("built\n%s, want\n%s", got, golden)
	}
	batch, rest, err := Next(raw)
	if err != nil || len(rest) != 0 {
		t.Fatal(err, rest)
	}
	if err := batch.Verify(); err != nil {
		t.Error(err)
	}
	type fields struct {
		BaseOffset, LastOffset, NextOffset    int64
		Size                                  int
		LeaderEpoch, LastDelta, Count         int32
		Attributes                            int16
		Compression                           Compression
		Type                                  TimestampType
		Txn, Control, Horizon                 bool
		BaseTimestamp, MaxTimestamp, Producer int64
		Epoch                                 int16
		FirstSequence, LastSequence           int32
	}
	got := fields{
		batch.BaseOffset(), batch.LastOffset(), batch.NextOffset(), batch.Size(), batch.LeaderEpoch(),
		batch.LastOffsetDelta(), batch.Count(), batch.Attributes(), batch.Compression(), batch.TimestampType(),
		batch.IsTransactional(), batch.IsControl(), batch.DeleteHorizonSet(), batch.BaseTimestamp(),
		batch.MaxTimestamp(), batch.ProducerID(), batch.ProducerEpoch(), batch.BaseSequence(), batch.LastSequence(),
	}
	want := fields{42, 43, 44, 88, 7, 1, 2, 0x10, None, CreateTime, true, false, false,
		1_700_000_000_000, 1_700_000_000_003, 1000, 2, 9, 10}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// kgoCodecs maps our codecs to franz-go's.
var kgoCodecs = map[Compression]kgo.CompressionCodec{
	None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(),
	LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
}

// TestFranzGoReadsWhatWeBuild decodes our batches with franz-go's types.
func TestFranzGoReadsWhatWeBuild(t *testing.T) {
	for _, c := range allCodecs {
		t.Run(c.String(), func(t *testing.T) {
			ours, want := buildSample(BuilderOptions{BaseOffset: 100, Compression: c}, 500)
			var kb kmsg.RecordBatch
			if err := kb.ReadFrom(ours); err != nil {
				t.Fatal(err)
			}
			if got := uint32(kb.CRC); got != crc32.Checksum(ours[21:], crc32.MakeTable(crc32.Castagnoli)) {
				t.Errorf("CRC %x", got)
			}
			raw, err := kgo.DefaultDecompressor().Decompress(kb.Records, kgo.CompressionCodecType(c))
			if err != nil {
				t.Fatal(err)
			}
			compareRecords(t, want, readKmsg(t, &kb, raw))
		})
	}
}

func readKmsg(t *testing.T, kb *kmsg.RecordBatch, raw []byte) []Record {
	t.Helper()
	var out []Record
	for range kb.NumRecords {
		body, next := split(raw, 0)
		if next < 0 {
			t.Fatal("bad length")
		}
		var r kmsg.Record
		if err := r.ReadFrom(raw[:next]); err != nil {
			t.Fatal(err)
		}
		if int(r.Length) != len(body) {
			t.Fatalf("length %d, want %d", r.Length, len(body))
		}
		rec := Record{
			Offset: kb.FirstOffset + int64(r.OffsetDelta), Timestamp: kb.FirstTimestamp + r.TimestampDelta64,
			Key: r.Key, Value: r.Value,
		}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, Header{Key: h.Key, Value: h.Value})
		}
		out = append(out, rec)
		raw = raw[next:]
	}
	if len(raw) > 0 {
		t.Errorf("%d bytes left", len(raw))
	}
	return out
}

// TestWeReadWhatFranzGoBuilds validates and reads batches made of franz-go's types
// and compressors.
func TestWeReadWhatFranzGoBuilds(t *testing.T) {
	for c, codec := range kgoCodecs {
		t.Run(c.String(), func(t *testing.T) {
			batch, want := kmsgBatch(t, c, codec)
			v, err := Validate(batch, ValidateOptions{FromClient: true})
			if err != nil {
				t.Fatal(err)
			}
			if v.MaxTimestamp != 1_700_000_000_299 || v.OffsetOfMaxTimestamp != 299 {
				t.Errorf("max timestamp %d at %d", v.MaxTimestamp, v.OffsetOfMaxTimestamp)
			}
			compareRecords(t, want, readBatch(t, batch))
		})
	}
}

func kmsgBatch(t *testing.T, c Compression, codec kgo.CompressionCodec) (Batch, []Record) {
	t.Helper()
	const n = 300
	var raw []byte
	var want []Record
	for i := range int32(n) {
		r := kmsg.Record{TimestampDelta64: int64(i), OffsetDelta: i}
		r.Key = fmt.Appendf(nil, "key %d", i)
		r.Value = []byte(strings.Repeat("some value ", int(i%20)))
		r.Headers = []kmsg.Header{{Key: "trace", Value: []byte{1, 2, byte(i)}}}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		raw = r.AppendTo(raw)
		want = append(want, Record{
			Offset: int64(i), Timestamp: 1_700_000_000_000 + int64(i), Key: r.Key, Value: r.Value,
			Headers: []Header{{Key: "trace", Value: []byte{1, 2, byte(i)}}},
		})
	}
	comp, err := kgo.DefaultCompressor(codec)
	if err != nil {
		t.Fatal(err)
	}
	if comp != nil {
		raw, _ = comp.Compress(new(bytes.Buffer), raw)
	}
	kb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: int16(c), LastOffsetDelta: n - 1,
		FirstTimestamp: 1_700_000_000_000, MaxTimestamp: 1_700_000_000_000 + n - 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: n, Records: raw,
	}
	kb.Length = int32(len(kb.AppendTo(nil)) - 12)
	b := Batch(kb.AppendTo(nil))
	b.setCRC()
	return b, want
}

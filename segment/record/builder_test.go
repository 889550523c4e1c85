package record

import (
	"errors"
	"math"
	"testing"
)

func TestBuilderKeepsGaps(t *testing.T) {
	b := NewBuilder(BuilderOptions{BaseOffset: 10})
	want := []Record{{Offset: 12, Timestamp: 5, Value: []byte("a")}, {Offset: 20, Timestamp: 3, Key: []byte{}}}
	for _, r := range want {
		if err := b.AppendRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, offset := range []int64{20, 9, 10 + math.MaxInt32 + 1} {
		if err := b.AppendRecord(Record{Offset: offset}); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("AppendRecord at %d = %v, want ErrInvalidRecord", offset, err)
		}
	}
	if b.NextOffset() != 21 || b.Count() != 2 {
		t.Errorf("NextOffset %d, Count %d", b.NextOffset(), b.Count())
	}
	batch := b.Build()
	compareRecords(t, want, readBatch(t, batch))
	if batch.BaseOffset() != 10 || batch.LastOffset() != 20 || batch.Count() != 2 || batch.MaxTimestamp() != 5 {
		t.Errorf("base %d, last %d, count %d, max timestamp %d", batch.BaseOffset(), batch.LastOffset(), batch.Count(), batch.MaxTimestamp())
	}
	if _, err := Validate(batch, ValidateOptions{}); err != nil {
		t.Errorf("a compacted batch: %v", err)
	}
	if batch.Size() != b.Size() {
		t.Errorf("Size %d, built %d bytes", b.Size(), batch.Size())
	}
}

func TestBuilderIsReusable(t *testing.T) {
	b := NewBuilder(BuilderOptions{})
	if got := b.Build(); got != nil {
		t.Errorf("Build of nothing = %x", got)
	}
	b.Append(1, nil, []byte("first"))
	first := b.Build()
	b.Reset(BuilderOptions{BaseOffset: 5, Compression: Zstd})
	b.Append(2, nil, []byte("second"))
	second := b.Build()
	compareRecords(t, []Record{{Offset: 0, Timestamp: 1, Value: []byte("first")}}, readBatch(t, first))
	compareRecords(t, []Record{{Offset: 5, Timestamp: 2, Value: []byte("second")}}, readBatch(t, second))
}

func TestEndTxnMarker(t *testing.T) {
	for _, want := range []EndTxnMarker{{Commit: true, CoordinatorEpoch: 7}, {CoordinatorEpoch: -1}} {
		b := NewEndTxnBatch(5, 3, want, 1000)
		if !b.IsControl() || !b.IsTransactional() || b.ProducerID() != 5 || b.ProducerEpoch() != 3 || b.BaseSequence() != NoSequence || b.LastSequence() != NoSequence {
			t.Errorf("header % x", b[:HeaderSize])
		}
		if _, err := Validate(b, ValidateOptions{}); err != nil {
			t.Error(err)
		}
		for _, r := range readBatch(t, b) {
			got, err := ParseEndTxnMarker(r.Key, r.Value)
			if err != nil || got != want {
				t.Errorf("ParseEndTxnMarker = %+v, %v; want %+v", got, err, want)
			}
			// Later versions add fields at the end.
			if got, err := ParseEndTxnMarker(r.Key, append(r.Value, 1, 2)); err != nil || got != want {
				t.Errorf("with more bytes: %+v, %v", got, err)
			}
		}
	}
	value := EndTxnMarker{}.Value()
	for name, c := range map[string][2][]byte{
		"short key": {{0, 0, 0}, value}, "negative key version": {{0xff, 0, 0, 0}, value},
		"leader change": {{0, 0, 0, 2}, value}, "short value": {{0, 0, 0, 1}, value[:5]},
		"negative value version": {{0, 0, 0, 1}, {0xff, 0, 0, 0, 0, 0}}, "null": {nil, nil},
	} {
		if _, err := ParseEndTxnMarker(c[0], c[1]); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("%s: %v, want ErrInvalidRecord", name, err)
		}
	}
}

func TestSequenceNumbersWrap(t *testing.T) {
	for _, c := range []struct{ sequence, n, want int32 }{
		{0, 0, 0}, {0, 5, 5}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 3, 1},
		{5, math.MaxInt32, 4},
	} {
		if got := AddSequence(c.sequence, c.n); got != c.want {
			t.Errorf("AddSequence(%d, %d) = %d, want %d", c.sequence, c.n, got, c.want)
		}
	}
}

func TestCompressionNames(t *testing.T) {
	for _, c := range allCodecs {
		if got, err := ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("ParseCompression(%q) = %v, %v", c.String(), got, err)
		}
		if got, err := ParseTarget(c.String()); err != nil || got != c.Target() || got.String() != c.String() || got.of(Gzip) != c {
			t.Errorf("ParseTarget(%q) = %v, %v", c.String(), got, err)
		}
	}
	if got, err := ParseTarget("producer"); err != nil || got != TargetProducer || got.String() != "producer" || got.of(Gzip) != Gzip {
		t.Errorf("ParseTarget(producer) = %v, %v", got, err)
	}
	if got, err := ParseCompression("uncompressed"); err != nil || got != None {
		t.Errorf("ParseCompression(uncompressed) = %v, %v", got, err)
	}
	if _, err := ParseTarget("brotli"); err == nil {
		t.Error("ParseTarget(brotli): want an error")
	}
}

// TestValidateAllocatesNothing guards the produce path.
func TestValidateAllocatesNothing(t *testing.T) {
	batch := batchOf(t, None, 64, 1024)
	got := testing.AllocsPerRun(100, func() {
		if _, err := Validate(batch, ValidateOptions{FromClient: true}); err != nil {
			t.Error(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations per batch", got)
	}
}

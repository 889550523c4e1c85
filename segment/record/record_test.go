package record

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var allCodecs = []Compression{None, Gzip, Snappy, LZ4, Zstd}

// TestBuildAndRead checks that every codec gives back what was built.
func TestBuildAndRead(t *testing.T) {
	for _, c := range allCodecs {
		for _, n := range []int{1, 2, 100, 3000} {
			t.Run(fmt.Sprint(c, n), func(t *testing.T) {
				b, want := buildSample(BuilderOptions{Compression: c}, n)
				batch, rest, err := Next(append(bytes.Clone(b), 1, 2, 3))
				if err != nil || !bytes.Equal(rest, []byte{1, 2, 3}) {
					t.Fatalf("Next: %v, rest %v", err, rest)
				}
				compareRecords(t, want, readBatch(t, batch))
				v, err := Validate(batch, ValidateOptions{FromClient: true})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(v.Batch, b) || v.MaxTimestamp != batch.MaxTimestamp() {
					t.Errorf("Validate changed the batch: %+v", v)
				}
			})
		}
	}
}

func buildSample(o BuilderOptions, n int) (Batch, []Record) {
	b := NewBuilder(o)
	var want []Record
	rng := rand.New(rand.NewSource(int64(n)))
	for i := range n {
		r := Record{Offset: o.BaseOffset + int64(i), Timestamp: 1_700_000_000_000 + int64(rng.Intn(1000))}
		if i%3 > 0 {
			r.Key = fmt.Appendf(nil, "key-%d", i)
		}
		if i%4 > 0 {
			r.Value = bytes.Repeat([]byte{byte(i)}, rng.Intn(200))
		}
		if i%5 == 0 {
			r.Headers = []Header{{Key: "h", Value: []byte("v")}, {Key: "", Value: nil}}
		}
		b.Append(r.Timestamp, r.Key, r.Value, r.Headers...)
		want = append(want, r)
	}
	return b.Build(), want
}

func readBatch(t *testing.T, b Batch) []Record {
	t.Helper()
	var got []Record
	err := b.Each(nil, func(r Record) error {
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		hs := r.Headers
		r.Headers = nil
		for _, h := range hs {
			r.Headers = append(r.Headers, Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		got = append(got, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func compareRecords(t *testing.T, want, got []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !equalRecords(got[i], want[i]) {
			t.Fatalf("record %d: %s", i, cmp.Diff(want[i], got[i]))
		}
	}
}

func TestNextTellsTornFromCorrupt(t *testing.T) {
	b, _ := buildSample(BuilderOptions{}, 3)
	for n := range len(b) {
		if _, _, err := Next(b[:n]); err != ErrTorn {
			t.Fatalf("Next of %d of %d bytes = %v, want ErrTorn", n, len(b), err)
		}
	}
	for _, c := range []struct {
		pos  int
		to   []byte
		want error
	}{
		{posMagic, []byte{0}, ErrMagic},
		{posMagic, []byte{1}, ErrMagic},
		{posMagic, []byte{3}, ErrCorrupt},
		{posLength, []byte{0, 0, 0, 0}, ErrCorrupt},
		{posLength, []byte{0, 0, 0, 48}, ErrCorrupt},
		{posLength, []byte{0xff, 0, 0, 48}, ErrCorrupt},
		{posLength, []byte{0x7f, 0xff, 0xff, 0xff}, ErrTorn},
	} {
		bad := bytes.Clone(b)
		copy(bad[c.pos:], c.to)
		if _, _, err := Next(bad); !errors.Is(err, c.want) {
			t.Errorf("byte %d = %x: %v, want %v", c.pos, c.to, err, c.want)
		}
	}
}

var benchSink Validated

func BenchmarkValidate64KiB(b *testing.B) {
	batch := batchOf(b, None, 64, 1024)
	o := ValidateOptions{FromClient: true, Now: time.UnixMilli(1_700_000_000_000), TimestampBeforeMax: time.Hour, TimestampAfterMax: time.Hour}
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		v, err := Validate(batch, o)
		if err != nil {
			b.Fatal(err)
		}
		benchSink = v
	}
}

func BenchmarkVerify64KiB(b *testing.B) {
	batch := batchOf(b, None, 64, 1024)
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if err := batch.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateCompressed(b *testing.B) {
	for _, c := range allCodecs[1:] {
		b.Run(c.String(), func(b *testing.B) {
			batch := batchOf(b, c, 64, 1024)
			b.SetBytes(64 << 10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Validate(batch, ValidateOptions{FromClient: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func batchOf(tb testing.TB, c Compression, n, size int) Batch {
	tb.Helper()
	builder := NewBuilder(BuilderOptions{Compression: c})
	line := []byte(strings.Repeat("level=info msg=\"request served\" path=/api/v1/items ", 1+size/50))
	for i := range n {
		builder.Append(1_700_000_000_000+int64(i), nil, line[:size])
	}
	return builder.Build()
}

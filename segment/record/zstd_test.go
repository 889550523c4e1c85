package record

import (
	"bytes"
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestZstdWindows reads frames that need more memory than a decoder at rest may
// keep, as zstd's strongest levels write, and refuses those beyond the limit.
func TestZstdWindows(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 20<<16) // 20 MiB
	for name, single := range map[string]bool{"one segment": true, "window": false} {
		t.Run(name, func(t *testing.T) {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(16<<20), zstd.WithSingleSegment(single))
			if err != nil {
				t.Fatal(err)
			}
			payload := enc.EncodeAll(data, nil)
			for range 2 {
				got, err := Decompress(nil, Zstd, payload, nil)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
			}
			if _, err := Decompress(nil, Zstd, payload, NewDecompressor(10<<20)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("beyond the limit: %v, want ErrTooLarge", err)
			}
		})
	}
	t.Run("more readers than are kept", func(t *testing.T) {
		batch := batchOf(t, Zstd, 2, 100)
		var nest func(depth int) error
		nest = func(depth int) error {
			if depth == 0 {
				return nil
			}
			return batch.Each(nil, func(Record) error { return nest(depth - 1) })
		}
		if err := nest(12); err != nil {
			t.Error(err)
		}
	})
}

package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// rawFrame is a zstd frame that claims a window of 2^log bytes and has data in one block as it is.
func rawFrame(log int, data []byte) []byte {
	h := uint32(len(data))<<3 | 1
	return append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0, byte(log-10) << 3, byte(h), byte(h >> 8), byte(h >> 16)}, data...)
}

// TestDecompressionTakesMemoryForContentNotForClaims reads frames of a few bytes that claim windows of 128 MiB.
func TestDecompressionTakesMemoryForContentNotForClaims(t *testing.T) {
	plain := batchOf(t, None, 1, 1)
	recs := plain.Records()
	single := binary.LittleEndian.AppendUint32([]byte{0x28, 0xB5, 0x2F, 0xFD, 0xA0}, 100<<20) // one segment of 100 MiB
	single = append(single, rawFrame(27, recs)[6:]...)
	corrupt := rawFrame(27, recs)
	corrupt[6] |= 2 << 1 // not a compressed block
	for name, test := range map[string]struct {
		payload []byte
		sound   bool
	}{
		"window":                 {rawFrame(27, recs), true},
		"window of a later part": {append(rawFrame(10, recs[:5]), rawFrame(27, recs[5:])...), true},
		"content":                {single, false},
		"damaged":                {corrupt, false},
	} {
		t.Run(name, func(t *testing.T) {
			z := Batch(append(append([]byte(nil), plain[:HeaderSize]...), test.payload...))
			z[posAttributes+1] |= byte(Zstd)
			binary.BigEndian.PutUint32(z[posLength:], uint32(len(z)-lengthOverhead))
			z.setCRC()
			used := allocated(func() {
				if _, err := Validate(z, ValidateOptions{FromClient: true}); (err == nil) != test.sound || err != nil && !errors.Is(err, ErrCorrupt) {
					t.Errorf("Validate: %v, want sound: %v", err, test.sound)
				}
			})
			if used > 6<<20 {
				t.Errorf("%d bytes allocated for %d", used, len(z))
			}
		})
	}
}

// farMatches is data of n MiB, random but for the last of it, which repeats the first.
func farMatches(n int) []byte {
	rng := rand.New(rand.NewPCG(3, uint64(n)))
	data := make([]byte, n<<20)
	for i := 0; i+8 <= len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], rng.Uint64())
	}
	copy(data[len(data)-1<<20:], data[:1<<20])
	return data
}

// TestZstdReadsBackAsFarAsItMust reads content that needs all of its window, in one frame and in several.
func TestZstdReadsBackAsFarAsItMust(t *testing.T) {
	var payload, want []byte
	for _, n := range []int{5, 1, 4} {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		data := farMatches(n)
		frame := enc.EncodeAll(data, nil)
		if n > 1 && len(frame) > len(data)-1<<19 {
			t.Fatalf("%d MiB are %d bytes compressed: nothing reaches back", n, len(frame))
		}
		payload, want = append(payload, frame...), append(want, data...)
	}
	got, err := Decompress(nil, Zstd, payload, nil)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
	}
}

// TestDecompressorsShareTheirMemory lets claims of all sizes come and go.
func TestDecompressorsShareTheirMemory(t *testing.T) {
	const seed, limit = 5, 100 << 20
	s := newScratch(limit)
	var all sync.WaitGroup
	for worker := range uint64(8) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, worker))
			for range 300 {
				c := claim{of: s}
				for range rng.IntN(4) {
					if rng.IntN(8) == 0 {
						c.large()
					}
					c.replace(rng.Int64N(2 * limit))
				}
				s.mu.Lock()
				if s.free < 0 && s.alone == nil {
					t.Errorf("seed %d: %d bytes more than there are are claimed", seed, -s.free)
				}
				s.mu.Unlock()
				c.release()
			}
		})
	}
	all.Wait()
	if s.free != limit || s.alone != nil {
		t.Errorf("seed %d: %d of %d bytes are free in the end", seed, s.free, limit)
	}
}

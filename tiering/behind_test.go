package tiering

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// The lag of a group that is in the tier is told without reading what it has not read.
func TestBehindIsExactAtSegmentsAndWithinAChunkElsewhere(t *testing.T) {
	w := newWorld(t)
	var read atomic.Int64
	store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
		if op.Kind == object.OpGet && strings.HasSuffix(op.Key, ".log") {
			read.Add(1)
		}
		return nil
	})
	const chunk = 1 << 10
	b := w.mustStart(settings{config: smallLog(), store: store, chunk: chunk})
	if err := b.produce(3000); err != nil {
		t.Fatal(err)
	}
	if err := b.log.Roll(); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	// Where each offset's batch begins, counted from the tier's start, and each segment's first offset.
	var starts []int64
	borders := map[int64]bool{}
	total, largest := int64(0), int64(0)
	for e, err := range b.m.Entries(t.Context(), w.tip(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		borders[e.BaseOffset] = true
		bytes := body(t, w.store, b.m.bucket.Prefix+manifest.PartitionDir("orders", w.tip())+manifest.SegmentsDir+e.Object+manifest.LogSuffix)
		for len(bytes) > 0 {
			batch, rest, err := record.Next(bytes)
			if err != nil {
				t.Fatal(err)
			}
			for range batch.LastOffset() - batch.BaseOffset() + 1 {
				starts = append(starts, total)
			}
			total, largest, bytes = total+int64(batch.Size()), max(largest, int64(batch.Size())), rest
		}
	}
	root, err := b.m.Root(t.Context(), w.tip())
	if err != nil || len(root.Refs) == 0 || int64(len(starts)) != root.EndOffset {
		t.Fatalf("want a manifest with leaves that holds all %d offsets: %+v, %v", len(starts), root, err)
	}
	read.Store(0)
	slack := chunk + largest
	last := total + 1
	for offset := range root.EndOffset {
		bytes, ts, err := b.m.Behind(t.Context(), w.tip(), offset)
		if err != nil {
			t.Fatal(err)
		}
		truth := total - starts[offset]
		if off := bytes - truth; off > slack || off < -slack || borders[offset] && off != 0 || bytes > last {
			t.Errorf("offset %d: %d bytes behind it, %d are, %d were behind the one before", offset, bytes, truth, last)
		}
		last = bytes
		// Records are ten milliseconds apart, and take 100 to 300 bytes each. Nothing is known before the first chunk.
		if off := ts - testTime(offset); offset > 10 && (off > 10 || off < -10) {
			t.Errorf("offset %d: time %d, is %d", offset, ts, testTime(offset))
		}
	}
	if bytes, ts, err := b.m.Behind(t.Context(), w.tip(), root.EndOffset); bytes != 0 || ts != -1 || err != nil {
		t.Errorf("at the end: %d bytes, time %d, %v", bytes, ts, err)
	}
	if n := read.Load(); n > 0 {
		t.Errorf("%d reads of records", n)
	}
}

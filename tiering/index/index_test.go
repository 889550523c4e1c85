package index

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/tiering/manifest"
)

func testIndex() *Index {
	return &Index{
		BaseOffset: 100, LastOffset: 199, LogBytes: 5000, LogCRC32C: 0x12345678, MaxTimestamp: 77,
		Cuts:   []Cut{{Offset: 100, Position: 0, MaxTimestamp: 50}, {Offset: 150, Position: 2000, MaxTimestamp: 50}, {Offset: 180, Position: 4000, MaxTimestamp: 77}},
		Epochs: manifest.Lineage{{Epoch: 0, StartOffset: 0}, {Epoch: 3, StartOffset: 120}},
		Txn:    make([]byte, 2*txnEntryBytes), Snapshot: []byte("snapshot"), Offset: make([]byte, 3*offsetEntryBytes), Time: make([]byte, timeEntryBytes),
	}
}

func TestIndexObjectKeepsAllOfASegmentsIndexes(t *testing.T) {
	want := testIndex()
	b, head, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	h, err := DecodeHead(b[:head], int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Cuts, h.Cuts); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
}

func TestIndexObjectDetectsEveryChangedByte(t *testing.T) {
	b, head, err := testIndex().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		c := []byte(string(b))
		c[i] ^= 0x40
		if _, err := Decode(c); err == nil {
			t.Fatalf("byte %d changed: no error", i)
		}
		if _, err := Decode(b[:i]); err == nil {
			t.Fatalf("cut to %d bytes: no error", i)
		}
		if _, err := DecodeHead(c[:head], int64(len(c))); err == nil && int64(i) < head {
			t.Fatalf("byte %d of the head changed: no error", i)
		}
	}
}

func TestIndexObjectRefusesCutsThatAreNotInOrder(t *testing.T) {
	for name, damage := range map[string]func(*Index){
		"no cuts":     func(x *Index) { x.Cuts = nil },
		"position":    func(x *Index) { x.Cuts[1].Position = 0 },
		"beyond":      func(x *Index) { x.Cuts[2].Position = 5000 },
		"offset":      func(x *Index) { x.Cuts[1].Offset = 99 },
		"last offset": func(x *Index) { x.Cuts[2].Offset = 200 },
		"time":        func(x *Index) { x.Cuts[0].MaxTimestamp = 60 },
		"max time":    func(x *Index) { x.MaxTimestamp = 78 },
		"time index":  func(x *Index) { x.Time = x.Time[1:] },
		"epochs":      func(x *Index) { x.Epochs[1].StartOffset = 0 },
	} {
		x := testIndex()
		damage(x)
		if _, _, err := x.Encode(); !errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChunksHoldWholePiecesAndCoverTheSegment(t *testing.T) {
	cuts := testIndex().Cuts
	for _, c := range []struct {
		limit int64
		want  []Chunk
	}{
		{1, []Chunk{{0, 2000, 100, 50}, {2000, 2000, 150, 50}, {4000, 1000, 180, 77}}},
		{3000, []Chunk{{0, 2000, 100, 50}, {2000, 3000, 150, 77}}},
		{4000, []Chunk{{0, 4000, 100, 50}, {4000, 1000, 180, 77}}},
		{1 << 20, []Chunk{{0, 5000, 100, 77}}},
	} {
		got := Chunks(cuts, 5000, c.limit)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(Chunk{})); diff != "" {
			t.Errorf("limit %d: -want +got:\n%s", c.limit, diff)
		}
	}
}

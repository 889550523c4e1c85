package tiering

import (
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/index"
)

// TestReadsAreTheSameWithTieringOnOrOff is invariant 7.
func TestReadsAreTheSameWithTieringOnOrOff(t *testing.T) {
	const records = 600
	var want string
	for _, c := range []struct {
		name          string
		untier        bool
		memory, chunk int64
		max           int
	}{
		{"local", true, 4 << 20, 4 << 10, 1 << 20},
		{"large chunks", false, 4 << 20, 64 << 10, 1 << 20},
		{"small chunks", false, 4 << 20, 1, 1 << 20},
		{"cache of one chunk", false, 4 << 10, 2 << 10, 1 << 20},
		{"one batch at a time", false, 4 << 20, 4 << 10, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			b := w.mustStart(settings{config: smallLog(), untier: c.untier, memory: c.memory, chunk: c.chunk})
			if err := b.produce(records); err != nil {
				t.Fatal(err)
			}
			if !c.untier {
				b.uploaded()
				if err := b.evict(); err != nil {
					t.Fatal(err)
				}
				if b.log.LocalLogStart() == 0 {
					t.Fatal("nothing was evicted")
				}
			}
			got, err := b.readAll(t.Context(), 0, c.max)
			if err != nil {
				t.Fatal(err)
			}
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatal("other bytes than without tiering")
			}
			for _, at := range []int64{0, 1, 17, 250, records - 1} {
				found, ok, err := b.log.OffsetForTimestamp(testTime(at))
				if at < b.log.LocalLogStart() {
					found, ok, err = b.m.OffsetForTimestamp(t.Context(), b.tip(), testTime(at)-5, 0)
				}
				if err != nil || !ok || found.Offset != at || found.Timestamp != testTime(at) {
					t.Errorf("time of offset %d: %+v, %v, %v", at, found, ok, err)
				}
			}
			if !c.untier {
				highest := b.m.View(b.tip()).HighestOffset
				found, ok, err := b.m.MaxTimestamp(t.Context(), b.tip(), 0)
				if err != nil || !ok || found.Offset != highest || found.Timestamp != testTime(highest) {
					t.Errorf("highest timestamp: %+v, %v, %v; want offset %d", found, ok, err, highest)
				}
			}
		})
	}
}

func TestSealedSegmentsReachTheBucketUnderTheirNames(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	if err := b.produce(300); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	root, err := b.m.Root(t.Context(), w.tip())
	if err != nil {
		t.Fatal(err)
	}
	objects := w.objects()
	dir := "c1/topics/orders." + w.topic.ID.String() + "/"
	if _, ok := objects[dir+"topic.json"]; !ok {
		t.Errorf("no topic.json among %v", objects)
	}
	file, err := bucket.DecodeTopicFile(body(t, w.store, dir+"topic.json"))
	if err != nil || file.Topic != "orders" || file.TopicID != w.topic.ID || file.Partitions != 1 {
		t.Errorf("topic.json: %+v, %v", file, err)
	}
	n := 0
	for e, err := range b.m.Entries(t.Context(), w.tip(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got := objects[dir+"0/segments/"+e.Object+".log"]; got != e.Bytes {
			t.Errorf("%s.log has %d bytes, want %d", e.Object, got, e.Bytes)
		}
		x, err := index.Decode(body(t, w.store, dir+"0/segments/"+e.Object+".idx"))
		if err != nil || x.BaseOffset != e.BaseOffset || x.LastOffset != e.LastOffset || len(x.Snapshot) == 0 || len(x.Offset) == 0 || len(x.Time) == 0 {
			t.Errorf("%s.idx: %+v, %v", e.Object, x, err)
		}
		n++
	}
	if int64(n) != root.Segments || n < 5 {
		t.Errorf("%d entries, root says %d", n, root.Segments)
	}
	aux, ok, err := b.m.AuxState(t.Context(), w.tip())
	if err != nil || !ok || aux.EndOffset != root.EndOffset || len(aux.Epochs) != 1 || len(aux.ProducerSnapshot) == 0 {
		t.Errorf("state at the tier's end: %+v, %v, %v", aux, ok, err)
	}
	for _, s := range b.m.Status(time.Now()) {
		if s.View.PendingSegments != 0 || s.View.Segments != root.Segments || s.View.Bytes != root.Bytes {
			t.Errorf("status: %+v", s)
		}
	}
}

func TestOffsetsOutsideTheTierAreOutOfRange(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	if err := b.produce(100); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	for _, at := range []int64{b.m.View(w.tip()).HighestOffset + 1, 1 << 40} {
		_, err := b.m.Read(t.Context(), w.tip(), at, readAnything)
		if err == nil || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("read at %d: %v", at, err)
		}
	}
}

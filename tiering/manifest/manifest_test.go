package manifest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
)

// forest is a manifest whose nodes live in a map.
type forest struct {
	root  *Root
	nodes map[string][]byte
	known map[string]*Node // decoded before
	loads int
}

func newForest() *forest {
	return &forest{root: NewRoot("orders", testTip, 0), nodes: map[string][]byte{}, known: map[string]*Node{}}
}

func (f *forest) load(_ context.Context, ref Ref) (*Node, error) {
	f.loads++
	if n := f.known[ref.Object]; n != nil {
		return n, nil
	}
	b, ok := f.nodes[ref.Object]
	if !ok {
		return nil, fmt.Errorf("node %s: %w", ref.Object, ErrMissing)
	}
	n, err := DecodeNode(b, ref)
	if err == nil {
		f.known[ref.Object] = n
	}
	return n, err
}

func (f *forest) tree() Tree { return Tree{Root: f.root, Load: f.load} }

// commit applies fn as one edit, through the encoded form.
func (f *forest) commit(t testing.TB, now time.Time, fn func(*Edit)) {
	t.Helper()
	e := NewEdit(f.root, f.load, now, time.Hour)
	fn(e)
	e.Next.Sequence++
	b, err := e.Next.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range e.Nodes {
		f.nodes[n.Name] = n.Body
	}
	if f.root, err = DecodeRoot(b); err != nil {
		t.Fatal(err)
	}
}

func (f *forest) grow(t testing.TB, n int) {
	t.Helper()
	for n > 0 {
		f.commit(t, time.UnixMilli(1), func(e *Edit) {
			for range min(n, 2500) {
				if err := e.Add(t.Context(), testEntry(e.Next.EndOffset)); err != nil {
					t.Fatal(err)
				}
				n--
			}
		})
	}
}

func TestManifestFindsEveryOffsetAtAnySize(t *testing.T) {
	f := newForest()
	for _, n := range []int{1, 99, 100, 101, 999, 1000, 1001, 2000, 101_500} {
		f.grow(t, n-int(f.root.Segments))
		if f.root.Segments != int64(n) || f.root.Bytes != int64(n)*100 || f.root.EndOffset != int64(n)*10 {
			t.Fatalf("%d entries: got %d segments, %d bytes, end %d", n, f.root.Segments, f.root.Bytes, f.root.EndOffset)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			offset := rng.Int64N(int64(n) * 10)
			f.loads = 0
			e, err := f.tree().Find(t.Context(), offset)
			if err != nil || e.BaseOffset != offset/10*10 || f.loads > 3 {
				t.Fatalf("%d entries: find %d: %+v, %v, %d loads", n, offset, e, err, f.loads)
			}
			e, err = f.tree().FindTime(t.Context(), offset, 0)
			if err != nil || e.BaseOffset != offset/10*10 {
				t.Fatalf("%d entries: find time %d: %+v, %v", n, offset, e, err)
			}
		}
		for _, offset := range []int64{-1, int64(n) * 10} {
			if _, err := f.tree().Find(t.Context(), offset); !errors.Is(err, ErrOffsetOutOfRange) {
				t.Fatalf("%d entries: find %d: %v", n, offset, err)
			}
		}
		if e, err := f.tree().MaxTimestamp(t.Context(), 0); err != nil || e.LastOffset != int64(n)*10-1 {
			t.Fatalf("%d entries: highest timestamp: %+v, %v", n, e, err)
		}
		if b, err := f.root.Encode(); err != nil || len(b) > 80<<10 {
			t.Fatalf("%d entries: root of %d bytes, %v", n, len(b), err)
		}
	}
	t.Run("walks every live entry once and in order", func(t *testing.T) { walkWhileDropping(t, f) })
}

func walkWhileDropping(t *testing.T, f *forest) {
	for _, start := range []int64{0, 5, 10, 9_995, 10_000, 10_010, 234_560, 1_010_000, 1_014_000} {
		f.commit(t, time.UnixMilli(1), func(e *Edit) {
			if _, err := e.DropBefore(t.Context(), start); err != nil {
				t.Fatal(err)
			}
		})
		want := start / 10 * 10
		if f.root.StartOffset != want || f.root.Segments != (1_015_000-want)/10 || f.root.Bytes != f.root.Segments*100 {
			t.Fatalf("after dropping before %d: start %d, %d segments, %d bytes", start, f.root.StartOffset, f.root.Segments, f.root.Bytes)
		}
		for e, err := range f.tree().Walk(t.Context(), 0, nil) {
			if err != nil || e.BaseOffset != want {
				t.Fatalf("after dropping before %d: got %+v, %v, want base %d", start, e, err, want)
			}
			want = e.LastOffset + 1
			if want == start/10*10+50_000 {
				want = f.root.EndOffset
				break
			}
		}
		if want != f.root.EndOffset {
			t.Fatalf("walk ended at %d, want %d", want, f.root.EndOffset)
		}
	}
	// The manifest goes on growing after its front was unpacked and trimmed.
	f.grow(t, 2_000)
	if _, err := f.tree().Find(t.Context(), f.root.EndOffset-1); err != nil {
		t.Fatal(err)
	}
}

func TestManifestGarbageNamesEverythingThatWasDropped(t *testing.T) {
	f := newForest()
	f.grow(t, 3500)
	stems := map[string]bool{}
	for e := range f.tree().Walk(t.Context(), 0, nil) {
		stems[e.Object] = true
	}
	now := time.UnixMilli(1)
	for start := int64(0); start <= 35_000; start += 1730 {
		now = now.Add(time.Minute)
		f.commit(t, now, func(e *Edit) {
			if _, err := e.DropBefore(t.Context(), start); err != nil {
				t.Fatal(err)
			}
		})
	}
	f.commit(t, now, func(e *Edit) { _, _ = e.DropBefore(t.Context(), 35_000) })
	if f.root.Segments != 0 || f.root.StartOffset != 35_000 || f.root.EndOffset != 35_000 {
		t.Fatalf("not empty: %+v", f.root)
	}
	dead := map[string]bool{}
	for _, g := range f.root.Garbage {
		for _, s := range g.Segments {
			dead[s] = true
		}
		if g.Leaf != nil {
			leaf, err := f.load(t.Context(), g.Leaf.Ref)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range leaf.Entries {
				if e.BaseOffset >= g.Leaf.From && e.BaseOffset < g.Leaf.To {
					dead[e.Object] = true
				}
			}
		}
	}
	if diff := cmp.Diff(stems, dead); diff != "" {
		t.Fatalf("garbage differs (-want +got):\n%s", diff)
	}
	// An emptied manifest starts again anywhere later.
	f.commit(t, now, func(e *Edit) {
		if err := e.Add(t.Context(), testEntry(50_000)); err != nil {
			t.Fatal(err)
		}
	})
	if f.root.StartOffset != 50_000 {
		t.Fatalf("start %d", f.root.StartOffset)
	}
}

func TestManifestListOfGarbageIsBounded(t *testing.T) {
	f := newForest()
	f.grow(t, 1500)
	now := time.UnixMilli(1)
	root := *f.root
	for i := range int64(1200) {
		now = now.Add(time.Hour)
		e := NewEdit(&root, f.load, now, time.Hour)
		if _, err := e.DropBefore(t.Context(), i*7); err != nil {
			t.Fatal(err)
		}
		e.buryRoots(DeadRoots{LeaderEpoch: int32(i / 3), From: i, To: i + 1})
		root = e.Next
	}
	if n := len(root.Garbage); n > maxGarbage || n < maxGarbage/2 {
		t.Fatalf("%d items", n)
	}
	if _, err := root.Encode(); err != nil {
		t.Fatal(err)
	}
}

func TestManifestRefusesGapsAndOverlaps(t *testing.T) {
	f := newForest()
	f.grow(t, 3)
	for _, base := range []int64{0, 20, 29, 31, 40} {
		e := NewEdit(f.root, f.load, time.UnixMilli(1), time.Hour)
		if err := e.Add(t.Context(), testEntry(base)); !errors.Is(err, ErrDiverged) {
			t.Errorf("add at %d after 29: %v", base, err)
		}
	}
	for name, damage := range map[string]func(*Root){
		"gap":           func(r *Root) { r.Tail[1].BaseOffset++; r.Tail[1].Epochs[0].StartOffset++ },
		"overlap":       func(r *Root) { r.Tail[0].LastOffset++ },
		"end":           func(r *Root) { r.EndOffset++ },
		"totals":        func(r *Root) { r.Bytes++ },
		"segments":      func(r *Root) { r.Segments-- },
		"start":         func(r *Root) { r.StartOffset = 5 },
		"trimmed":       func(r *Root) { r.Trimmed = Trimmed{Segments: 1, Bytes: 100} },
		"epochs":        func(r *Root) { r.Epochs = nil },
		"object":        func(r *Root) { r.Tail[0].Object = "a/../../b" },
		"empty garbage": func(r *Root) { r.Garbage = []Garbage{{NotBefore: 1}} },
	} {
		b, err := f.root.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r, err := DecodeRoot(b)
		if err != nil {
			t.Fatal(err)
		}
		damage(r)
		if _, err := r.Encode(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: encoded: %v", name, err)
		}
		if b, _, err = SealJSON(rootFormat, r, MaxRootBytes); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRoot(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: decoded: %v", name, err)
		}
	}
}

func TestManifestDetectsEveryChangedByte(t *testing.T) {
	f := newForest()
	f.grow(t, 2)
	b, err := f.root.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		c := []byte(string(b))
		c[i] ^= 0x20
		if r, err := DecodeRoot(c); err == nil && i < len(header(rootFormat, 1)) {
			t.Fatalf("byte %d changed: %+v", i, r)
		} else if err == nil && cmp.Diff(r, f.root) != "" {
			t.Fatalf("byte %d changed unnoticed", i)
		}
		if _, err := DecodeRoot(b[:i]); err == nil {
			t.Fatalf("cut to %d bytes: no error", i)
		}
	}
	newer := []byte(strings.Replace(string(b), `"version":1`, `"version":2`, 1))
	if _, err := DecodeRoot(newer); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) {
		t.Fatalf("a version that damage has made: %v", err)
	}
}

func TestEpochLineageAnswersAsKafkasCache(t *testing.T) {
	l := Lineage{{Epoch: 2, StartOffset: 10}, {Epoch: 5, StartOffset: 20}}
	for _, c := range []struct {
		epoch, want int32
		end         int64
	}{{1, -1, -1}, {2, 2, 20}, {3, 2, 20}, {5, 5, 33}, {9, 5, 33}} {
		if e, end := l.EndOf(c.epoch, 33); e != c.want || end != c.end {
			t.Errorf("end of epoch %d: %d, %d", c.epoch, e, end)
		}
	}
	if got := l.trim(15); cmp.Diff(got, l) != "" {
		t.Errorf("trim inside the first epoch: %v", got)
	}
	if got := l.trim(20); cmp.Diff(got, Lineage{{Epoch: 5, StartOffset: 20}}) != "" {
		t.Errorf("trim at the border: %v", got)
	}
	if _, err := l.extend(Lineage{{Epoch: 4, StartOffset: 30}}); !errors.Is(err, ErrDiverged) {
		t.Errorf("an older epoch after a newer one: %v", err)
	}
	if got, err := l.extend(Lineage{{Epoch: 5, StartOffset: 30}, {Epoch: 6, StartOffset: 40}}); err != nil || len(got) != 3 || got[2] != (EpochEntry{Epoch: 6, StartOffset: 40}) {
		t.Errorf("extend: %v, %v", got, err)
	}
}

var testTip = metadata.TopicIDPartition{Topic: metadata.TopicID{1, 2, 3}, Partition: 4}

// testEntry has 10 offsets, 100 bytes and a timestamp equal to its last offset.
func testEntry(base int64) Entry {
	return Entry{
		BaseOffset: base, LastOffset: base + 9, MaxTimestamp: base + 9, MaxTimestampOffset: base + 9, Bytes: 100, CRC32C: CRC(base),
		IndexBytes: 50, IndexHead: 40, Epochs: Lineage{{Epoch: int32(base / 100000), StartOffset: base}},
		Created: 1, Object: NewStem(base, 0),
	}
}

package tiering

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// timesOf is a cold log whose timestamps go up and down, and the timestamp of each of its records in the tier.
func timesOf(t *testing.T, rng *rand.Rand) (b *broker, store *logGets, times []int64) {
	w := newWorld(t)
	store = countLogGets(w.store)
	cfg := smallLog()
	cfg.SegmentBytes = 32 << 10
	b = w.mustStart(settings{config: cfg, store: store, chunk: 16 << 10, bufferBytes: 16 << 10})
	for b.log.LogEnd() < 3000 {
		bl := record.NewBuilder(record.BuilderOptions{Compression: record.Compression(rng.IntN(5))})
		for range 1 + rng.IntN(4) {
			ts := b.log.LogEnd()*10 + rng.Int64N(400)
			if rng.IntN(200) == 0 {
				ts += 5000 // a clock that is ahead
			}
			bl.Append(ts, nil, testValue(int64(len(times))))
			times = append(times, ts)
		}
		b.append(bl.Build(), segment.Client)
	}
	b.uploaded()
	if err := b.evict(); err != nil {
		t.Fatal(err)
	}
	return b, store, times[:b.m.View(b.tip()).HighestOffset+1]
}

// TestTimesAreLookedUpInOnePieceAndAboveTheLogStart compares with the list of all timestamps, and counts: a look-up by
// time reads one piece of one object, of a kilobyte here, not its chunk of sixteen, and the highest timestamp none
// unless the log starts behind the record that has it.
func TestTimesAreLookedUpInOnePieceAndAboveTheLogStart(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 1))
	b, store, times := timesOf(t, rng)
	first := func(ts, from int64) int64 {
		for o := from; o < int64(len(times)); o++ {
			if times[o] >= ts {
				return o
			}
		}
		return -1
	}
	for n := range 600 {
		ts, from := rng.Int64N(35_000)-100, int64(0)
		if n%2 == 1 {
			from = rng.Int64N(int64(len(times)))
		}
		store.reset()
		got, ok, err := b.m.OffsetForTimestamp(t.Context(), b.tip(), ts, from)
		if want := first(ts, from); err != nil || ok != (want >= 0) || ok && (got.Offset != want || got.Timestamp != times[want] || got.LeaderEpoch != b.epoch) {
			t.Fatalf("seed %d: time %d from offset %d: %+v, %v, %v, want offset %d", seed, ts, from, got, ok, err, want)
		}
		if gets, bytes := store.gets.Load(), store.bytes.Load(); from == 0 && (gets > 1 || bytes > 2<<10) {
			t.Fatalf("seed %d: time %d: %d GETs of %d bytes", seed, ts, gets, bytes)
		}
	}
	for n := range 200 {
		from := max(rng.Int64N(int64(len(times)+100))-100, 0)
		if n == 0 {
			from = 0
		}
		want := int64(-1)
		for o := from; o < int64(len(times)); o++ {
			if want < 0 || times[o] > times[want] {
				want = o
			}
		}
		store.reset()
		got, ok, err := b.m.MaxTimestamp(t.Context(), b.tip(), from)
		if err != nil || ok != (want >= 0) || ok && (got.Offset != want || got.Timestamp != times[want]) {
			t.Fatalf("seed %d: highest timestamp from offset %d: %+v, %v, %v, want offset %d", seed, from, got, ok, err, want)
		}
		if gets := store.gets.Load(); from == 0 && gets > 0 {
			t.Fatalf("%d GETs for the highest timestamp", gets)
		}
	}
}

// TestLookupsSurviveAManifestThatIsGone reads through a manifest that was replaced long ago and deleted, as a broker
// does that heard nothing for longer than the grace period.
func TestLookupsSurviveAManifestThatIsGone(t *testing.T) {
	w := newWorld(t)
	b := w.mustStart(settings{config: smallLog()})
	if err := b.produce(100); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	p := b.m.partition(w.tip())
	old, err := b.m.current(t.Context(), p, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.produce(100); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	if err := w.store.Delete(t.Context(), "c1/"+old.Pointer.Manifest); err != nil {
		t.Fatal(err)
	}
	other := w.mustStart(settings{config: smallLog(), noLead: true, fs: vfs.NewMem()})
	q := other.m.partition(w.tip())
	q.mu.Lock()
	q.pointer = old.Pointer
	q.pointer.ModRevision = math.MaxInt64 // no image is newer
	q.mu.Unlock()
	got, ok, err := other.m.OffsetForTimestamp(t.Context(), w.tip(), testTime(50), 0)
	if err != nil || !ok || got.Offset != 50 {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
}

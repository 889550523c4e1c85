package segment

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// filled returns a log with n segments of one batch each, with timestamps an hour
// apart from t0 on, all synced and below the high watermark.
func filled(t *testing.T, mem *vfs.Mem, cfg Config, n int) *Log {
	t.Helper()
	return filledIn(t, openDir(t, mem), cfg, n)
}

func filledIn(t *testing.T, d *Dir, cfg Config, n int) *Log {
	t.Helper()
	l := openLog(t, d, cfg)
	for i := range n {
		mustAppend(t, l, 0, plain(t0.Add(time.Duration(i)*time.Hour).UnixMilli(), "a", "b"))
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	l.SetHighWatermark(l.LogEnd())
	return l
}

// TestLocalSegmentGoesOnlyWhenTheTierHasIt is ARCHITECTURE.md §4, invariant 4.
func TestLocalSegmentGoesOnlyWhenTheTierHasIt(t *testing.T) {
	cfg := Config{Delete: true, RemoteEnabled: true, LocalRetentionBytes: 0, LocalRetentionAge: 0, RetentionBytes: 0, RetentionAge: 0}
	l := filled(t, vfs.NewMem(), cfg, 5)
	late := t0.Add(1000 * time.Hour)
	expire := func(highest int64, loaded bool) {
		t.Helper()
		if _, err := l.ExpireLocal(late, highest, loaded); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		highest int64
		loaded  bool
		local   int64
	}{{9, false, 0}, {-1, true, 0}, {0, true, 0}, {1, true, 2}, {4, true, 4}, {5, true, 6}, {100, true, 10}} {
		expire(step.highest, step.loaded)
		if l.LocalLogStart() != step.local || l.LogStart() != 0 {
			t.Fatalf("tier up to %d, loaded %v: local log start %d, want %d; log start %d",
				step.highest, step.loaded, l.LocalLogStart(), step.local, l.LogStart())
		}
	}
	if _, err := l.Read(3, ReadOptions{UpTo: 10, MaxBytes: 10}); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatalf("read of what is only in the tier: %v", err)
	}
}

func TestNothingAboveTheHighWatermarkExpires(t *testing.T) {
	l := filled(t, vfs.NewMem(), Config{Delete: true}, 3)
	l.hw.Store(3)
	if _, err := l.ExpireLocal(t0.Add(1000*time.Hour), -1, true); err != nil {
		t.Fatal(err)
	}
	if l.LogStart() != 2 {
		t.Fatalf("log start %d, want 2", l.LogStart())
	}
}

func TestRetentionByAgeAndSize(t *testing.T) {
	size := int64(len(plain(t0.UnixMilli(), "a", "b")))
	for name, c := range map[string]struct {
		cfg  Config
		now  time.Duration
		want int64
	}{
		"compact only":      {Config{RetentionAge: time.Hour, RetentionBytes: 1}, 1000 * time.Hour, 0},
		"unlimited":         {Config{Delete: true, RetentionAge: -1, RetentionBytes: -1}, 1000 * time.Hour, 0},
		"age, not yet":      {Config{Delete: true, RetentionAge: 3 * time.Hour, RetentionBytes: -1}, 3 * time.Hour, 0},
		"age":               {Config{Delete: true, RetentionAge: 3 * time.Hour, RetentionBytes: -1}, 4*time.Hour + time.Minute, 4},
		"size":              {Config{Delete: true, RetentionAge: -1, RetentionBytes: 2 * size}, 0, 6},
		"size between":      {Config{Delete: true, RetentionAge: -1, RetentionBytes: 2*size + 1}, 0, 4},
		"all of it by age":  {Config{Delete: true, RetentionAge: time.Hour, RetentionBytes: -1}, 1000 * time.Hour, 10},
		"all of it by size": {Config{Delete: true, RetentionAge: -1, RetentionBytes: 0}, 0, 10},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			l := filled(t, mem, c.cfg, 5)
			before := l.LocalBytes()
			freed, err := l.ExpireLocal(t0.Add(c.now), -1, true)
			if err != nil {
				t.Fatal(err)
			}
			if l.LogStart() != c.want || l.LocalLogStart() != c.want || freed != before-l.LocalBytes() {
				t.Fatalf("log start %d, local %d, want %d; freed %d of %d", l.LogStart(), l.LocalLogStart(), c.want, freed, before)
			}
			// It never comes back.
			again := openLog(t, openDir(t, mem.Crash(newRand(1), 0)), c.cfg)
			if again.LogStart() != c.want || again.LogEnd() != 10 {
				t.Fatalf("after a crash the log is from %d to %d", again.LogStart(), again.LogEnd())
			}
		})
	}
}

// TestIdleLogIsEmptiedByAge: the active segment is closed when all of it is too
// old, so that what nobody writes to does not stay for ever.
func TestIdleLogIsEmptiedByAge(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{Delete: true, RetentionAge: time.Hour, RetentionBytes: -1})
	mustAppend(t, l, 0, plain(t0.UnixMilli(), "a"))
	l.SetHighWatermark(1)
	if _, err := l.ExpireLocal(t0.Add(30*time.Minute), -1, true); err != nil || l.LogStart() != 0 {
		t.Fatalf("log start %d, %v", l.LogStart(), err)
	}
	if _, err := l.ExpireLocal(t0.Add(2*time.Hour), -1, true); err != nil || l.LogStart() != 1 || l.LocalBytes() != 0 {
		t.Fatalf("log start %d, %d bytes, %v", l.LogStart(), l.LocalBytes(), err)
	}
}

func TestActiveSegmentIsClosedInTimeForUpload(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{RemoteEnabled: true, CopyMaxAge: time.Minute, SegmentAge: time.Hour})
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{59 * time.Second, false}, {time.Minute, true}, {2 * time.Minute, false}} {
		if step.after == 59*time.Second {
			mustAppend(t, l, 0, plain(1, "a"))
		}
		rolled, err := l.RollIfDue(t0.Add(step.after))
		if err != nil || rolled != step.want {
			t.Fatalf("after %v: rolled %v, %v", step.after, rolled, err)
		}
	}
	if err := l.seal(); err != nil {
		t.Fatal(err)
	}
	if s := l.Sealed(0); len(s) != 1 || s[0].LastOffset != 0 {
		t.Fatalf("sealed %v", s)
	}
}

// TestSealedSegmentIsWhatItsRecordsSay: all that is uploaded is made from records
// whose CRCs are right.
func TestSealedSegmentIsWhatItsRecordsSay(t *testing.T) {
	mem := vfs.NewMem()
	l := openLog(t, openDir(t, mem), Config{IndexIntervalBytes: 1, RemoteEnabled: true})
	b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: 5, Epoch: 1}})
	b.Append(10, nil, []byte("t"))
	mustAppend(t, l, 1, b.Build())
	marker := record.NewEndTxnBatch(5, 1, record.EndTxnMarker{}, 11)
	if _, err := l.AppendAsLeader(marker, AppendOptions{LeaderEpoch: 1, Origin: Coordinator, Now: t0}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 3, plain(20, "a"))
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 4, plain(30, "b"))
	sealed := l.Sealed(0)
	if len(sealed) != 1 || sealed[0].BaseOffset != 0 || sealed[0].LastOffset != 2 || sealed[0].MaxTimestamp != 20 {
		t.Fatalf("sealed %+v", sealed)
	}
	s, err := l.OpenSealed(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	for suffix, get := range map[string]func() ([]byte, error){
		indexSuffix: s.OffsetIndex, timeSuffix: s.TimeIndex, txnSuffix: s.TxnIndex,
	} {
		got, err := get()
		want, werr := vfs.ReadFile(mem, "/data/orders-3/"+fileName(0, suffix), 1<<20)
		if err := errors.Join(err, werr); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
			t.Fatalf("%s of %d bytes (-file +built):\n%s", suffix, len(got), diff)
		}
	}
	onDisk, err := s.ProducerSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := mem.Remove("/data/orders-3/" + fileName(3, snapshotSuffix)); err != nil {
		t.Fatal(err)
	}
	computed, err := s.ProducerSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(onDisk, computed); diff != "" {
		t.Fatalf("producer snapshot (-file +computed):\n%s", diff)
	}
	if diff := cmp.Diff([]EpochEntry{{1, 0}, {3, 2}}, s.Epochs()); diff != "" {
		t.Fatal(diff)
	}
	// Removed meanwhile, it can still be read to the end; damaged, it is refused.
	l.SetHighWatermark(4)
	if err := l.SetLogStart(3); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := s.Scan(func(record.Batch, int64) error { n++; return nil }); err != nil || n != 3 {
		t.Fatalf("%d batches, %v", n, err)
	}
	if _, err := s.LogFile().WriteAt([]byte{1}, 80); err != nil {
		t.Fatal(err)
	}
	if err := s.Scan(func(record.Batch, int64) error { return nil }); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("scan of a damaged segment: %v", err)
	}
	if _, err := l.OpenSealed(0); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatalf("open a removed segment: %v", err)
	}
}

// TestFollowerStartsFromTheTier is the bootstrap of KIP-405.
func TestFollowerStartsFromTheTier(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	cfg := Config{RemoteEnabled: true, ProducerExpiration: 100000 * time.Hour * 10}
	l := openLog(t, d, cfg)
	mustAppend(t, l, 1, plain(1, "old"))
	donor := filled(t, vfs.NewMem(), Config{}, 1)
	b := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: 9, Epoch: 2, BaseSequence: 0}})
	b.Append(1, nil, nil)
	mustAppend(t, donor, 0, b.Build())
	snapshot := donor.producers.Snapshot()

	epochs := []EpochEntry{{0, 0}, {2, 500}, {7, 1200}}
	if err := l.TruncateFullyAndStartAt(1000, 100); err != nil {
		t.Fatal(err)
	}
	if err := l.RestoreFromRemote(1000, epochs, snapshot); err != nil {
		t.Fatal(err)
	}
	check := func(l *Log) {
		t.Helper()
		if l.LogStart() != 100 || l.LocalLogStart() != 1000 || l.HighWatermark() < 1000 {
			t.Fatalf("log start %d, local %d, high watermark %d", l.LogStart(), l.LocalLogStart(), l.HighWatermark())
		}
		if diff := cmp.Diff([]EpochEntry{{0, 100}, {2, 500}}, l.LeaderEpochs()[:2]); diff != "" {
			t.Fatal(diff)
		}
		if p := l.Producers(); len(p) != 1 || p[0].ProducerID != 9 {
			t.Fatalf("producers %+v", p)
		}
	}
	check(l)
	if l.LogEnd() != 1000 || l.Segments() != 1 {
		t.Fatalf("log end %d, %d segments", l.LogEnd(), l.Segments())
	}
	next := plain(5, "new")
	next.SetBaseOffset(1000)
	next.SetLeaderEpoch(2)
	if _, err := l.AppendAsFollower(next, 100); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Sync(), d.Checkpoint()); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, openDir(t, mem.Crash(newRand(3), 0)), cfg)
	if got := values(t, l, 1000); len(got) != 1 || got[1000] != "new" {
		t.Fatalf("got %v", got)
	}
	check(l)
}

func TestEpochEndOffsets(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{})
	for _, e := range []int32{2, 2, 5, 9} {
		mustAppend(t, l, e, plain(1, "a", "b"))
	}
	for epoch, want := range map[int32][2]int64{-1: {-1, -1}, 0: {0, 0}, 1: {1, 0}, 2: {2, 4}, 3: {2, 4}, 5: {5, 6}, 8: {5, 6}, 9: {9, 8}, 10: {-1, -1}} {
		found, end := l.EndOffsetForEpoch(epoch)
		if int64(found) != want[0] || end != want[1] {
			t.Errorf("epoch %d: %d ends at %d, want %v", epoch, found, end, want)
		}
	}
	for offset, want := range map[int64]int32{0: 2, 3: 2, 4: 5, 7: 9, 100: 9} {
		if got, ok := l.EpochForOffset(offset); !ok || got != want {
			t.Errorf("offset %d: epoch %d, want %d", offset, got, want)
		}
	}
}

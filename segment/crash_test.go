package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

var crashConfig = Config{SegmentBytes: 900, IndexIntervalBytes: 150, IndexBytes: 400, ProducerExpiration: 200 * 365 * 24 * time.Hour}

// history is what a workload did, as far as a crash must respect it.
type history struct {
	records  map[int64]string // all that was appended, by offset
	before   map[int64]string // the same, before a truncation that is under way
	synced   int64            // end of what was durable at the last return
	logStart int64
	started  int64 // log start of a call under way
	created  bool
}

// crashRun carries out a workload on a log until an operation fails.
type crashRun struct {
	d   *Dir
	l   *Log
	h   *history
	seq map[int64]int32
}

func (r *crashRun) append(b record.Batch, values ...string) error {
	at := r.l.LogEnd()
	for i, v := range values {
		// Noted before: a torn append may survive.
		r.h.records[at+int64(i)] = v
	}
	_, err := r.l.AppendAsLeader(b, AppendOptions{LeaderEpoch: max(r.l.LatestEpoch(), 0), Now: t0, Origin: Coordinator})
	return err
}

func (r *crashRun) put(values ...string) error {
	return r.append(plain(1000+r.l.LogEnd(), values...), values...)
}

func (r *crashRun) putTxn(pid int64, values ...string) error {
	b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: pid, Epoch: 1, BaseSequence: r.seq[pid]}})
	for _, v := range values {
		b.Append(5000+r.l.LogEnd(), nil, []byte(v))
	}
	err := r.append(b.Build(), values...)
	if err == nil {
		r.seq[pid] += int32(len(values))
	}
	return err
}

func (r *crashRun) end(pid int64, commit bool) error {
	return r.append(record.NewEndTxnBatch(pid, 1, record.EndTxnMarker{Commit: commit, CoordinatorEpoch: 2}, 6000), "\x00marker")
}

func (r *crashRun) sync() error {
	at := r.l.LogEnd()
	if err := r.l.Sync(); err != nil {
		return err
	}
	r.h.synced = at
	r.l.SetHighWatermark(at)
	return nil
}

func (r *crashRun) truncate(to int64) error {
	r.h.expectCut(to, func() { r.h.synced = min(r.h.synced, to) })
	if err := r.l.TruncateTo(to); err != nil {
		return err
	}
	r.h.before = nil
	if got := r.l.LogEnd(); got != to {
		return fmt.Errorf("log end %d after truncation to %d", got, to)
	}
	r.h.synced = r.l.SyncedOffset()
	return nil
}

func (r *crashRun) setLogStart(to int64) error {
	r.h.started = to
	if err := r.l.SetLogStart(to); err != nil {
		return err
	}
	r.h.logStart = to
	return nil
}

// workload is the fixed history that is crashed at each of its operations.
func workload(fs vfs.FS, h *history) error {
	steps := func(r *crashRun) []func() error {
		return []func() error{
			func() error { return r.put("a1", "a2") },
			r.sync,
			func() error { return r.put(strings.Repeat("b", 200)) },
			func() error { return r.putTxn(7, "t1", "t2") },
			func() error { return r.put(strings.Repeat("c", 300)) },
			func() error { return r.end(7, false) },
			r.sync,
			func() error { return r.put(strings.Repeat("d", 400)) },
			func() error { return r.put(strings.Repeat("e", 400)) },
			func() error { return r.l.AssignEpoch(4, r.l.LogEnd()) },
			func() error { return r.put(strings.Repeat("f", 400)) },
			r.sync,
			r.d.Checkpoint,
			func() error { return r.put("g") },
			func() error { return r.putTxn(8, "u1") },
			r.l.Roll,
			func() error { return r.put("h1", "h2", "h3") },
			func() error { return r.put(strings.Repeat("i", 600)) },
			func() error { return r.truncate(11) },
			func() error { return r.l.AssignEpoch(6, r.l.LogEnd()) },
			func() error { return r.put("j1") },
			func() error { return r.end(8, true) },
			r.sync,
			func() error { return r.put(strings.Repeat("k", 700)) },
			r.l.Roll,
			func() error { return r.setLogStart(4) },
			func() error { return r.put(strings.Repeat("l", 700)) },
			r.sync,
			func() error { _, err := r.l.ExpireLocal(t0, -1, true); return err },
			func() error { return r.put("m") },
		}
	}
	d, err := OpenDir(DirOptions{FS: fs, Path: "/data"})
	if err != nil {
		return err
	}
	l, err := d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: crashConfig})
	if err != nil {
		return err
	}
	h.created = true
	r := &crashRun{d: d, l: l, h: h, seq: map[int64]int32{}}
	for i, step := range steps(r) {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	end := l.LogEnd()
	if err := d.Close(); err != nil {
		return err
	}
	h.synced = end
	return nil
}

// TestAckedRecordSurvivesCrash is ARCHITECTURE.md §4, invariants 1, 2, 3 and 8:
// whatever the moment of a power loss and whatever the disk kept of what was not
// synced, what was synced is there, nothing else than what was appended is, and
// everything derived agrees with it.
func TestAckedRecordSurvivesCrash(t *testing.T) {
	mem := vfs.NewMem()
	if err := workload(mem, newHistory()); err != nil {
		t.Fatal(err)
	}
	total := mem.Ops()
	t.Logf("%d operations", total)
	for n := int64(0); n <= total; n++ {
		mem, h := vfs.NewMem(), newHistory()
		err := workload(vfs.WithFaults(mem, vfs.PowerLoss(n)), h)
		if n < total && err == nil {
			t.Fatalf("operation %d: the workload did not notice the power loss", n)
		}
		for _, keep := range []int{0, 50, 50, 50, 100} {
			seed := n*1000 + int64(keep) + rand.Int63n(1<<20)<<20
			t.Run("", func(t *testing.T) {
				defer func() {
					if t.Failed() {
						t.Logf("power lost after operation %d, keep %d, seed %d", n, keep, seed)
					}
				}()
				rng := rand.New(rand.NewSource(seed))
				left := mem.Crash(rng, keep)
				if rng.Intn(2) == 0 {
					left = crashAgain(left, rng, keep)
				}
				checkCrash(t, left, h)
			})
			if t.Failed() {
				return
			}
		}
	}
}

// crashAgain lets the power fail once more, during the recovery.
func crashAgain(mem *vfs.Mem, rng *rand.Rand, keep int) *vfs.Mem {
	d, err := OpenDir(DirOptions{FS: vfs.WithFaults(mem, vfs.PowerLoss(int64(rng.Intn(20)))), Path: "/data"})
	if err == nil {
		_, _ = d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: crashConfig})
	}
	return mem.Crash(rng, keep)
}

func newHistory() *history {
	return &history{records: map[int64]string{}}
}

// checkCrash opens what a crash left and compares it with the history.
func checkCrash(t *testing.T, mem *vfs.Mem, h *history) {
	d := openDir(t, mem)
	l, err := d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: crashConfig})
	if err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, l)
	if l.LogEnd() < h.synced {
		t.Fatalf("log end %d, but %d was durable", l.LogEnd(), h.synced)
	}
	if start := l.LogStart(); start != h.logStart && start != h.started {
		t.Fatalf("log start %d, want %d or %d", start, h.logStart, h.started)
	}
	got := visible(t, l)
	checkRecords(t, got, h, l)
	checkDerived(t, l)

	// The log can be used, and a second restart finds the same.
	again := openDir(t, mem.Crash(rand.New(rand.NewSource(1)), 100))
	l2, err := again.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: crashConfig})
	if err != nil {
		t.Fatalf("second restart: %v", err)
	}
	if diff := cmp.Diff(got, visible(t, l2)); diff != "" {
		t.Fatalf("second restart (-first +second):\n%s", diff)
	}
	mustAppend(t, l, l.LatestEpoch()+1, plain(9000, "after"))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	got[l.LogEnd()-1] = "after"
	third := openDir(t, mem)
	if !third.Clean() {
		t.Fatal("not clean after Close")
	}
	l3 := openLog(t, third, crashConfig)
	if diff := cmp.Diff(got, visible(t, l3)); diff != "" {
		t.Fatalf("clean restart (-want +got):\n%s", diff)
	}
	checkDerived(t, l3)
}

// checkRecords wants each record to be what was appended at its offset, and none
// below the durable end to be missing.
func checkRecords(t *testing.T, got map[int64]string, h *history, l *Log) {
	t.Helper()
	check := func(want map[int64]string) error {
		for o, v := range got {
			if w, ok := want[o]; !ok || w != v {
				return fmt.Errorf("offset %d: %.20q, want %.20q", o, v, w)
			}
		}
		return nil
	}
	err := check(h.records)
	if err != nil && h.before != nil {
		err = check(h.before)
	}
	if err != nil {
		t.Fatal(err)
	}
	for o := l.LocalLogStart(); o < l.LogEnd(); o++ {
		if _, ok := got[o]; !ok {
			t.Fatalf("offset %d of %d is missing", o, l.LogEnd())
		}
	}
}

// visible returns all local records, and markers as such.
func visible(t *testing.T, l *Log) map[int64]string {
	t.Helper()
	got := map[int64]string{}
	eachBatch(t, l, func(b record.Batch) {
		if b.IsControl() {
			got[b.BaseOffset()] = "\x00marker"
			return
		}
		if err := b.Each(nil, func(r record.Record) error {
			if r.Offset >= l.LocalLogStart() {
				got[r.Offset] = string(r.Value)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
	return got
}

func eachBatch(t *testing.T, l *Log, fn func(record.Batch)) {
	t.Helper()
	for at := l.LocalLogStart(); at < l.LogEnd(); {
		c, err := l.Read(at, ReadOptions{UpTo: l.LogEnd(), MaxBytes: 500, MinOne: true})
		if err != nil {
			t.Fatalf("read at %d: %v", at, err)
		}
		b, err := c.AppendTo(nil)
		if err != nil || len(b) == 0 {
			t.Fatalf("read at %d of %d: %d bytes, %v", at, l.LogEnd(), len(b), err)
		}
		at = c.NextOffset()
		c.Release()
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err := errors.Join(err, batch.Verify()); err != nil {
				t.Fatal(err)
			}
			fn(batch)
			b = rest
		}
	}
}

func checkInvariants(t *testing.T, l *Log) {
	t.Helper()
	if !(l.LogStart() <= l.LocalLogStart() && l.LocalLogStart() <= max(l.LastStableOffset(), l.LocalLogStart()) &&
		l.LastStableOffset() <= l.HighWatermark() && l.HighWatermark() <= l.LogEnd() &&
		l.RecoveryPoint() <= l.LogEnd() && l.SyncedOffset() <= l.LogEnd()) {
		t.Fatalf("log start %d ≤ local %d ≤ stable %d ≤ high watermark %d ≤ end %d; recovery %d, synced %d",
			l.LogStart(), l.LocalLogStart(), l.LastStableOffset(), l.HighWatermark(), l.LogEnd(), l.RecoveryPoint(), l.SyncedOffset())
	}
}

// checkDerived compares everything that the log keeps beside the records with
// what the records say.
func checkDerived(t *testing.T, l *Log) {
	t.Helper()
	var epochs []EpochEntry
	m := producer.NewManager(time.Hour, time.Hour)
	m.Reset(l.parts[0].base)
	eachBatch(t, l, func(b record.Batch) {
		if n := len(epochs); n == 0 || epochs[n-1].Epoch < b.LeaderEpoch() {
			epochs = append(epochs, EpochEntry{b.LeaderEpoch(), b.BaseOffset()})
		}
		trackBatch(m, b)
	})
	have := slices.DeleteFunc(l.LeaderEpochs(), func(e EpochEntry) bool { return e.StartOffset >= l.LogEnd() })
	if l.LogStart() == 0 {
		if diff := cmp.Diff(epochs, have); diff != "" && len(epochs)+len(have) > 0 {
			t.Fatalf("epochs (-records +cache):\n%s", diff)
		}
		if want, got := m.Snapshot(), l.producers.Snapshot(); !bytes.Equal(want, got) {
			w, _ := producer.LoadSnapshot(want)
			g, _ := producer.LoadSnapshot(got)
			t.Fatalf("producer state\n got %+v\nwant %+v", g, w)
		}
	}
	for _, p := range l.parts {
		checkIndexes(t, l, p)
	}
}

// checkIndexes compares the indexes of a part with those its records give.
func checkIndexes(t *testing.T, l *Log, p *part) {
	t.Helper()
	if err := l.loadIndex(p); err != nil {
		t.Fatal(err)
	}
	fresh, err := l.indexOf(p, true)
	if err != nil {
		t.Fatal(err)
	}
	if fresh.maxTime != p.maxTime || fresh.maxTimeAt != p.maxTimeAt {
		t.Fatalf("segment %d: largest timestamp %d at %d, want %d at %d", p.base, p.maxTime, p.maxTimeAt, fresh.maxTime, fresh.maxTimeAt)
	}
	if diff := cmp.Diff(allEntries(t, p.idx, &fresh.offsets), allEntries(t, p.idx, &p.offsets)); diff != "" {
		t.Fatalf("segment %d: index (-records +index):\n%s", p.base, diff)
	}
	want, got := allEntries(t, p.tim, &fresh.times), allEntries(t, p.tim, &p.times)
	if p == l.tail.part && len(want) == len(got)+timeEntryLen {
		want = want[:len(got)]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("segment %d: time index (-records +index):\n%s", p.base, diff)
	}
}

func allEntries(t *testing.T, s *segFile, e *entries) []byte {
	t.Helper()
	v := e.view()
	if !v.inMemory() {
		f, err := s.pin()
		if err != nil {
			t.Fatal(err)
		}
		defer s.unpin()
		v.file = f
	}
	out := make([]byte, 0, v.count*v.width)
	b := make([]byte, v.width)
	for i := range v.count {
		if err := v.at(b, i); err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

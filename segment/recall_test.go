package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// sequenced builds a batch of one producer with n records.
func sequenced(pid int64, epoch int16, seq int32, n, size int) record.Batch {
	b := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: pid, Epoch: epoch, BaseSequence: seq}})
	for i := range n {
		b.Append(t0.UnixMilli(), nil, fmt.Appendf(nil, "%d.%0*d", seq+int32(i), size, 0))
	}
	return b.Build()
}

// recallLog is a log with what was appended to it and may be sent again.
type recallLog struct {
	t    *testing.T
	mem  *vfs.Mem
	dir  *Dir
	l    *Log
	cfg  Config
	sent map[int64][]sentBatch
}

type sentBatch struct {
	batch record.Batch
	first int64
}

func newRecallLog(t *testing.T, cfg Config) *recallLog {
	cfg.ProducerExpiration = 1 << 62
	r := &recallLog{t: t, mem: vfs.NewMem(), cfg: cfg, sent: map[int64][]sentBatch{}}
	r.open()
	return r
}

func (r *recallLog) open() {
	r.t.Helper()
	r.dir = openDir(r.t, r.mem)
	r.l = openLog(r.t, r.dir, r.cfg)
}

// append appends the next batch of a producer.
func (r *recallLog) append(pid int64, n, size int) {
	r.t.Helper()
	seq := int32(0)
	if s := r.sent[pid]; len(s) > 0 {
		seq = s[len(s)-1].batch.LastSequence() + 1
	}
	b := sequenced(pid, 0, seq, n, size)
	info := mustAppend(r.t, r.l, 0, b)
	if info.Duplicate {
		r.t.Fatalf("producer %d, sequence %d: %+v, want an append", pid, seq, info)
	}
	r.sent[pid] = append(r.sent[pid], sentBatch{b, info.FirstOffset})
}

// sendAgain sends a producer's last five batches again.
func (r *recallLog) sendAgain(pid int64) {
	r.t.Helper()
	s := r.sent[pid]
	end := r.l.LogEnd()
	for _, b := range s[max(0, len(s)-5):] {
		info := mustAppend(r.t, r.l, 0, b.batch)
		if !info.Duplicate || info.FirstOffset != b.first || info.LastOffset != b.first+int64(b.batch.Count())-1 {
			r.t.Fatalf("producer %d, sequence %d again: %+v, want the duplicate of offset %d", pid, b.batch.BaseSequence(), info, b.first)
		}
	}
	if got := r.l.LogEnd(); got != end {
		r.t.Fatalf("log end %d, was %d", got, end)
	}
}

func (r *recallLog) truncate(to int64) {
	r.t.Helper()
	if err := r.l.TruncateTo(to); err != nil {
		r.t.Fatal(err)
	}
	for pid, s := range r.sent {
		for len(s) > 0 && s[len(s)-1].first >= r.l.LogEnd() {
			s = s[:len(s)-1]
		}
		r.sent[pid] = s
	}
}

// restart closes the log or has it lose power, with everything synced.
func (r *recallLog) restart(clean bool) {
	r.t.Helper()
	if clean {
		if err := r.dir.Close(); err != nil {
			r.t.Fatal(err)
		}
	} else {
		r.mem = r.mem.Crash(newRand(1), 100)
	}
	r.open()
}

// TestIdempotenceHoldsOverReloads: batches that are in the log are recognized when
// they are sent again, whatever the producer state was computed from. A snapshot
// has one batch of each producer.
func TestIdempotenceHoldsOverReloads(t *testing.T) {
	for name, reload := range map[string]func(*recallLog){
		"truncated to just behind a snapshot": func(r *recallLog) {
			if err := r.l.Roll(); err != nil {
				r.t.Fatal(err)
			}
			end := r.l.LogEnd()
			r.append(7, 1, 10)
			r.append(8, 2, 10)
			r.truncate(end)
		},
		"clean restart": func(r *recallLog) { r.restart(true) },
		"crash behind a snapshot": func(r *recallLog) {
			if err := r.l.Roll(); err != nil {
				r.t.Fatal(err)
			}
			r.restart(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecallLog(t, Config{})
			for i := range 7 {
				r.append(7, 1+i%3, 10)
				mustAppend(t, r.l, 0, plain(1, "between"))
				r.append(8, 1, 10)
			}
			reload(r)
			r.sendAgain(7)
			r.sendAgain(8)
			r.append(7, 1, 10)
			r.sendAgain(7)
			if _, err := r.l.AppendAsLeader(sequenced(7, 0, 1000, 1, 1), AppendOptions{Now: t0}); !errors.Is(err, producer.ErrOutOfOrderSequence) {
				t.Errorf("a gap: %v", err)
			}
		})
	}
}

// TestBatchesFarBackAreRecalled: other producers' records and many segments lie
// between, and the first look back is not far enough.
func TestBatchesFarBackAreRecalled(t *testing.T) {
	r := newRecallLog(t, Config{SegmentBytes: 700 << 10})
	for range 5 {
		r.append(7, 1, 10)
		for range 20 {
			mustAppend(t, r.l, 0, plain(1, string(bytes.Repeat([]byte("x"), 50_000))))
		}
	}
	r.restart(true)
	r.sendAgain(7)
	r.l.mu.Lock()
	spent := r.l.history.spent
	r.l.mu.Unlock()
	if spent < 4*firstRecall {
		t.Errorf("read %d bytes, the batches are further apart", spent)
	}
}

// TestLookingBackIsBounded: a client that sends what is out of order has the log
// read once, and not at all what was read when it was opened.
func TestLookingBackIsBounded(t *testing.T) {
	r := newRecallLog(t, Config{})
	for range 3 {
		r.append(7, 1, 10)
		mustAppend(t, r.l, 0, plain(1, string(bytes.Repeat([]byte("x"), 300_000))))
	}
	wrong := func(seq int32) int64 {
		t.Helper()
		if _, err := r.l.AppendAsLeader(sequenced(7, 0, seq, 1, 10), AppendOptions{Now: t0}); !errors.Is(err, producer.ErrOutOfOrderSequence) {
			t.Fatalf("sequence %d: %v", seq, err)
		}
		r.l.mu.Lock()
		defer r.l.mu.Unlock()
		return r.l.history.spent
	}
	if spent := wrong(1000); spent != 0 {
		t.Errorf("read %d bytes of a log all of which is known", spent)
	}
	r.restart(true)
	first := wrong(1000)
	if size := r.l.LocalBytes(); first != size {
		t.Errorf("read %d bytes of %d", first, size)
	}
	if again := wrong(1001); again != first {
		t.Errorf("read %d bytes again", again-first)
	}
}

// TestWhatRetentionRemovedIsNotRecalled, and does not stop anybody.
func TestWhatRetentionRemovedIsNotRecalled(t *testing.T) {
	r := newRecallLog(t, Config{})
	r.append(7, 1, 10)
	if err := r.l.Roll(); err != nil {
		t.Fatal(err)
	}
	r.append(7, 1, 10)
	r.append(7, 1, 10)
	r.l.SetHighWatermark(r.l.LogEnd())
	if err := r.l.SetLogStart(1); err != nil || r.l.Segments() != 1 {
		t.Fatalf("%v, %d segments", err, r.l.Segments())
	}
	r.restart(true)
	gone := r.sent[7][0].batch
	if _, err := r.l.AppendAsLeader(gone, AppendOptions{Now: t0}); !errors.Is(err, producer.ErrOutOfOrderSequence) {
		t.Fatalf("a batch that is gone: %v", err)
	}
	r.sent[7] = r.sent[7][1:]
	r.sendAgain(7)
}

// TestRandomReloadsKeepIdempotence: any producers, any history, any reloads.
func TestRandomReloadsKeepIdempotence(t *testing.T) {
	for seed := range int64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewSource(seed))
			r := newRecallLog(t, Config{SegmentBytes: 1 << (10 + rng.Intn(5)), IndexIntervalBytes: 1 << (8 + rng.Intn(5)), SegmentAge: time.Hour})
			for range 120 {
				switch n := rng.Intn(100); {
				case n < 80:
					r.append(int64(rng.Intn(6)), 1+rng.Intn(3), rng.Intn(300))
				case n < 85:
					if err := r.l.Roll(); err != nil {
						t.Fatal(err)
					}
				case n < 90:
					r.restart(true)
				case n < 93:
					if err := r.l.Sync(); err != nil {
						t.Fatal(err)
					}
					r.restart(false)
				case n < 96 && r.l.LogEnd() > 4:
					r.truncate(r.l.LogEnd() - rng.Int63n(4))
				default:
					r.sendAgain(int64(rng.Intn(6)))
				}
			}
			for pid := range r.sent {
				r.sendAgain(pid)
			}
		})
	}
}

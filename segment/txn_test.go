package segment

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

func inTxn(pid int64, epoch int16, seq int32, values ...string) record.Batch {
	b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: pid, Epoch: epoch, BaseSequence: seq}})
	for _, v := range values {
		b.Append(100, nil, []byte(v))
	}
	return b.Build()
}

func endTxn(t *testing.T, l *Log, pid int64, epoch int16, commit bool) {
	t.Helper()
	b := record.NewEndTxnBatch(pid, epoch, record.EndTxnMarker{Commit: commit, CoordinatorEpoch: 1}, 200)
	if _, err := l.AppendAsLeader(b, AppendOptions{Origin: Coordinator, Now: t0}); err != nil {
		t.Fatal(err)
	}
}

// TestLastStableOffsetStopsAtTheOldestOpenTransaction, and moves on when its end
// is below the high watermark.
func TestLastStableOffsetStopsAtTheOldestOpenTransaction(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{SegmentBytes: 200})
	stable := func(want int64) {
		t.Helper()
		l.SetHighWatermark(l.LogEnd())
		if got := l.LastStableOffset(); got != want {
			t.Fatalf("last stable offset %d, want %d (log end %d)", got, want, l.LogEnd())
		}
	}
	mustAppend(t, l, 0, plain(1, "a"))            // 0
	stable(1)                                     //
	mustAppend(t, l, 0, inTxn(1, 0, 0, "x", "y")) // 1, 2
	mustAppend(t, l, 0, inTxn(2, 0, 0, "z"))      // 3
	stable(1)
	endTxn(t, l, 1, 0, false) // 4
	stable(3)
	mustAppend(t, l, 0, plain(1, "b")) // 5
	endTxn(t, l, 2, 0, false)          // 6
	if got := l.LastStableOffset(); got != 3 {
		t.Fatalf("last stable offset %d before the marker is below the high watermark", got)
	}
	stable(7)
	got, err := l.AbortedTransactions(0, 7)
	want := []AbortedTxn{{1, 1, 4, 3}, {2, 3, 6, 7}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	for _, c := range []struct {
		from, to int64
		n        int
	}{{0, 1, 0}, {0, 2, 1}, {4, 5, 2}, {5, 7, 1}, {6, 7, 1}, {7, 8, 0}} {
		got, err := l.AbortedTransactions(c.from, c.to)
		if err != nil || len(got) != c.n {
			t.Errorf("%d to %d: %v, %v, want %d", c.from, c.to, got, err, c.n)
		}
	}
}

func TestRetriedBatchIsAppendedOnce(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	l := openLog(t, d, Config{ProducerExpiration: 1 << 62})
	b := func(seq int32) record.Batch {
		b := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: 4, Epoch: 1, BaseSequence: seq}})
		b.Append(1, nil, []byte("a"))
		b.Append(1, nil, []byte("b"))
		return b.Build()
	}
	mustAppend(t, l, 0, plain(1, "first"))
	mustAppend(t, l, 0, b(0))
	mustAppend(t, l, 0, b(2))
	info := mustAppend(t, l, 0, b(0))
	if !info.Duplicate || info.FirstOffset != 1 || info.LastOffset != 2 || l.LogEnd() != 5 {
		t.Fatalf("got %+v, log end %d", info, l.LogEnd())
	}
	if _, err := l.AppendAsLeader(b(7), AppendOptions{Now: t0}); !errors.Is(err, producer.ErrOutOfOrderSequence) {
		t.Fatalf("gap: %v", err)
	}
	// Also after a restart, from the snapshot and from the records.
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, openDir(t, mem), Config{ProducerExpiration: 1 << 62})
	mustAppend(t, l, 0, b(4))
	l = openLog(t, openDir(t, mem.Crash(newRand(1), 100)), Config{ProducerExpiration: 1 << 62})
	info = mustAppend(t, l, 0, b(4))
	if !info.Duplicate || info.FirstOffset != 5 {
		t.Fatalf("after a crash: %+v", info)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	d, err := OpenDir(DirOptions{FS: vfs.NewOS(), Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	l := openLog(t, d, Config{IndexIntervalBytes: 1 << 20})
	b := benchBatch(64 << 10)
	got := testing.AllocsPerRun(100, func() {
		b.SetBaseOffset(0)
		if _, err := l.AppendAsLeader(b, AppendOptions{Now: t0}); err != nil {
			t.Error(err)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations per append", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestControlBatchesComeFromCoordinatorsOnly(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{})
	b := record.NewEndTxnBatch(1, 0, record.EndTxnMarker{}, 1)
	if _, err := l.AppendAsLeader(b, AppendOptions{Now: t0}); !errors.Is(err, record.ErrInvalidRecord) {
		t.Fatalf("got %v", err)
	}
	if _, err := l.AppendAsLeader(nil, AppendOptions{Now: t0}); !errors.Is(err, ErrInvalidBatch) {
		t.Fatalf("nothing: %v", err)
	}
}

// TestReaderOfADeletedLogLeavesTheDirectoryOnline: a reader that has just made a
// transaction index anew when its log is deleted does not take the disk for broken.
func TestReaderOfADeletedLogLeavesTheDirectoryOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		d := openDir(t, mem)
		l := openLog(t, d, Config{})
		mustAppend(t, l, 0, inTxn(1, 0, 0, "x"))
		endTxn(t, l, 1, 0, false)
		noError(t, l.Roll())
		noError(t, d.Close())
		noError(t, mem.Remove("/data/orders-3/"+fileName(0, txnSuffix)))
		d = openDir(t, mem)
		l = openLog(t, d, Config{})
		noError(t, l.loadIndex(l.sealed[0].part))
		l.maint.lock() // the reader has read, and waits with the index
		read := make(chan error)
		go func() {
			got, err := l.AbortedTransactions(0, 2)
			if err == nil && len(got) != 1 {
				t.Errorf("got %v", got)
			}
			read <- err
		}()
		synctest.Wait()
		l.shut()
		l.maint.unlock()
		noError(t, <-read)
		noError(t, d.Offline())
	})
}

package segment

import (
	"errors"
	"math/rand"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Changes of a log that stop halfway, or meet something else halfway.

func idempotent(pid int64, sequence int32, values ...string) record.Batch {
	b := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: pid, BaseSequence: sequence}})
	for _, v := range values {
		b.Append(t0.UnixMilli(), nil, []byte(v))
	}
	return b.Build()
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// killed is the disk as a killed process leaves it, with all that was written.
func killed(mem *vfs.Mem) *vfs.Mem { return mem.Crash(rand.New(rand.NewSource(1)), 100) }

// unsynced is the disk after a power loss in which nothing survived but what was
// synced.
func unsynced(mem *vfs.Mem) *vfs.Mem { return mem.Crash(rand.New(rand.NewSource(1)), 0) }

func reopen(mem *vfs.Mem, t *testing.T) (*Log, error) {
	t.Helper()
	return openDir(t, mem).OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID})
}

func TestTruncationInsideABatchSurvivesACrash(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a", "b"))
	mustAppend(t, l, 0, plain(1, "c", "d", "e"))
	noError(t, l.Sync())
	noError(t, d.Checkpoint())
	noError(t, l.TruncateTo(3))
	l, err := reopen(killed(mem), t)
	if err != nil || l.LogEnd() != 2 {
		t.Fatalf("opened with %v", err)
	}
}

// TestLateCheckpointDoesNotRaiseALoweredPoint: a checkpoint that was computed
// before a truncation lowers the recovery point does not reach the disk after it.
func TestLateCheckpointDoesNotRaiseALoweredPoint(t *testing.T) {
	for _, file := range []string{recoveryPointFile, highWatermarkFile} {
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewMem()
			var armed, truncated atomic.Bool
			reached, proceed := make(chan struct{}), make(chan struct{})
			d := openDir(t, vfs.WithFaults(mem, func(op vfs.Op) error {
				if op.Kind == vfs.OpRename && strings.HasSuffix(op.Path, file) && armed.Swap(false) {
					close(reached)
					<-proceed
				}
				return nil
			}))
			l := openLog(t, d, Config{})
			for range 5 {
				mustAppend(t, l, 0, plain(1, "a"))
			}
			noError(t, l.Sync())
			l.SetHighWatermark(5)
			armed.Store(true)
			go func() { noError(t, d.Checkpoint()) }()
			<-reached
			go func() {
				noError(t, l.TruncateTo(3))
				truncated.Store(true)
			}()
			synctest.Wait()
			if truncated.Load() {
				t.Errorf("%s: a truncation is done while an offset above it is on its way to the disk", file)
			}
			close(proceed)
			synctest.Wait()
			if _, err := reopen(killed(mem), t); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		})
	}
}

// TestTruncationThatIsTriedAgainForgetsTheProducers: a retry of a batch that was
// cut off is appended, not taken for a duplicate of what is gone.
func TestTruncationThatIsTriedAgainForgetsTheProducers(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE} {
		for _, file := range []string{leaderEpochFile + vfs.TempSuffix, snapshotSuffix, logSuffix, recoveryPointFile + vfs.TempSuffix} {
			var on atomic.Bool
			d := openDir(t, vfs.WithFaults(vfs.NewMem(), failing(&on, cause, func(op vfs.Op) bool {
				return op.Kind != vfs.OpSync && strings.HasSuffix(op.Path, file)
			})))
			l := openLog(t, d, Config{ProducerExpiration: 1 << 62})
			mustAppend(t, l, 1, idempotent(7, 0, "a"))
			noError(t, l.Roll())
			mustAppend(t, l, 2, idempotent(7, 1, "b"))
			noError(t, l.Sync())
			noError(t, d.Checkpoint())
			on.Store(true)
			if err := l.TruncateTo(1); err != nil && !vfs.Heals(err) {
				t.Fatalf("%s: %v", file, err)
			}
			on.Store(false)
			noError(t, l.TruncateTo(1))
			info, err := l.AppendAsLeader(idempotent(7, 1, "b"), AppendOptions{LeaderEpoch: 3, Now: t0})
			if err != nil || info.Duplicate || info.FirstOffset != 1 {
				t.Fatalf("%v, %s: the retry of a batch that was cut: %+v, %v", cause, file, info, err)
			}
		}
	}
}

// TestRestartThatMeetsAFullDiskGoesOn: a log that cannot begin anew for want of
// space can be checkpointed, asked and tried again.
func TestRestartThatMeetsAFullDiskGoesOn(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EMFILE} {
		mem := vfs.NewMem()
		var on atomic.Bool
		d := openDir(t, vfs.WithFaults(mem, failing(&on, cause, func(op vfs.Op) bool {
			return op.Kind == vfs.OpCreate && strings.HasSuffix(op.Path, logSuffix)
		})))
		l := openLog(t, d, Config{Delete: true, RetentionAge: time.Hour})
		mustAppend(t, l, 0, plain(1, "a"))
		noError(t, l.Sync())
		on.Store(true)
		if err := l.TruncateFullyAndStartAt(10, 10); !errors.Is(err, cause) {
			t.Fatalf("got %v", err)
		}
		if _, err := l.AppendAsLeader(plain(1, "b"), AppendOptions{Now: t0}); !errors.Is(err, cause) {
			t.Fatalf("append: %v", err)
		}
		noError(t, d.Checkpoint())
		if _, err := l.ExpireLocal(t0, -1, true); err != nil {
			t.Fatal(err)
		}
		if _, err := reopen(killed(mem), t); err != nil {
			t.Fatalf("a crash then: %v", err)
		}
		on.Store(false)
		noError(t, l.TruncateFullyAndStartAt(10, 10))
		if info := mustAppend(t, l, 0, plain(1, "b")); info.FirstOffset != 10 || l.LogStart() != 10 {
			t.Fatalf("appended at %d, log start %d", info.FirstOffset, l.LogStart())
		}
		noError(t, l.Sync())
		if l, err := reopen(unsynced(mem), t); err != nil || l.LogEnd() != 11 || l.LogStart() != 10 {
			t.Fatalf("opened with %v", err)
		}
	}
}

// TestReaderDoesNotCreateARemovedSegment: a reader that is about to open a file
// when retention removes it does not bring it back, empty.
func TestReaderDoesNotCreateARemovedSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		var armed atomic.Bool
		reached, proceed := make(chan struct{}), make(chan struct{})
		fs := vfs.WithFaults(mem, func(op vfs.Op) error {
			if (op.Kind == vfs.OpOpenReadWrite || op.Kind == vfs.OpOpen) && strings.HasSuffix(op.Path, fileName(0, logSuffix)) && armed.Swap(false) {
				close(reached)
				<-proceed
			}
			return nil
		})
		cfg := Config{Delete: true, RemoteEnabled: true, RetentionAge: -1, RetentionBytes: -1}
		d := openDir(t, fs)
		l := filledIn(t, d, cfg, 3)
		d.files.closeAll()
		armed.Store(true)
		go func() {
			if _, err := l.Read(0, ReadOptions{UpTo: 6, MaxBytes: 1, MinOne: true}); !errors.Is(err, ErrOffsetOutOfRange) {
				t.Errorf("read of what was removed: %v", err)
			}
		}()
		<-reached
		if _, err := l.ExpireLocal(t0.Add(time.Hour), 1, true); err != nil {
			t.Fatal(err)
		}
		close(proceed)
		synctest.Wait()
		if info, err := mem.Stat(l.path + "/" + fileName(0, logSuffix)); err == nil {
			t.Errorf("the removed segment is there again, with %d bytes", info.Size)
		}
		noError(t, d.Close())
		l = openLog(t, openDir(t, mem), cfg)
		if l.LocalLogStart() != 2 {
			t.Errorf("local log start %d after a restart, want 2", l.LocalLogStart())
		}
	})
}

// TestNamesThatAKilledProcessLeftAreMadeDurable: a segment whose name was in
// memory only when the process died is there after a power loss.
func TestNamesThatAKilledProcessLeftAreMadeDurable(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	cfg := Config{SegmentBytes: 300}
	l := openLog(t, d, cfg)
	mustAppend(t, l, 0, plain(1, strings.Repeat("a", 200)))
	noError(t, l.Sync())
	mustAppend(t, l, 0, plain(1, "b"))
	noError(t, d.lock.Close())
	l = openLog(t, openDir(t, mem), cfg)
	mustAppend(t, l, 0, plain(1, "c"))
	noError(t, l.Sync())
	if after := openLog(t, openDir(t, unsynced(mem)), cfg); after.LogEnd() < l.SyncedOffset() {
		t.Errorf("%d was synced, after a power loss the log ends at %d", l.SyncedOffset(), after.LogEnd())
	}
}

// TestInterruptedCreationIsMadeDurable: a log whose creation met a full disk is as
// durable as any other when it is opened again.
func TestInterruptedCreationIsMadeDurable(t *testing.T) {
	for n := int64(1); ; n++ {
		mem := vfs.NewMem()
		f := &oneFault{n: n, err: syscall.EMFILE}
		d := openDir(t, vfs.WithFaults(mem, f.before))
		f.armed.Store(true)
		o := LogOptions{TopicPartition: testTP, TopicID: testID}
		l, err := d.OpenLog(o)
		if f.hit.Load() == nil {
			return
		}
		if err != nil {
			if d.Offline() != nil {
				continue // a failed sync
			}
			l, err = d.OpenLog(o)
			noError(t, err)
		}
		mustAppend(t, l, 0, plain(1, "a"))
		noError(t, l.Sync())
		if l, err = reopen(unsynced(mem), t); err != nil || l.LogEnd() != 1 {
			t.Fatalf("after %v failed: %v, log end %d", f.hit.Load(), err, l.LogEnd())
		}
	}
}

// TestShortOfDescriptorsTheDirectoryStaysOnline: a directory that could not be
// opened was not synced; that is tried again, and acks wait for it.
func TestShortOfDescriptorsTheDirectoryStaysOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var on atomic.Bool
		d := openDir(t, vfs.WithFaults(vfs.NewMem(), failing(&on, syscall.EMFILE, func(op vfs.Op) bool { return op.Kind == vfs.OpSyncDir })))
		l := openLog(t, d, Config{SegmentBytes: 100})
		stop := running(t, d)
		defer stop()
		mustAppend(t, l, 0, plain(1, "a"))
		synctest.Wait()
		on.Store(true)
		mustAppend(t, l, 0, plain(1, "b")) // in a new segment
		synctest.Wait()
		if err := d.Offline(); err != nil || l.SyncedOffset() != 1 {
			t.Fatalf("directory: %v, synced %d", err, l.SyncedOffset())
		}
		on.Store(false)
		time.Sleep(2 * syncRetry)
		synctest.Wait()
		if l.SyncedOffset() != 2 {
			t.Fatalf("synced %d after descriptors came back", l.SyncedOffset())
		}
	})
}

// TestFailedRollBackIsNotAFullDisk: each error is judged by itself. A full disk
// heals, the cut after it that meets an I/O error does not.
func TestFailedRollBackIsNotAFullDisk(t *testing.T) {
	var on atomic.Bool
	d := openDir(t, vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
		switch {
		case !on.Load() || !strings.HasSuffix(op.Path, logSuffix):
		case op.Kind == vfs.OpWrite:
			return &vfs.TornWrite{Bytes: 300, Err: syscall.ENOSPC}
		case op.Kind == vfs.OpTruncate:
			return syscall.EIO
		}
		return nil
	}))
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	on.Store(true)
	if _, err := l.AppendAsLeader(plain(1, strings.Repeat("x", 500)), AppendOptions{Now: t0}); !errors.Is(err, ErrOffline) {
		t.Fatalf("got %v", err)
	}
}

// TestNothingIsAppendedBehindAFailedAppend: as long as the remains of an append
// cannot be cut off, nothing is written, rolled or closed as if they were not there.
func TestNothingIsAppendedBehindAFailedAppend(t *testing.T) {
	mem := vfs.NewMem()
	var on atomic.Bool
	d := openDir(t, vfs.WithFaults(mem, func(op vfs.Op) error {
		switch {
		case !on.Load() || !strings.HasSuffix(op.Path, logSuffix):
		case op.Kind == vfs.OpWrite:
			return &vfs.TornWrite{Bytes: 300, Err: syscall.ENOSPC}
		case op.Kind == vfs.OpTruncate:
			return syscall.ENOSPC
		}
		return nil
	}))
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	on.Store(true)
	for range 2 {
		if _, err := l.AppendAsLeader(plain(1, strings.Repeat("x", 500)), AppendOptions{Now: t0}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
	}
	if err := l.Roll(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("roll: %v", err)
	}
	on.Store(false)
	noError(t, l.Roll())
	mustAppend(t, l, 0, plain(1, "b"))
	noError(t, d.Close())
	l, err := reopen(mem, t)
	noError(t, err)
	if got := values(t, l, 0); len(got) != 2 || got[1] != "b" {
		t.Fatalf("got %v", got)
	}
}

// TestFollowerSkipsOffsetsWhileSegmentsAreSealed: a batch far ahead of an empty
// log makes it begin there, and the sealer has no part in it.
func TestFollowerSkipsOffsetsWhileSegmentsAreSealed(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewMem()
			d := openDir(t, mem)
			l := openLog(t, d, Config{})
			stop := running(t, d)
			b := plain(1, "a")
			b.SetBaseOffset(3 << 30)
			_, err := l.AppendAsFollower(b, 0)
			synctest.Wait()
			stop()
			if err != nil || d.Offline() != nil || l.LocalLogStart() != 3<<30 || l.SyncedOffset() != 3<<30+1 {
				t.Fatalf("%v; directory: %v; local log start %d, synced %d", err, d.Offline(), l.LocalLogStart(), l.SyncedOffset())
			}
			checkInvariants(t, l)
			if l, err = reopen(unsynced(mem), t); err != nil || l.LogEnd() != 3<<30+1 {
				t.Fatalf("opened with %v", err)
			}
		})
	}
}

// TestStableOffsetDoesNotRiseDuringATruncation: the open transaction is known at
// each moment of it.
func TestStableOffsetDoesNotRiseDuringATruncation(t *testing.T) {
	var l *Log
	var armed atomic.Bool
	open := int64(2)
	fs := vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
		if armed.Load() && l.LastStableOffset() > open {
			t.Errorf("last stable offset %d at %v, a transaction is open at %d", l.LastStableOffset(), op, open)
		}
		return nil
	})
	l = openLog(t, openDir(t, fs), Config{})
	mustAppend(t, l, 0, plain(1, "a", "b"))
	mustAppend(t, l, 0, inTxn(1, 0, 0, "undecided"))
	for range 10 {
		mustAppend(t, l, 0, plain(1, "a"))
	}
	noError(t, l.Sync())
	l.SetHighWatermark(open + 6)
	armed.Store(true)
	noError(t, l.TruncateTo(open+8))
	if got := l.LastStableOffset(); got != open {
		t.Errorf("last stable offset %d after the truncation, want %d", got, open)
	}
}

// TestExpiredSegmentsGoInTheirOrder: one that cannot be removed for the moment is
// removed before those behind it, so that a restart finds no hole.
func TestExpiredSegmentsGoInTheirOrder(t *testing.T) {
	mem := vfs.NewMem()
	f := &oneFault{n: 1, err: syscall.EMFILE}
	d := openDir(t, vfs.WithFaults(mem, func(op vfs.Op) error {
		if op.Kind != vfs.OpRemove {
			return nil
		}
		return f.before(op)
	}))
	l := filledIn(t, d, Config{Delete: true}, 4)
	f.armed.Store(true)
	if err := l.SetLogStart(2); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("got %v", err)
	}
	noError(t, l.SetLogStart(4))
	names, err := mem.List(l.path)
	noError(t, err)
	for _, n := range names {
		if base, ok := parseFileName(n, logSuffix); ok && base < 4 {
			t.Errorf("%s is still there", n)
		}
	}
}

// TestLogStartIsDurableWhenTheCallReturns, also when an earlier call moved it and met
// a full disk.
func TestLogStartIsDurableWhenTheCallReturns(t *testing.T) {
	mem := vfs.NewMem()
	var on atomic.Bool
	d := openDir(t, vfs.WithFaults(mem, failing(&on, syscall.ENOSPC, func(op vfs.Op) bool {
		return op.Kind == vfs.OpCreate && strings.Contains(op.Path, logStartFile)
	})))
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a", "b", "c"))
	noError(t, l.Sync())
	l.SetHighWatermark(3)
	on.Store(true)
	if err := l.SetLogStart(2); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	on.Store(false)
	noError(t, l.SetLogStart(2))
	if l, err := reopen(unsynced(mem), t); err != nil || l.LogStart() != 2 {
		t.Fatalf("log start %d after a power loss, %v", l.LogStart(), err)
	}
}

// TestTruncationBelowTheLogStartLowersIt: the start is never behind the end.
func TestTruncationBelowTheLogStartLowersIt(t *testing.T) {
	mem := vfs.NewMem()
	l := openLog(t, openDir(t, mem), Config{})
	for range 10 {
		mustAppend(t, l, 0, plain(1, "a"))
	}
	noError(t, l.Sync())
	l.SetHighWatermark(10)
	noError(t, l.SetLogStart(8))
	noError(t, l.TruncateTo(5))
	checkInvariants(t, l)
	if l.LogStart() != 5 || l.LogEnd() != 5 {
		t.Fatalf("log %d to %d", l.LogStart(), l.LogEnd())
	}
	if l, err := reopen(unsynced(mem), t); err != nil || l.LogStart() != 5 || l.LogEnd() != 5 {
		t.Fatalf("opened with %v: log %d to %d", err, l.LogStart(), l.LogEnd())
	}
}

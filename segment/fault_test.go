package segment

import (
	"bytes"
	"context"
	"errors"
	"math/rand"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// failing returns a hook that fails the operations that match while on is set.
func failing(on *atomic.Bool, err error, match func(vfs.Op) bool) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if on.Load() && match(op) {
			return err
		}
		return nil
	}
}

// TestFailedSyncIsFinal is ARCHITECTURE.md §4, invariant 8: after one failed fsync
// nothing is acked any more, although the next one would succeed.
func TestFailedSyncIsFinal(t *testing.T) {
	var broken atomic.Bool
	fs := vfs.WithFaults(vfs.NewMem(), failing(&broken, syscall.EIO, func(op vfs.Op) bool { return op.Kind == vfs.OpSync }))
	offline := make(chan error, 2)
	d, err := OpenDir(DirOptions{FS: fs, Path: "/data", OnOffline: func(err error) { offline <- err }})
	if err != nil {
		t.Fatal(err)
	}
	var acked atomic.Int64
	l, err := d.OpenLog(LogOptions{TopicPartition: testTP, OnSynced: func(end int64) { acked.Store(end) }})
	if err != nil {
		t.Fatal(err)
	}
	other, err := d.OpenLog(LogOptions{TopicPartition: metadata.TopicPartition{Topic: "other"}})
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, d)
	defer stop()
	broken.Store(true)
	mustAppend(t, l, 0, plain(1, "a"))
	if err := <-offline; !errors.Is(err, ErrOffline) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("offline with %v", err)
	}
	broken.Store(false)
	for _, l := range []*Log{l, other} {
		if _, err := l.AppendAsLeader(plain(1, "b"), AppendOptions{}); !errors.Is(err, ErrOffline) {
			t.Fatalf("append to an offline directory: %v", err)
		}
		if _, err := l.Read(0, ReadOptions{UpTo: 1, MaxBytes: 1}); !errors.Is(err, ErrOffline) {
			t.Fatalf("read from an offline directory: %v", err)
		}
		if err := l.Sync(); !errors.Is(err, ErrOffline) {
			t.Fatalf("sync of an offline directory: %v", err)
		}
	}
	if l.SyncedOffset() != 0 || acked.Load() != 0 {
		t.Fatalf("synced %d, acked %d after a failed sync", l.SyncedOffset(), acked.Load())
	}
	if !errors.Is(d.Offline(), ErrOffline) || len(offline) != 0 {
		t.Fatalf("offline: %v, %d more calls", d.Offline(), len(offline))
	}
	stop()
	if err := d.Close(); !errors.Is(err, ErrOffline) {
		t.Fatalf("close of an offline directory: %v", err)
	}
	if names, _ := fs.List("/data"); bytes.Contains([]byte(join(names)), []byte(cleanFile)) {
		t.Fatalf("an offline directory was marked clean: %v", names)
	}
}

func join(names []string) string {
	s := ""
	for _, n := range names {
		s += n + " "
	}
	return s
}

func TestAnyIOErrorTakesTheDirectoryOffline(t *testing.T) {
	for name, kind := range map[string]vfs.OpKind{"write": vfs.OpWrite, "create": vfs.OpOpenReadWrite, "sync directory": vfs.OpSyncDir} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			fs := vfs.WithFaults(vfs.NewMem(), failing(&broken, syscall.EIO, func(op vfs.Op) bool { return op.Kind == kind }))
			d := openDir(t, fs)
			l := openLog(t, d, Config{SegmentBytes: 100})
			mustAppend(t, l, 0, plain(1, "a"))
			broken.Store(true)
			_, err := l.AppendAsLeader(plain(2, "a"), AppendOptions{})
			if err == nil {
				err = l.Roll()
			}
			if !errors.Is(err, ErrOffline) || !errors.Is(d.Offline(), syscall.EIO) {
				t.Fatalf("got %v, directory %v", err, d.Offline())
			}
		})
	}
}

func TestReadErrorTakesTheDirectoryOffline(t *testing.T) {
	var broken atomic.Bool
	fs := vfs.WithFaults(vfs.NewMem(), failing(&broken, syscall.EIO, func(op vfs.Op) bool { return op.Kind == vfs.OpRead }))
	d := openDir(t, fs)
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	broken.Store(true)
	if _, err := l.Read(0, ReadOptions{UpTo: 1, MaxBytes: 100}); !errors.Is(err, ErrOffline) {
		t.Fatalf("got %v", err)
	}
}

// TestFullDiskHeals: an append that finds the disk full fails, leaves nothing
// behind, and the next one works as soon as there is space.
func TestFullDiskHeals(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	l := openLog(t, d, Config{SegmentBytes: 20_000})
	want := map[int64]string{}
	put := func() error {
		v := string(bytes.Repeat([]byte{'x'}, 3000))
		info, err := l.AppendAsLeader(plain(1, v), AppendOptions{})
		if err == nil {
			want[info.FirstOffset] = v
		}
		return err
	}
	for round := range 3 {
		mem.SetCapacity(int64(60+round*40) << 10)
		var err error
		for err == nil {
			err = put()
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full disk: %v", err)
		}
		for range 5 {
			if err := put(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("still full: %v", err)
			}
		}
		if err := d.Offline(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Read(0, ReadOptions{UpTo: 1, MaxBytes: 1, MinOne: true}); err != nil {
			t.Fatalf("read from a full disk: %v", err)
		}
	}
	mem.SetCapacity(0)
	for range 10 {
		if err := put(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	got := values(t, openLog(t, openDir(t, mem), Config{}), 0)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for o, v := range want {
		if got[o] != v {
			t.Fatalf("offset %d differs", o)
		}
	}
}

// TestTornWriteOfAFullDiskIsCutBack: the part of a write that found space does not
// stay.
func TestTornWriteOfAFullDiskIsCutBack(t *testing.T) {
	var full atomic.Bool
	fs := vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite {
			return &vfs.TornWrite{Bytes: 30, Err: syscall.ENOSPC}
		}
		return nil
	})
	l := openLog(t, openDir(t, fs), Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	full.Store(true)
	if _, err := l.AppendAsLeader(plain(1, "longer than the next one"), AppendOptions{Now: t0}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	full.Store(false)
	mustAppend(t, l, 0, plain(1, "b"))
	if got := values(t, l, 0); len(got) != 2 || got[1] != "b" {
		t.Fatalf("got %v", got)
	}
	info, err := fs.Stat(l.active().log.name)
	if err != nil || info.Size != l.LocalBytes() {
		t.Fatalf("file has %d bytes, log %d, %v", info.Size, l.LocalBytes(), err)
	}
}

// TestDamageBelowTheRecoveryPointFailsThePartition is ARCHITECTURE.md §4, invariant
// 8: what was durable and is not there any more is not cut silently, and other
// partitions are not affected.
func TestDamageBelowTheRecoveryPointFailsThePartition(t *testing.T) {
	for name, harm := range map[string]func(f vfs.File) error{
		"shorter": func(f vfs.File) error { return f.Truncate(100) },
		"changed": func(f vfs.File) error { _, err := f.WriteAt([]byte{0xff}, 90); return err },
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			d := openDir(t, mem)
			l := openLog(t, d, Config{IndexIntervalBytes: 1 << 20})
			for range 5 {
				mustAppend(t, l, 0, plain(1, "a"))
			}
			other := metadata.TopicPartition{Topic: "other"}
			if _, err := d.OpenLog(LogOptions{TopicPartition: other}); err != nil {
				t.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := d.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			mem = mem.Crash(rand.New(rand.NewSource(1)), 100)
			f, err := mem.OpenReadWrite(l.active().log.name)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(harm(f), f.Close()); err != nil {
				t.Fatal(err)
			}
			d = openDir(t, mem)
			if _, err := d.OpenLog(LogOptions{TopicPartition: testTP}); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("damaged log opened with %v", err)
			}
			if _, err := d.OpenLog(LogOptions{TopicPartition: other}); err != nil || d.Offline() != nil {
				t.Fatalf("other log: %v, directory: %v", err, d.Offline())
			}
		})
	}
}

// TestTornTailIsKeptAside: what recovery cuts can be looked at afterwards.
func TestTornTailIsKeptAside(t *testing.T) {
	mem := vfs.NewMem()
	l := openLog(t, openDir(t, mem), Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	end := l.LocalBytes()
	mustAppend(t, l, 0, plain(1, "b"))
	mem = mem.Crash(rand.New(rand.NewSource(1)), 100)
	f, err := mem.OpenReadWrite(l.active().log.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(end + 40); err != nil {
		t.Fatal(err)
	}
	whole, err := vfs.ReadFile(mem, f.Name(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	l = openLog(t, openDir(t, mem), Config{})
	if l.LogEnd() != 1 {
		t.Fatalf("log end %d, want 1", l.LogEnd())
	}
	kept, err := vfs.ReadFile(mem, f.Name()+".72.torn", 1<<20)
	if err != nil || !bytes.Equal(kept, whole[end:]) {
		t.Fatalf("kept %x, %v, want %x", kept, err, whole[end:])
	}
	// Space that was reserved, or blocks that were lost, are nobody's business.
	mem = mem.Crash(rand.New(rand.NewSource(1)), 100)
	f, err = mem.OpenReadWrite(l.active().log.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(end + 100_000); err != nil {
		t.Fatal(err)
	}
	if l = openLog(t, openDir(t, mem), Config{}); l.LogEnd() != 1 || l.LocalBytes() != end {
		t.Fatalf("log end %d, %d bytes", l.LogEnd(), l.LocalBytes())
	}
}

func TestRelaxedFlushDeclaresRecordsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		fs := vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				syncs.Add(1)
			}
			return nil
		})
		d := openDir(t, fs)
		var acked atomic.Int64
		l, err := d.OpenLog(LogOptions{TopicPartition: testTP, Config: Config{FlushMessages: 10, FlushInterval: time.Second}, OnSynced: acked.Store})
		if err != nil {
			t.Fatal(err)
		}
		stop := running(t, d)
		defer stop()
		syncs.Store(0)
		for range 5 {
			mustAppend(t, l, 0, plain(1, "a"))
		}
		synctest.Wait()
		if acked.Load() != 5 || l.SyncedOffset() != 5 || l.durable.Load() != 0 || syncs.Load() != 0 {
			t.Fatalf("acked %d, synced %d, durable %d after %d syncs", acked.Load(), l.SyncedOffset(), l.durable.Load(), syncs.Load())
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if l.durable.Load() != 5 {
			t.Fatalf("durable %d after flush.ms", l.durable.Load())
		}
		mustAppend(t, l, 0, plain(1, make([]string, 12)...))
		synctest.Wait()
		if l.durable.Load() != 17 || acked.Load() != 17 {
			t.Fatalf("durable %d, acked %d after more than flush.messages", l.durable.Load(), acked.Load())
		}
	})
}

// TestIdleDirectoryDoesNothing: no call of the file system for a day.
func TestIdleDirectoryDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		d := openDir(t, vfs.WithFaults(vfs.NewMem(), r.before))
		l := openLog(t, d, Config{})
		stop := running(t, d)
		defer stop()
		mustAppend(t, l, 0, plain(1, "a"))
		l.SetHighWatermark(1)
		time.Sleep(10 * time.Minute)
		r.take()
		time.Sleep(24 * time.Hour)
		if calls := r.take(); calls != "" {
			t.Fatalf("an idle directory calls:\n%s", calls)
		}
		if p := l.active(); p.file != nil || p.offsets.tail != nil {
			t.Fatal("an idle log keeps its file or its index")
		}
	})
}

func TestAppendsAreFenced(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{})
	mustAppend(t, l, 5, plain(1, "a"))
	if _, err := l.AppendAsLeader(plain(1, "b"), AppendOptions{LeaderEpoch: 4}); !errors.Is(err, ErrFenced) {
		t.Fatalf("append of epoch 4 after 5: %v", err)
	}
	if err := l.AssignEpoch(7, l.LogEnd()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendAsLeader(plain(1, "b"), AppendOptions{LeaderEpoch: 5}); !errors.Is(err, ErrFenced) {
		t.Fatalf("append of epoch 5 after 7: %v", err)
	}
}

func TestFollowerTakesOnlyWhatContinuesTheLog(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{})
	b := plain(1, "a", "b")
	b.SetLeaderEpoch(3)
	two := append(bytes.Clone(b), b...)
	record.Batch(two[len(b):]).SetBaseOffset(2)
	torn := append(bytes.Clone(two), two[:30]...)
	info, err := l.AppendAsFollower(torn, 3)
	if err != nil || info.LastOffset != 3 || info.Bytes != len(two) || l.LatestEpoch() != 3 {
		t.Fatalf("got %+v, %v, epoch %d", info, err, l.LatestEpoch())
	}
	if _, err := l.AppendAsFollower(b, 3); !errors.Is(err, ErrInvalidBatch) {
		t.Fatalf("offsets again: %v", err)
	}
	bad := bytes.Clone(b)
	bad[70] ^= 1
	if _, err := l.AppendAsFollower(bad, 3); !errors.Is(err, record.ErrCorrupt) || !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damaged: %v", err)
	}
	next, later := bytes.Clone(b), bytes.Clone(b)
	record.Batch(next).SetBaseOffset(4)
	record.Batch(later).SetBaseOffset(6)
	record.Batch(later).SetLeaderEpoch(5)
	if info, err := l.AppendAsFollower(append(next, later...), 4); err != nil || info.LastOffset != 5 {
		t.Fatalf("a batch of a later epoch behind: %+v, %v", info, err)
	}
	if _, err := l.AppendAsFollower(later, 4); !errors.Is(err, ErrFenced) || l.LogEnd() != 6 {
		t.Fatalf("a batch of a later epoch: %v, log end %d", err, l.LogEnd())
	}
	record.Batch(later).SetLeaderEpoch(2)
	if _, err := l.AppendAsFollower(later, 4); !errors.Is(err, ErrInvalidBatch) {
		t.Fatalf("a batch of an earlier epoch than the last: %v", err)
	}
	// An epoch that has no records is dropped by a truncation to the end.
	if err := l.AssignEpoch(4, 6); err != nil {
		t.Fatal(err)
	}
	if err := l.TruncateTo(6); err != nil || l.LatestEpoch() != 3 {
		t.Fatalf("truncated to the end: %v, epoch %d, want 3", err, l.LatestEpoch())
	}
}

// TestFollowerBeginsWithTheBatchThatHoldsItsStart: the leader's log start lies
// within its first batch.
func TestFollowerBeginsWithTheBatchThatHoldsItsStart(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{})
	if err := l.TruncateFullyAndStartAt(5, 5); err != nil {
		t.Fatal(err)
	}
	b := plain(1, "a", "b", "c", "d")
	b.SetBaseOffset(3)
	info, err := l.AppendAsFollower(b, 0)
	if err != nil || info.FirstOffset != 3 || l.LocalLogStart() != 3 || l.LogEnd() != 7 {
		t.Fatalf("got %+v, %v, log %d to %d", info, err, l.LocalLogStart(), l.LogEnd())
	}
	if _, err := l.AppendAsFollower(b, 0); !errors.Is(err, ErrInvalidBatch) {
		t.Fatalf("again: %v", err)
	}
}

func TestDeletedLogGoesAfterTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		d := openDir(t, mem)
		l := openLog(t, d, Config{DeleteDelay: time.Minute})
		stop := running(t, d)
		defer stop()
		mustAppend(t, l, 0, plain(1, "a"))
		c, err := l.Read(0, ReadOptions{UpTo: 1, MaxBytes: 100})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.DeleteLog(l); err != nil {
			t.Fatal(err)
		}
		if _, err := l.AppendAsLeader(plain(1, "b"), AppendOptions{}); !errors.Is(err, ErrClosed) {
			t.Fatalf("append to a deleted log: %v", err)
		}
		again := openLog(t, d, Config{})
		if again.LogEnd() != 0 {
			t.Fatalf("new log of the same name ends at %d", again.LogEnd())
		}
		time.Sleep(59 * time.Second)
		if names, _ := mem.List("/data"); len(names) < 3 {
			t.Fatalf("gone too early: %v", names)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		names, _ := mem.List("/data")
		for _, n := range names {
			if _, kind := parseDirName(n); kind == deletedDir {
				t.Fatalf("still there: %s", n)
			}
		}
		b, err := c.AppendTo(nil)
		if err != nil || len(b) == 0 {
			t.Fatalf("pinned chunk of a deleted log: %d bytes, %v", len(b), err)
		}
		c.Release()
	})
}

func TestRunStopsWithItsContext(t *testing.T) {
	d := openDir(t, vfs.NewMem())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

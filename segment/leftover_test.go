package segment

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Files that a step left behind which failed, and what comes next.

// TestRestartTakesAwayWhatRetentionCouldNot: a log that begins anew while the files
// of an expired segment wait to be removed has neither a hole after a crash, nor is
// its first segment taken for the one that expired.
func TestRestartTakesAwayWhatRetentionCouldNot(t *testing.T) {
	cfg := Config{Delete: true, RemoteEnabled: true, RetentionAge: -1, RetentionBytes: -1}
	for kind, at := range map[vfs.OpKind]int64{vfs.OpSyncDir: 0, vfs.OpRemove: 20} {
		mem := vfs.NewMem()
		var on atomic.Bool
		d := openDir(t, vfs.WithFaults(mem, failing(&on, syscall.EMFILE, func(op vfs.Op) bool { return op.Kind == kind })))
		l := filledIn(t, d, cfg, 3)
		on.Store(true)
		if _, err := l.ExpireLocal(t0.Add(1000*time.Hour), 1, true); !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("got %v", err)
		}
		on.Store(false)
		noError(t, l.TruncateFullyAndStartAt(at, 0))
		mustAppend(t, l, 0, plain(1, "a"))
		noError(t, l.Sync())
		if at == 0 {
			_, err := l.ExpireLocal(t0, -1, true)
			noError(t, err)
		}
		noError(t, d.Checkpoint())
		l, err := openDir(t, killed(mem)).OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: cfg})
		if err != nil {
			t.Errorf("%d: %v", at, err)
		} else if got := values(t, l, at); got[at] != "a" || l.LocalLogStart() != at || l.LogEnd() != at+1 {
			t.Errorf("%d: local from %d to %d, holds %v", at, l.LocalLogStart(), l.LogEnd(), got)
		}
	}
}

// TestSegmentThatWasHalfBornGoesWithTheNextRestart: a log that began anew, and again
// elsewhere because its first file could not be made durable, keeps nothing of the
// first try, behind which a crash would look for records.
func TestSegmentThatWasHalfBornGoesWithTheNextRestart(t *testing.T) {
	mem := vfs.NewMem()
	var on atomic.Bool
	d := openDir(t, vfs.WithFaults(mem, func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.HasSuffix(op.Path, fileName(50, logSuffix)) {
			on.Store(true)
		}
		if on.Load() && op.Kind == vfs.OpSyncDir {
			return syscall.EMFILE
		}
		return nil
	}))
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	noError(t, l.Sync())
	if err := l.TruncateFullyAndStartAt(50, 50); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("got %v", err)
	}
	on.Store(false)
	noError(t, l.TruncateFullyAndStartAt(30, 30))
	for range 40 {
		mustAppend(t, l, 0, plain(1, "a"))
	}
	noError(t, l.Sync())
	noError(t, d.Checkpoint())
	l, err := reopen(killed(mem), t)
	if err != nil || l.LogEnd() != 70 {
		t.Fatalf("opened with %v", err)
	}
}

// TestSnapshotWhoseNameWasNotSyncedGoesWithItsRecords: a producer snapshot whose name
// could not be made durable is there nevertheless. It does not outlive a truncation.
func TestSnapshotWhoseNameWasNotSyncedGoesWithItsRecords(t *testing.T) {
	mem := vfs.NewMem()
	var on, armed atomic.Bool
	d := openDir(t, vfs.WithFaults(mem, func(op vfs.Op) error {
		if armed.Load() && op.Kind == vfs.OpRename && strings.HasSuffix(op.Path, fileName(2, snapshotSuffix)) {
			on.Store(true)
		}
		if on.Load() && op.Kind == vfs.OpSyncDir {
			return syscall.EMFILE
		}
		return nil
	}))
	l := openLog(t, d, Config{ProducerExpiration: 1 << 62})
	mustAppend(t, l, 0, idempotent(7, 0, "a"))
	mustAppend(t, l, 0, idempotent(7, 1, "b"))
	armed.Store(true)
	if err := l.Roll(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("got %v", err)
	}
	armed.Store(false)
	on.Store(false)
	noError(t, l.TruncateTo(1))
	mustAppend(t, l, 1, plain(1, "c", "d"))
	noError(t, l.Sync())
	l = openLog(t, openDir(t, killed(mem)), Config{ProducerExpiration: 1 << 62})
	info, err := l.AppendAsLeader(idempotent(7, 1, "b"), AppendOptions{LeaderEpoch: 3, Now: t0})
	if err != nil || info.Duplicate {
		t.Errorf("a batch that was cut is sent again: %+v, %v", info, err)
	}
}

// TestLineageOfTheTierIsTheLogsWhenItIsOnDisk: no record tells it again, so a log that
// could not write it does not count as one that has it.
func TestLineageOfTheTierIsTheLogsWhenItIsOnDisk(t *testing.T) {
	mem := vfs.NewMem()
	var on atomic.Bool
	d := openDir(t, vfs.WithFaults(mem, failing(&on, syscall.ENOSPC, func(op vfs.Op) bool {
		return op.Kind == vfs.OpWrite && strings.HasSuffix(op.Path, leaderEpochFile+vfs.TempSuffix)
	})))
	l := openLog(t, d, Config{RemoteEnabled: true})
	noError(t, l.TruncateFullyAndStartAt(20, 0))
	lineage := []EpochEntry{{1, 0}, {4, 10}}
	for _, full := range []bool{true, false} {
		on.Store(full)
		if err := l.RestoreFromRemote(20, lineage, nil); full != (err != nil) {
			t.Fatalf("full: %t: %v", full, err)
		}
		again, err := openDir(t, killed(mem)).OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: l.Config()})
		noError(t, err)
		if have, found := l.LeaderEpochs(), again.LeaderEpochs(); !slices.Equal(have, found) {
			t.Errorf("full: %t: the log has %v, after a crash %v", full, have, found)
		}
	}
	if !slices.Equal(l.LeaderEpochs(), lineage) {
		t.Errorf("got %v", l.LeaderEpochs())
	}
}

// TestRecoveryOfCutDamageBelievesNoFormerMark: what takes the place of records that
// were cut is not durable because those were.
func TestRecoveryOfCutDamageBelievesNoFormerMark(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	l := openLog(t, d, Config{})
	for range 5 {
		mustAppend(t, l, 0, plain(1, "a"))
	}
	noError(t, l.Sync())
	l.SetHighWatermark(5)
	noError(t, d.Checkpoint())
	mem = killed(mem)
	harm(t, mem, fileName(0, logSuffix), truncated(int64(len(plain(1, "a")))))
	l, err := openDir(t, mem).OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, CutDamage: true})
	noError(t, err)
	mustAppend(t, l, 1, plain(1, "b"))
	noError(t, l.Sync())
	if l, err := reopen(killed(mem), t); err != nil || l.LogEnd() != 2 || l.HighWatermark() != 1 {
		t.Errorf("opened with %v", err)
	}
}

// TestTruncationThatFailsKeepsTheSnapshots: the log goes on as it was, and when
// retention takes the records before a snapshot, that alone tells of their producers.
func TestTruncationThatFailsKeepsTheSnapshots(t *testing.T) {
	mem := vfs.NewMem()
	var on atomic.Bool
	d := openDir(t, vfs.WithFaults(mem, failing(&on, syscall.EMFILE, func(op vfs.Op) bool {
		return op.Kind == vfs.OpOpen && strings.HasSuffix(op.Path, snapshotSuffix)
	})))
	cfg := Config{ProducerExpiration: 1 << 62}
	l := openLog(t, d, cfg)
	for pid := range int64(2) {
		mustAppend(t, l, 0, idempotent(pid, 0, "a"))
		noError(t, l.Roll())
	}
	mustAppend(t, l, 0, plain(1, "b"))
	noError(t, l.Sync())
	l.SetHighWatermark(3)
	on.Store(true)
	if err := l.TruncateTo(1); !errors.Is(err, syscall.EMFILE) || l.LogEnd() != 3 {
		t.Fatalf("got %v, log end %d", err, l.LogEnd())
	}
	on.Store(false)
	noError(t, l.SetLogStart(2))
	l = openLog(t, openDir(t, killed(mem)), cfg)
	if got := l.Producers(); len(got) != 2 || l.LogStart() != 2 {
		t.Errorf("log start %d, producers %+v", l.LogStart(), got)
	}
}

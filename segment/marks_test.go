package segment

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// rewrites counts how often each checkpoint of a directory was written. While held
// is set, who writes waits.
type rewrites struct {
	mu    sync.Mutex
	count map[string]int
	held  chan struct{}
}

func (r *rewrites) before(op vfs.Op) error {
	r.mu.Lock()
	held := r.held
	name := op.Path[strings.LastIndexByte(op.Path, '/')+1:]
	counts := op.Kind == vfs.OpRename && strings.Count(op.Path, "/") == 2 && strings.HasSuffix(name, "-checkpoint")
	if counts {
		r.count[name]++
	}
	r.mu.Unlock()
	if counts && held != nil {
		<-held
	}
	return nil
}

func (r *rewrites) hold() (release func()) {
	held := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
	return func() {
		r.mu.Lock()
		r.held = nil
		r.mu.Unlock()
		close(held)
	}
}

// take returns the counts and begins anew.
func (r *rewrites) take() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := r.count
	r.count = map[string]int{}
	return count
}

// manyLogs opens n logs with three records each, all of it below the recovery
// points on disk.
func manyLogs(t *testing.T, d *Dir, n int) []*Log {
	t.Helper()
	logs := make([]*Log, n)
	for i := range n {
		l, err := d.OpenLog(LogOptions{TopicPartition: metadata.TopicPartition{Topic: "t", Partition: int32(i)}, TopicID: testID})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			mustAppend(t, l, 0, plain(1, "a"))
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		l.SetHighWatermark(3)
		logs[i] = l
	}
	if err := d.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	return logs
}

// TestCheckpointsAreWrittenOnceForMany: a file that holds an offset of every
// partition is not rewritten for each partition that needs it on disk.
func TestCheckpointsAreWrittenOnceForMany(t *testing.T) {
	const n = 200
	for name, work := range map[string]struct {
		file string
		do   func(d *Dir, l *Log) error
	}{
		"truncations": {recoveryPointFile, func(_ *Dir, l *Log) error { return l.TruncateTo(1) }},
		"log starts":  {logStartFile, func(_ *Dir, l *Log) error { return l.SetLogStart(2) }},
		"resets":      {recoveryPointFile, func(_ *Dir, l *Log) error { return l.TruncateFullyAndStartAt(7, 7) }},
		"deletions":   {recoveryPointFile, func(d *Dir, l *Log) error { return d.DeleteLog(l) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rewrites{count: map[string]int{}}
				mem := vfs.NewMem()
				d := openDir(t, vfs.WithFaults(mem, r.before))
				logs := manyLogs(t, d, n)
				r.take()
				release := r.hold() // the first round waits for the disk while the others come
				var wg sync.WaitGroup
				var done atomic.Int64
				for _, l := range logs {
					wg.Go(func() {
						if err := work.do(d, l); err != nil {
							t.Error(err)
						}
						done.Add(1)
					})
				}
				synctest.Wait()
				if got := done.Load(); got != 0 {
					t.Errorf("%d returned before their offsets were on disk", got)
				}
				release()
				wg.Wait()
				if got := r.take(); got[work.file] < 1 || got[work.file] > 2 {
					t.Errorf("%d at the same time rewrote the checkpoints %v times, want at most twice", n, got)
				}
			})
		})
	}
}

// TestManyLogsAreDeletedTogether: one sync of the directory and one rewrite of each
// checkpoint, however many.
func TestManyLogsAreDeletedTogether(t *testing.T) {
	r := &rewrites{count: map[string]int{}}
	var syncs atomic.Int64
	d := openDir(t, vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir {
			syncs.Add(1)
		}
		return r.before(op)
	}))
	logs := manyLogs(t, d, 300)
	r.take()
	syncs.Store(0)
	for _, err := range d.DeleteLogs(logs) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := r.take(); got[recoveryPointFile] != 1 || got[highWatermarkFile] != 1 || got[logStartFile] > 1 {
		t.Errorf("checkpoints were rewritten %v times", got)
	}
	if got := syncs.Load(); got > 7 { // the directory, and two for each of three files
		t.Errorf("%d syncs for the deletion of %d logs", got, len(logs))
	}
	if left := d.Logs(); len(left) != 0 {
		t.Errorf("%d logs are left", len(left))
	}
}

// TestRecoveryPointIsLoweredBehindACheckpoint: a checkpoint that was computed before
// a truncation and reaches the disk during it does not bring the higher recovery
// point back.
func TestRecoveryPointIsLoweredBehindACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, r := vfs.NewMem(), &rewrites{count: map[string]int{}}
		d := openDir(t, vfs.WithFaults(mem, r.before))
		l := openLog(t, d, Config{})
		for range 5 {
			mustAppend(t, l, 0, plain(1, "a"))
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		release := r.hold()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := d.Checkpoint(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // the file with recovery point 5 is about to be renamed
		wg.Go(func() {
			if err := l.TruncateTo(3); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		release()
		wg.Wait()
		again := openDir(t, crashed(mem))
		if l := openLog(t, again, Config{}); l.LogEnd() != 3 {
			t.Errorf("log end %d after a truncation to 3 and a crash", l.LogEnd())
		}
	})
}

// TestFailedCheckpointIsNotBelieved: after a write that failed nobody knows what is
// on disk, so what depends on it writes again, and fails while it cannot.
func TestFailedCheckpointIsNotBelieved(t *testing.T) {
	var full atomic.Bool
	fs := vfs.WithFaults(vfs.NewMem(), failing(&full, syscall.ENOSPC, func(op vfs.Op) bool {
		return op.Kind == vfs.OpWrite && strings.Contains(op.Path, logStartFile)
	}))
	d := openDir(t, fs)
	l := openLog(t, d, Config{SegmentBytes: 100, Delete: true})
	for i := range 4 {
		mustAppend(t, l, 0, plain(1, fmt.Sprint(i)))
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Checkpoint(); err != nil { // seals
		t.Fatal(err)
	}
	l.SetHighWatermark(4)
	full.Store(true)
	for range 2 { // the second finds the start where it wants it, in memory
		if err := l.SetLogStart(3); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("with a full disk: %v", err)
		}
		if l.parts[0].base != 0 {
			t.Fatal("records were removed before the log start was on disk")
		}
	}
	full.Store(false)
	if err := l.SetLogStart(3); err != nil || l.LocalLogStart() != 3 {
		t.Fatalf("with space again: %v, local log start %d", err, l.LocalLogStart())
	}
}

// TestCheckpointThatMayLieThereCounts: a write that failed at its very end may be
// what a restart finds, and a truncation lowers that recovery point, too.
func TestCheckpointThatMayLieThereCounts(t *testing.T) {
	var full atomic.Bool
	mem := vfs.NewMem()
	d := openDir(t, vfs.WithFaults(mem, failing(&full, syscall.EMFILE, func(op vfs.Op) bool {
		return op.Kind == vfs.OpSyncDir && op.Path == "/data"
	})))
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	if err := errors.Join(l.Sync(), d.Checkpoint()); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		mustAppend(t, l, 0, plain(1, "a"))
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if err := d.Checkpoint(); err == nil {
		t.Fatal("written although the directory could not be synced")
	}
	full.Store(false)
	if err := l.TruncateTo(3); err != nil {
		t.Fatal(err)
	}
	if l := openLog(t, openDir(t, crashed(mem)), Config{}); l.LogEnd() != 3 {
		t.Errorf("log end %d after a truncation to 3 and a crash", l.LogEnd())
	}
}

// TestNewLogInheritsNothingOfTheDeletedOne although a checkpoint with the old
// offsets is on its way to the disk when it is made.
func TestNewLogInheritsNothingOfTheDeletedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, r := vfs.NewMem(), &rewrites{count: map[string]int{}}
		d := openDir(t, vfs.WithFaults(mem, r.before))
		l := openLog(t, d, Config{})
		for range 5 {
			mustAppend(t, l, 0, plain(1, "a"))
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		release := r.hold()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := d.Checkpoint(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := d.DeleteLog(l); err != nil {
				t.Error(err)
			}
			openLog(t, d, Config{})
		})
		synctest.Wait()
		release()
		wg.Wait()
		l2 := openLog(t, openDir(t, crashed(mem)), Config{})
		if l2.LogEnd() != 0 || l2.HighWatermark() != 0 || l2.RecoveryPoint() != 0 {
			t.Errorf("the new log ends at %d, high watermark %d, recovery point %d", l2.LogEnd(), l2.HighWatermark(), l2.RecoveryPoint())
		}
	})
}

// TestDeletionIsTriedAgain: what could not be renamed is closed, keeps its name, and
// goes with the next attempt; until then no shutdown counts as clean.
func TestDeletionIsTriedAgain(t *testing.T) {
	var full atomic.Bool
	mem := vfs.NewMem()
	d := openDir(t, vfs.WithFaults(mem, failing(&full, syscall.ENOSPC, func(op vfs.Op) bool {
		return op.Kind == vfs.OpRename && strings.HasSuffix(op.Path, deletedDirSuffix)
	})))
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	full.Store(true)
	if err := d.DeleteLog(l); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("with a full disk: %v", err)
	}
	full.Store(false)
	for range 2 { // once more is no error
		if err := d.DeleteLog(l); err != nil {
			t.Fatal(err)
		}
	}
	if again := openLog(t, d, Config{}); again.LogEnd() != 0 {
		t.Errorf("new log ends at %d", again.LogEnd())
	} else {
		full.Store(true)
		if err := d.DeleteLog(again); err == nil {
			t.Fatal("deleted on a full disk")
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if openDir(t, mem).Clean() {
		t.Error("clean with a log that was closed without being synced")
	}
}

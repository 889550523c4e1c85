package segment

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// oneFault lets the n-th call of the file system after it was armed fail with err.
type oneFault struct {
	n     int64
	err   error
	armed atomic.Bool
	calls atomic.Int64
	hit   atomic.Pointer[vfs.Op]
}

func (f *oneFault) before(op vfs.Op) error {
	if !f.armed.Load() || f.calls.Add(1) != f.n {
		return nil
	}
	f.hit.Store(&op)
	return f.err
}

// final reports whether nothing may be believed any more after the fault.
func (f *oneFault) final() bool {
	op := f.hit.Load()
	return op != nil && (f.err == syscall.EIO || op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir && f.err != syscall.EMFILE)
}

func (r *crashRun) restart(to int64) error {
	r.h.expectCut(0, func() {
		r.h.synced = 0
		r.h.started = to
	})
	if err := r.l.TruncateFullyAndStartAt(to, to); err != nil {
		return err
	}
	r.h.logStart, r.h.synced, r.h.before = to, r.l.SyncedOffset(), nil
	return nil
}

// expectCut notes that what lies at offset to and above is about to go.
func (h *history) expectCut(to int64, also func()) {
	if h.before == nil {
		h.before = maps.Clone(h.records)
	}
	maps.DeleteFunc(h.records, func(o int64, _ string) bool { return o >= to })
	also()
}

// follow appends a batch as a follower does, at an offset that may lie far ahead.
func (r *crashRun) follow(at int64, value string) error {
	b := plain(7000, value)
	b.SetBaseOffset(at)
	b.SetLeaderEpoch(max(r.l.LatestEpoch(), 0))
	r.h.records[at] = value
	r.h.started = at // where a log without a tier starts after a restart
	_, err := r.l.AppendAsFollower(b, max(r.l.LatestEpoch(), 0))
	return err
}

// faultSteps is a history with each kind of change of a log.
func faultSteps(r *crashRun) []func() error {
	return []func() error{
		func() error { return r.put("a1", "a2", "a3") },
		r.sync,
		func() error { return r.putTxn(7, "t1", "t2") },
		func() error { return r.put(strings.Repeat("b", 300)) },
		func() error { return r.end(7, false) },
		r.d.Checkpoint,
		func() error { return r.put(strings.Repeat("c", 700)) },
		func() error { return r.put("d1", "d2", "d3") },
		r.sync,
		r.d.Checkpoint,
		func() error { return r.truncateInside(9) },
		func() error { return r.l.AssignEpoch(3, r.l.LogEnd()) },
		func() error { return r.putTxn(8, "u1") },
		r.l.Roll,
		func() error { return r.put(strings.Repeat("e", 700)) },
		func() error { return r.put(strings.Repeat("f", 700)) },
		func() error { return r.end(8, false) },
		r.sync,
		r.d.Checkpoint,
		func() error { return r.truncate(9) },
		func() error { return r.put("g") },
		r.l.Roll,
		func() error { return r.setLogStart(7) },
		func() error { _, err := r.l.ExpireLocal(t0, -1, true); return err },
		func() error { return r.put("h") },
		r.sync,
		func() error { return r.restart(40) },
		func() error { return r.follow(40+3<<30, "far") },
		func() error { return r.put("i1", "i2") },
		r.sync,
		r.l.Roll,
		func() error { return r.put("j") },
		r.sync,
		r.d.Checkpoint,
	}
}

// tieredSteps is a history of a log whose older segments are in the tier.
func tieredSteps(r *crashRun) []func() error {
	expire := func(highest int64) func() error {
		return func() error { _, err := r.l.ExpireLocal(t0, highest, true); return err }
	}
	return []func() error{
		func() error { return r.put("a1", "a2", "a3") },
		func() error { return r.put(strings.Repeat("b", 700)) },
		func() error { return r.put(strings.Repeat("c", 700)) },
		func() error { return r.put(strings.Repeat("d", 700)) },
		r.sync,
		r.l.Roll,
		expire(4),
		func() error { return r.put("e1", "e2") },
		r.sync,
		func() error { return r.truncate(6) },
		func() error { return r.fromTier(30) },
		func() error { return r.put("f1", "f2") },
		r.sync,
		r.l.Roll,
		func() error { return r.put("g") },
		expire(31),
		r.sync,
		// Below what is on the disk: the log begins anew there.
		func() error { return r.fromTier(20) },
		func() error { return r.put("h") },
		r.sync,
		r.d.Checkpoint,
	}
}

// fromTier makes the log go on at an offset where the tier ends.
func (r *crashRun) fromTier(at int64) error {
	r.h.expectCut(0, func() { r.h.synced = 0 })
	snapshot := producer.NewManager(0, 0).Snapshot()
	if err := r.l.RestoreFromRemote(at, []EpochEntry{{0, 0}, {2, 10}}, snapshot); err != nil {
		return err
	}
	if got := r.l.LatestEpoch(); got != 2 || r.l.LogStart() != 0 || r.l.LocalLogStart() != at {
		return fmt.Errorf("epoch %d, log start %d, local log start %d after the tier gave what lies below %d", got, r.l.LogStart(), r.l.LocalLogStart(), at)
	}
	r.h.synced, r.h.before = r.l.SyncedOffset(), nil
	return nil
}

// truncateInside cuts within a batch: all of it goes.
func (r *crashRun) truncateInside(at int64) error {
	r.h.expectCut(8, func() { r.h.synced = min(r.h.synced, 8) })
	if err := r.l.TruncateTo(at); err != nil {
		return err
	}
	if got := r.l.LogEnd(); got != 8 {
		return fmt.Errorf("log end %d after a truncation to %d, within the batch that begins with 8", got, at)
	}
	r.h.before, r.h.synced = nil, r.l.SyncedOffset()
	return nil
}

// runWithFault carries out the steps, each again when it failed with something
// that heals. With crash it stops at the first failure.
func runWithFault(t *testing.T, mem *vfs.Mem, f *oneFault, crash bool) (*crashRun, bool) {
	t.Helper()
	return runSteps(t, mem, f, crash, crashConfig, faultSteps)
}

func runSteps(t *testing.T, mem *vfs.Mem, f *oneFault, crash bool, cfg Config, steps func(*crashRun) []func() error) (*crashRun, bool) {
	t.Helper()
	d := openDir(t, vfs.WithFaults(mem, f.before))
	l := openLog(t, d, cfg)
	r := &crashRun{d: d, l: l, h: newHistory(), seq: map[int64]int32{}}
	r.h.created = true
	f.armed.Store(true)
	for i, step := range steps(r) {
		err := step()
		if err == nil {
			checkInvariants(t, l)
			continue
		}
		switch offline := errors.Is(d.Offline(), ErrOffline); {
		case f.hit.Load() == nil:
			t.Fatalf("step %d: %v", i, err)
		case offline != f.final():
			t.Fatalf("step %d: %v; directory: %v", i, err, d.Offline())
		case offline || crash:
			return r, false
		}
		checkInvariants(t, l)
		if err := step(); err != nil {
			t.Fatalf("step %d, again: %v", i, err)
		}
	}
	f.armed.Store(false)
	return r, d.Offline() == nil
}

// TestOneFaultLosesNothing: whatever call of the file system fails once, with a
// full disk, a lack of descriptors or an I/O error, and whether the caller tries
// again or the power fails then, the log holds what it holds without the fault.
func TestOneFaultLosesNothing(t *testing.T) {
	all := &oneFault{}
	runWithFault(t, vfs.NewMem(), all, false)
	total := all.calls.Load()
	t.Logf("%d calls", total)
	for n := int64(1); n <= total; n++ {
		for i, cause := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO} {
			for _, crash := range []bool{false, true} {
				if crash && i != int(n)%2 {
					continue
				}
				t.Run("", func(t *testing.T) {
					seed := rand.Int63()
					f := &oneFault{n: n, err: cause}
					mem := vfs.NewMem()
					defer func() {
						if t.Failed() {
							t.Logf("call %d, %v, fails with %v, crash %v, seed %d", n, f.hit.Load(), cause, crash, seed)
						}
					}()
					r, done := runWithFault(t, mem, f, crash)
					rng := rand.New(rand.NewSource(seed))
					left := mem.Crash(rng, []int{0, 50, 100}[rng.Intn(3)])
					if done {
						checkRecords(t, visible(t, r.l), r.h, r.l)
						checkDerived(t, r.l)
						if got := len(visible(t, r.l)); got != len(r.h.records) {
							t.Fatalf("%d records, want %d", got, len(r.h.records))
						}
					}
					checkCrash(t, left, r.h)
					if done {
						checkClosed(t, mem, r)
					}
				})
				if t.Failed() {
					return
				}
			}
		}
	}
}

// TestOneFaultOfATieredLogLosesNothing is the same for a log of which the tier has the
// beginning, and from which it goes on.
func TestOneFaultOfATieredLogLosesNothing(t *testing.T) {
	cfg := crashConfig
	cfg.Delete, cfg.RemoteEnabled = true, true // nothing is kept that the tier has
	all := &oneFault{}
	runSteps(t, vfs.NewMem(), all, false, cfg, tieredSteps)
	for n := int64(1); n <= all.calls.Load(); n++ {
		for i, cause := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO} {
			f := &oneFault{n: n, err: cause}
			mem := vfs.NewMem()
			r, done := runSteps(t, mem, f, int(n)%3 == i, cfg, tieredSteps)
			at := fmt.Sprintf("call %d, %v, fails with %v", n, f.hit.Load(), cause)
			if done {
				if got := visible(t, r.l); !maps.Equal(got, r.h.records) {
					t.Fatalf("%s: %v, want %v", at, got, r.h.records)
				}
			}
			rng := rand.New(rand.NewSource(n))
			left := mem.Crash(rng, []int{0, 50, 100}[rng.Intn(3)])
			l, err := openDir(t, left).OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: cfg})
			if err != nil {
				t.Fatalf("%s: opened with %v", at, err)
			}
			checkInvariants(t, l)
			if l.LogStart() != 0 || l.LogEnd() < r.h.synced {
				t.Fatalf("%s: log %d to %d, %d was durable", at, l.LogStart(), l.LogEnd(), r.h.synced)
			}
			checkRecords(t, visible(t, l), r.h, l)
		}
	}
}

// checkClosed closes a log and wants it to be the same after a clean restart.
func checkClosed(t *testing.T, mem *vfs.Mem, r *crashRun) {
	t.Helper()
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, mem)
	l := openLog(t, d, crashConfig)
	if !d.Clean() || l.LogEnd() != r.l.LogEnd() {
		t.Fatalf("clean %v, log end %d, want %d", d.Clean(), l.LogEnd(), r.l.LogEnd())
	}
	checkRecords(t, visible(t, l), r.h, l)
	checkDerived(t, l)
}

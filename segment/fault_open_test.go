package segment

import (
	"errors"
	"maps"
	"math/rand"
	"syscall"
	"testing"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestOneFaultWhileOpeningLosesNothing: an open that meets a full disk, or a lack of
// descriptors, fails or goes on without what it can spare, and the next one finds all
// that is there; after an I/O error the directory is offline and the next start does.
func TestOneFaultWhileOpeningLosesNothing(t *testing.T) {
	crashes := map[string]func(mem *vfs.Mem, d *Dir) (*vfs.Mem, error){
		"clean":  func(mem *vfs.Mem, d *Dir) (*vfs.Mem, error) { return mem, d.Close() },
		"killed": func(mem *vfs.Mem, _ *Dir) (*vfs.Mem, error) { return killed(mem), nil },
		"forgotten": func(mem *vfs.Mem, _ *Dir) (*vfs.Mem, error) {
			left := killed(mem)
			return left, errors.Join(left.Remove("/data/"+recoveryPointFile), left.Remove("/data/"+highWatermarkFile))
		},
		"torn": func(mem *vfs.Mem, d *Dir) (*vfs.Mem, error) {
			left := killed(mem)
			f, err := left.OpenReadWrite(d.Logs()[0].active().log.name)
			if err != nil {
				return nil, err
			}
			size, err := f.Size()
			return left, errors.Join(err, f.Truncate(size+7), f.Close())
		},
	}
	for how, crash := range crashes {
		for _, cause := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO} {
			for n, done := int64(1), false; !done; n++ {
				mem := vfs.NewMem()
				r, _ := runWithFault(t, mem, &oneFault{}, false)
				want := visible(t, r.l)
				left, err := crash(mem, r.d)
				noError(t, err)
				f := &oneFault{n: n, err: cause}
				d := openDir(t, vfs.WithFaults(left, f.before))
				f.armed.Store(true)
				o := LogOptions{TopicPartition: testTP, TopicID: testID, Config: crashConfig}
				l, err := d.OpenLog(o)
				if done = f.hit.Load() == nil; done {
					break
				}
				if errors.Is(err, ErrCorrupt) || d.Offline() != nil && !f.final() {
					t.Fatalf("%s, call %d, %v, fails with %v: %v; directory: %v", how, n, f.hit.Load(), cause, err, d.Offline())
				}
				switch {
				case d.Offline() != nil:
					left = left.Crash(rand.New(rand.NewSource(n)), 50)
					l, err = openDir(t, left).OpenLog(o)
				case err != nil:
					l, err = d.OpenLog(o)
				}
				if err != nil {
					t.Fatalf("%s, call %d, %v, fails with %v: opened again with %v", how, n, f.hit.Load(), cause, err)
				}
				if got := visible(t, l); !maps.Equal(got, want) {
					t.Fatalf("%s, call %d, %v, fails with %v: %d records, want %d", how, n, f.hit.Load(), cause, len(got), len(want))
				}
				checkInvariants(t, l)
				checkDerived(t, l)
				mustAppend(t, l, l.LatestEpoch()+1, plain(1, "after"))
				noError(t, l.Sync())
				if after, err := openDir(t, unsynced(left)).OpenLog(o); err != nil || after.LogEnd() != l.LogEnd() {
					t.Fatalf("%s, call %d, %v, fails with %v: after an append and a power loss: %v", how, n, f.hit.Load(), cause, err)
				}
			}
		}
	}
}

package segment

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestIndexesAreWorthNothing: whatever happens to them, missing, cut, or filled
// with something else, records are found as before, and the files are made anew.
func TestIndexesAreWorthNothing(t *testing.T) {
	harms := map[string]func(fs vfs.FS, name string) error{
		"missing": func(fs vfs.FS, name string) error { return fs.Remove(name) },
		"empty":   func(fs vfs.FS, name string) error { return vfs.WriteFileAtomic(fs, name, nil) },
		"half":    func(fs vfs.FS, name string) error { return cutFile(fs, name, 30) },
		"garbage": func(fs vfs.FS, name string) error {
			return vfs.WriteFileAtomic(fs, name, []byte("sixteen bytes..., and twice as many as that....."))
		},
	}
	for what, harm := range harms {
		for _, suffix := range []string{indexSuffix, timeSuffix} {
			for _, clean := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s%s clean=%v", what, suffix, clean), func(t *testing.T) {
					mem := vfs.NewMem()
					cfg := Config{SegmentBytes: 1000, IndexIntervalBytes: 1}
					d := openDir(t, mem)
					l := openLog(t, d, cfg)
					for i := range 40 {
						mustAppend(t, l, 0, plain(int64(1000+i), fmt.Sprint(i)))
					}
					want := values(t, l, 0)
					if err := errors.Join(l.Sync(), l.seal(), d.Checkpoint()); err != nil {
						t.Fatal(err)
					}
					if clean {
						if err := d.Close(); err != nil {
							t.Fatal(err)
						}
					}
					mem = mem.Crash(newRand(1), 100)
					for _, p := range l.parts {
						if err := harm(mem, fmt.Sprintf("/data/orders-3/%020d%s", p.base, suffix)); err != nil && !missing(err) {
							t.Fatal(err)
						}
					}
					l = openLog(t, openDir(t, mem), cfg)
					if diff := cmp.Diff(want, values(t, l, 0)); diff != "" {
						t.Fatalf("records (-want +got):\n%s", diff)
					}
					for ts := int64(1000); ts < 1040; ts += 7 {
						if got, ok, err := l.OffsetForTimestamp(ts); err != nil || !ok || got.Offset != ts-1000 {
							t.Fatalf("time %d: %+v %v %v", ts, got, ok, err)
						}
					}
					if got, ok, err := l.MaxTimestamp(); err != nil || !ok || got.Offset != 39 {
						t.Fatalf("largest timestamp: %+v %v %v", got, ok, err)
					}
					if what == "missing" || what == "garbage" { // a prefix is as good as all, but slower
						for _, p := range l.parts {
							checkIndexes(t, l, p)
						}
					}
				})
			}
		}
	}
}

func cutFile(fs vfs.FS, name string, size int64) error {
	f, err := fs.OpenReadWrite(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

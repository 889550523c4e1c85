package tiering

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// coldWorld is a world whose records are in the tier, all but the last few, and a disk for its cache.
type coldWorld struct {
	*world
	want string // what reading all records gives
	ssd  *vfs.Mem
	seen cache.DiskStats // of all lives so far: Hits, Bad, Errors
}

func newColdWorld(t *testing.T) *coldWorld {
	c := &coldWorld{world: newWorld(t), ssd: vfs.NewMem()}
	b := c.mustStart(settings{config: smallLog(), chunk: 4 << 10})
	if err := b.produce(600); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.want, err = b.readAll(t.Context(), 0, 1<<20); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	if err := b.evict(); err != nil {
		t.Fatal(err)
	}
	if b.log.LocalLogStart() == 0 {
		t.Fatal("nothing was evicted")
	}
	b.close()
	return c
}

// life reads all records in one life of a broker, with fs for the disk, and returns how many GETs of segments that
// took. It ends when so many of the pieces read are on the disk.
func (c *coldWorld) life(fs vfs.FS, memory, bytes int64, share float64) int64 {
	c.t.Helper()
	var gets atomic.Int64
	store := object.WithFaults(c.store, func(_ context.Context, op object.Op) error {
		if op.Kind == object.OpGet && strings.HasSuffix(op.Key, manifest.LogSuffix) {
			gets.Add(1)
		}
		return nil
	})
	disk, err := cache.OpenDisk(cache.DiskOptions{FS: fs, Dir: "ssd", Bytes: bytes, Scope: "c1"})
	if err != nil {
		c.t.Fatal(err)
	}
	b := c.mustStart(settings{config: smallLog(), chunk: 4 << 10, memory: memory, disk: disk, store: store})
	defer b.close()
	for range 2 {
		got, err := b.readAll(c.t.Context(), 0, 1<<20)
		if err != nil {
			c.t.Fatal(err)
		}
		if got != c.want {
			c.t.Fatal("other bytes than from the local log")
		}
	}
	settle(c.t, "pieces are on the disk", func() bool {
		return float64(disk.Stats().Pieces) >= share*float64(b.cache.Stats().Fetched)
	})
	s := disk.Stats()
	c.seen.Hits, c.seen.Bad, c.seen.Errors = c.seen.Hits+s.Hits, c.seen.Bad+s.Bad, c.seen.Errors+s.Errors
	return gets.Load()
}

// each calls do with each file of the cache.
func (c *coldWorld) each(do func(name string, f vfs.File, size int64) error) {
	c.t.Helper()
	names, err := c.ssd.List(filepath.Join("ssd", "coldbrook-cache"))
	n := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".piece") {
			continue
		}
		n++
		f, ferr := c.ssd.OpenReadWrite(filepath.Join("ssd", "coldbrook-cache", name))
		if ferr != nil {
			c.t.Fatal(ferr)
		}
		size, serr := f.Size()
		err = errors.Join(err, serr, do(f.Name(), f, size), f.Close())
	}
	if err != nil || n == 0 {
		c.t.Fatalf("%d files, %v", n, err)
	}
}

// TestRestartAsksTheStoreForNothingThatIsOnDisk also says what a life without its disk would ask for.
func TestRestartAsksTheStoreForNothingThatIsOnDisk(t *testing.T) {
	c := newColdWorld(t)
	if gets := c.life(c.ssd, 4<<20, 0, 1); gets < 10 {
		t.Errorf("%d GETs without anything on the disk", gets)
	}
	for _, memory := range []int64{4 << 20, 4 << 10} {
		if gets := c.life(c.ssd, memory, 0, 0); gets != 0 {
			t.Errorf("%d GETs after a restart", gets)
		}
	}
}

// TestReadsAreTheSameWithADiskCache is invariant 7 with a disk cache, of any size and whatever happens to its
// files between two lives.
func TestReadsAreTheSameWithADiskCache(t *testing.T) {
	const tiny = 20 << 10 // two pieces
	for _, size := range []struct{ memory, disk int64 }{{4 << 10, tiny}, {4 << 10, 0}, {4 << 20, tiny}, {4 << 20, 0}} {
		t.Run(fmt.Sprintf("memory %d disk %d", size.memory, size.disk), func(t *testing.T) {
			c, large := newColdWorld(t), size.disk == 0
			for _, between := range []struct {
				what string
				do   func()
			}{
				{"nothing yet", func() {}},
				{"a restart", func() {}},
				{"flipped bits", func() {
					c.each(func(_ string, f vfs.File, size int64) error {
						var b [1]byte
						at := size - 1 - size/5 // in the data
						_, rerr := f.ReadAt(b[:], at)
						b[0] ^= 0x10
						_, werr := f.WriteAt(b[:], at)
						return errors.Join(rerr, werr)
					})
				}},
				{"exchanged names", func() {
					last := ""
					c.each(func(name string, _ vfs.File, _ int64) error {
						if last == "" {
							last = name
							return nil
						}
						one, two := last, name
						last = ""
						return errors.Join(c.ssd.Rename(one, "aside"), c.ssd.Rename(two, one), c.ssd.Rename("aside", two))
					})
				}},
				{"files cut short", func() {
					c.each(func(_ string, f vfs.File, size int64) error { return f.Truncate(size * 3 / 4) })
				}},
				{"a full disk", func() { c.ssd.SetCapacity(c.ssd.Used() + 4096) }},
				{"a smaller bound", func() { c.ssd.SetCapacity(0); size.disk = tiny }},
			} {
				t.Log(between.what)
				between.do()
				share := 0.001 // one at least, for what comes next
				if between.what == "a full disk" {
					share = 0
				}
				c.life(c.ssd, size.memory, size.disk, share)
			}
			for seed := range int64(3) {
				fails := vfs.Randomly(seed, 0.05, syscall.EIO, vfs.OpCreate, vfs.OpWrite, vfs.OpRename, vfs.OpRemove, vfs.OpOpen, vfs.OpRead)
				c.life(vfs.WithFaults(c.ssd, func(op vfs.Op) error {
					if !strings.Contains(op.Path, ".piece") {
						return nil // it has to start
					}
					return fails(op)
				}), size.memory, size.disk, 0)
			}
			if large && (c.seen.Hits == 0 || c.seen.Bad == 0 || c.seen.Errors == 0) {
				t.Errorf("not all that it is about has happened: %+v", c.seen)
			}
		})
	}
}

package cache

import (
	"errors"
	"fmt"
	"math/rand"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

func TestForeignFilesAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src, log := vfs.NewMem(), source{}, &logged{}
		l := live(t, Options{}, DiskOptions{FS: fs})
		l.fill(&src, Key{"a", 1})
		l.stop()
		own := filepath.Base(pieceFile(Key{"a", 1}))
		foreign := []string{"photo.jpg", "photo.jpg.tmp", strings.ToUpper(own), "0" + own, own + ".bak", "lock.piece"}
		for _, name := range append(foreign, own+vfs.TempSuffix) {
			f, err := fs.Create(filepath.Join("ssd", diskFolder, name))
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		l = live(t, Options{}, DiskOptions{FS: fs, Bytes: testPiece, Logger: log.logger()})
		l.fill(&src, keys("b", 5)...)
		names, err := fs.List(filepath.Join("ssd", diskFolder))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range foreign {
			if !slices.Contains(names, name) {
				t.Errorf("%s is gone", name)
			}
		}
		if len(names) != len(foreign)+3 || log.count("not its own") != 1 { // lock, tag, a piece
			t.Errorf("%v, %v", names, log.n)
		}
	})
}

func TestOneCacheADirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		l := live(t, Options{}, DiskOptions{FS: fs})
		if _, err := OpenDisk(DiskOptions{FS: fs, Dir: "ssd"}); !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), "ssd") {
			t.Errorf("got %v, want %v", err, vfs.ErrLocked)
		}
		l.stop()
		live(t, Options{}, DiskOptions{FS: fs}).stop()
		d, err := OpenDisk(DiskOptions{FS: fs, Dir: "ssd"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{ChunkBytes: 1, Disk: d}); err == nil {
			t.Error("a chunk of 1 byte")
		}
		live(t, Options{}, DiskOptions{FS: fs}) // the lock was given back
	})
}

func TestDirectoryThatCannotBeUsedIsAnError(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpMkdirAll, vfs.OpLock, vfs.OpCreate, vfs.OpWrite} {
		mem := vfs.NewMem()
		fs := vfs.WithFaults(mem, func(op vfs.Op) error {
			if op.Kind == kind {
				return syscall.EROFS
			}
			return nil
		})
		if _, err := OpenDisk(DiskOptions{FS: fs, Dir: "ssd"}); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "disk cache in ssd") {
			t.Errorf("%v fails: got %v", kind, err)
		}
		d, err := OpenDisk(DiskOptions{FS: mem, Dir: "ssd"})
		if err != nil {
			t.Fatalf("%v: left locked: %v", kind, err)
		}
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := OpenDisk(DiskOptions{FS: vfs.NewMem()}); err == nil {
		t.Error("no directory, no error")
	}
}

func TestClustersDoNotMeetInADirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src := vfs.NewMem(), source{}
		for _, scope := range []string{"one", "two", "one", "two"} {
			l := live(t, Options{}, DiskOptions{FS: fs, Scope: scope})
			l.fill(&src, keys("a", 3)...)
			l.stop()
		}
		if src.n.Load() != 6 {
			t.Errorf("%d fetches, want 6", src.n.Load())
		}
	})
}

func TestInvalidatedObjectIsNotReadFromDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src, g := vfs.NewMem(), source{}, gate{}
		l := live(t, Options{}, DiskOptions{FS: g.over(fs)})
		fetches := func(want int64, list ...Key) {
			t.Helper()
			before := src.n.Load()
			l.fill(&src, list...)
			if got := src.n.Load() - before; got != want {
				t.Errorf("%d fetches, want %d", got, want)
			}
		}
		fetches(6, append(keys("a", 3), keys("bb", 3)...)...)
		l.Invalidate("a")
		fetches(3, append(keys("a", 3), keys("bb", 3)...)...)
		// While a piece of it is being written.
		for _, object := range []string{"ccc", "dddd"} {
			g.close(vfs.OpWrite)
			l.read(&src, Key{object, 0})
			synctest.Wait()
			l.Invalidate(object)
			g.open()
			synctest.Wait()
		}
		fetches(1, Key{"ccc", 0})
		// While the directory is being listed.
		l.stop()
		g.close(vfs.OpList)
		l = live(t, Options{}, DiskOptions{FS: g.over(fs)})
		fetches(0, keys("a", 3)[:2]...)
		l.Invalidate("a")
		fetches(2, keys("a", 3)[:2]...)
		g.open()
		synctest.Wait()
		fetches(1, keys("a", 3)[2])
		fetches(1, Key{"dddd", 0})
		fetches(0, keys("bb", 3)...)
		l.Invalidate("bb")
		synctest.Wait()
		l.stop()
		names, err := fs.List(filepath.Join("ssd", diskFolder))
		if err != nil {
			t.Fatal(err)
		}
		if s := l.disk.Stats(); int(s.Pieces) != len(names)-2 || s.UsedBytes != s.Pieces*testPiece {
			t.Errorf("%d files, %+v", len(names)-2, s)
		}
	})
}

// TestReadsAreTheSameWithAnyDisk is invariant 7 for a disk that fails, fills up, flips bits, and loses its power
// at any moment.
func TestReadsAreTheSameWithAnyDisk(t *testing.T) {
	for seed := range int64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { anyDisk(t, seed) })
		})
	}
}

func anyDisk(t *testing.T, seed int64) {
	rng := rand.New(rand.NewSource(seed))
	mem := vfs.NewMem()
	var src source
	for n := range int64(6) {
		var fs vfs.FS = mem
		if rng.Intn(2) == 0 {
			fails := vfs.Randomly(seed*10+n, 0.1, syscall.EIO, vfs.OpCreate, vfs.OpOpenReadWrite, vfs.OpRemove,
				vfs.OpRename, vfs.OpWrite, vfs.OpTruncate, vfs.OpOpen, vfs.OpRead, vfs.OpList, vfs.OpStat)
			fs = vfs.WithFaults(mem, func(op vfs.Op) error {
				if strings.Contains(op.Path, tagFile) {
					return nil // else it would not start
				}
				return fails(op)
			})
		}
		d := DiskOptions{FS: fs, Dir: "ssd", Bytes: (2 + rng.Int63n(8)) * testPiece}
		l := live(t, Options{MemoryBytes: (1 + rng.Int63n(3)) * testChunk}, d)
		for range 60 {
			useDisk(t, rng, l, &src, mem)
		}
		l.stop()
		mem.SetCapacity(0)
		if rng.Intn(2) == 0 {
			mem = mem.Crash(rng, rng.Intn(3)*50)
		}
	}
}

// useDisk is one random step.
func useDisk(t *testing.T, rng *rand.Rand, l *life, src *source, mem *vfs.Mem) {
	switch rng.Intn(16) {
	case 0:
		l.Invalidate("a")
	case 1:
		mem.SetCapacity(mem.Used() + rng.Int63n(2*testPiece))
	case 2:
		mem.SetCapacity(0)
	case 3:
		time.Sleep(time.Duration(rng.Int63n(int64(outageMax))))
	case 4, 5:
		damage(t, rng, mem)
	case 6, 7:
		synctest.Wait()
	default:
		l.read(src, Key{[]string{"a", "bb"}[rng.Intn(2)], rng.Int63n(8)})
	}
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	if l.disk.stats.Written > 0 && l.disk.used > l.disk.max {
		t.Errorf("%d bytes used of %d", l.disk.used, l.disk.max)
	}
}

// damage hurts a file, or gives it another's name.
func damage(t *testing.T, rng *rand.Rand, mem *vfs.Mem) {
	synctest.Wait() // so that the writer has no file open
	mem.SetCapacity(0)
	folder := filepath.Join("ssd", diskFolder)
	names, err := mem.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, pieceSuffix) })
	if len(names) == 0 {
		return
	}
	name := filepath.Join(folder, names[rng.Intn(len(names))])
	info, err := mem.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	switch rng.Intn(3) {
	case 0:
		if info.Size > 0 {
			flip(t, mem, name, rng.Int63n(info.Size))
		}
	case 1:
		truncate(t, mem, name, rng.Int63n(2*testPiece))
	default:
		if err := mem.Rename(name, filepath.Join(folder, names[rng.Intn(len(names))])); err != nil {
			t.Fatal(err)
		}
	}
}

// The writer, loads, invalidations and evictions at once, for the race detector.
func TestHammerDisk(t *testing.T) {
	fs := vfs.WithFaults(vfs.NewMem(), vfs.Randomly(1, 0.0002, syscall.EIO, vfs.OpRead, vfs.OpWrite))
	l := live(t, Options{MemoryBytes: 4 * testChunk}, DiskOptions{FS: fs, Bytes: 12 * testPiece})
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	var src source
	var wg sync.WaitGroup
	for w := range int64(6) {
		wg.Go(func() {
			rng := rand.New(rand.NewSource(w))
			for range rounds {
				if rng.Intn(50) == 0 {
					l.Invalidate("a")
				}
				l.read(&src, Key{[]string{"a", "bb", "ccc"}[rng.Intn(3)], rng.Int63n(8)})
			}
		})
	}
	wg.Wait()
	l.stop()
	if s := l.disk.Stats(); s.Hits == 0 || s.Written == 0 || s.Bad != 0 || s.UsedBytes > 12*testPiece || s.UsedBytes != s.Pieces*testPiece {
		t.Errorf("%+v", s)
	}
}

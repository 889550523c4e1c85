package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

const testPiece = pieceHeader + testChunk // a file of a piece of testChunk bytes

// life is a cache with a disk, from start to stop. Its tests run in bubbles, where synctest.Wait waits until the
// writer has nothing to do.
type life struct {
	*Cache
	t    testing.TB
	stop func()
}

func live(t testing.TB, o Options, d DiskOptions) *life {
	t.Helper()
	if d.Dir == "" {
		d.Dir = "ssd"
	}
	var err error
	if o.Disk, err = OpenDisk(d); err != nil {
		t.Fatal(err)
	}
	if o.ChunkBytes == 0 {
		o.ChunkBytes = testChunk
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = testChunk
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	l := &life{Cache: c, t: t}
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s := c.Stats(); s.UsedBytes != 0 || s.PinnedBytes != 0 || s.Entries != 0 {
			t.Errorf("left after the end: %+v", s)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// read reads one piece of testChunk bytes and checks it.
func (l *life) read(src *source, key Key) {
	l.t.Helper()
	p := mustGet(l.t, l.Cache, key, testChunk, src.fetch(key))
	if want := piece8(key); !bytes.Equal(p.Bytes(), want) {
		l.t.Errorf("piece %v has other bytes", key)
	}
	p.Release()
}

// fill reads pieces, and has each written before the next.
func (l *life) fill(src *source, keys ...Key) {
	l.t.Helper()
	for _, k := range keys {
		l.read(src, k)
		synctest.Wait()
	}
}

func piece8(key Key) []byte {
	b := make([]byte, testChunk)
	fill(key, b)
	return b
}

func keys(object string, n int) (list []Key) {
	for i := range n {
		list = append(list, Key{object, int64(i)})
	}
	return list
}

func pieceFile(k Key) string {
	return filepath.Join("ssd", diskFolder, idOf("/"+k.Object, k.Chunk).file())
}

// logged counts the records of each message.
type logged struct {
	mu sync.Mutex
	n  map[string]int
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logged) Write(p []byte) (int, error) {
	_, msg, _ := strings.Cut(string(p), `msg="`)
	msg, _, _ = strings.Cut(msg, `"`)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == nil {
		l.n = map[string]int{}
	}
	l.n[msg]++
	return len(p), nil
}

func (l *logged) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for msg, k := range l.n {
		if strings.Contains(msg, part) {
			n += k
		}
	}
	return n
}

func TestDiskKeepsPiecesOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src := vfs.NewMem(), source{}
		l := live(t, Options{}, DiskOptions{FS: fs})
		l.fill(&src, keys("a", 10)...)
		l.stop()
		if src.n.Load() != 10 {
			t.Fatalf("%d fetches", src.n.Load())
		}
		// Not even while the directory is still being listed is the store asked.
		list := make(chan struct{})
		slow := vfs.WithFaults(fs, func(op vfs.Op) error {
			if op.Kind == vfs.OpList {
				<-list
			}
			return nil
		})
		l = live(t, Options{}, DiskOptions{FS: slow})
		for i, k := range keys("a", 10) {
			if i == 5 {
				close(list)
				synctest.Wait()
			}
			l.read(&src, k)
		}
		if src.n.Load() != 10 {
			t.Errorf("%d fetches after the restart", src.n.Load()-10)
		}
		if s := l.disk.Stats(); s.Hits != 10 || s.Misses != 0 || s.Pieces != 10 || s.UsedBytes != 10*testPiece || s.ReadBytes != 10*testChunk || l.Stats().Fetched != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDamagedPiecesComeFromTheStore(t *testing.T) {
	key, other := Key{"a", 1}, Key{"a", 2}
	damage := map[string]func(t *testing.T, fs *vfs.Mem){
		"another key's file": func(t *testing.T, fs *vfs.Mem) {
			if err := fs.Rename(pieceFile(other), pieceFile(key)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for _, size := range []int64{0, 1, pieceHeader - 1, pieceHeader, testPiece - 1, testPiece + 1} {
		damage[fmt.Sprintf("%d bytes long", size)] = func(t *testing.T, fs *vfs.Mem) { truncate(t, fs, pieceFile(key), size) }
	}
	for _, at := range []int64{0, 9, 10, 12, 16, 23, 24, 31, 32, 39, 40, 42, 100, pieceHeader - 1, pieceHeader, testPiece - 1} {
		damage[fmt.Sprintf("a bit of byte %d", at)] = func(t *testing.T, fs *vfs.Mem) { flip(t, fs, pieceFile(key), at) }
	}
	for name, hurt := range damage {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs, src := vfs.NewMem(), source{}
				l := live(t, Options{}, DiskOptions{FS: fs})
				l.fill(&src, key, other)
				hurt(t, fs)
				p := mustGet(t, l.Cache, key, testChunk, func(ctx context.Context, dst []byte) (int, error) {
					if _, err := fs.Stat(pieceFile(key)); !errors.Is(err, iofs.ErrNotExist) {
						t.Errorf("the file is still there, %v", err)
					}
					return src.fetch(key)(ctx, dst)
				})
				check(t, key, p.Bytes())
				p.Release()
				if s := l.disk.Stats(); s.Bad != 1 || s.Misses != 3 || s.Errors != 0 || src.n.Load() != 3 {
					t.Errorf("%d fetches, %+v", src.n.Load(), s)
				}
				synctest.Wait() // written anew
				l.fill(&src, Key{"b", 1}, key)
				if src.n.Load() != 4 {
					t.Errorf("%d fetches", src.n.Load())
				}
			})
		})
	}
}

func truncate(t *testing.T, fs vfs.FS, name string, size int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, rerr := f.ReadAt(b[:], at)
	b[0] ^= 1 << (at % 8)
	_, werr := f.WriteAt(b[:], at)
	if err := errors.Join(rerr, werr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestPieceOfAnotherSizeIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src, key := vfs.NewMem(), source{}, Key{"a", 0}
		l := live(t, Options{}, DiskOptions{FS: fs})
		l.fill(&src, key)
		l.stop()
		l = live(t, Options{ChunkBytes: 2 * testChunk, MemoryBytes: 2 * testChunk}, DiskOptions{FS: fs})
		for range 2 {
			p := mustGet(t, l.Cache, key, testChunk+5, src.fetch(key))
			check(t, key, p.Bytes())
			p.Release()
			synctest.Wait()
			l.fill(&src, Key{"b", 1}) // out of memory with it
		}
		if s := l.disk.Stats(); s.Bad != 0 || s.Pieces != 2 || src.n.Load() != 3 {
			t.Errorf("%d fetches, %+v", src.n.Load(), s)
		}
	})
}

func TestDiskStaysWithinItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src := vfs.NewMem(), source{}
		inUse := func() (n int64) {
			names, err := fs.List(filepath.Join("ssd", diskFolder))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				info, err := fs.Stat(filepath.Join("ssd", diskFolder, name))
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(name, pieceSuffix) {
					n += info.Size
				}
			}
			return n
		}
		has := func(l *life, k Key) bool {
			before := src.n.Load()
			l.read(&src, k)
			return src.n.Load() == before
		}
		l := live(t, Options{}, DiskOptions{FS: fs, Bytes: 4*testPiece + pageBytes})
		for _, k := range keys("a", 9) {
			time.Sleep(time.Second)
			l.fill(&src, k)
			if got := inUse(); got > 4*testPiece {
				t.Fatalf("%d bytes on the disk, want at most %d", got, 4*testPiece)
			}
		}
		if s := l.disk.Stats(); s.Evicted != 5 || s.UsedBytes != inUse() || s.Pieces != 4 {
			t.Errorf("%+v", s)
		}
		// 5 to 8 are there. 5 is used, later than its file was written by more than what counts.
		time.Sleep(2 * touchAfter)
		if !has(l, Key{"a", 5}) {
			t.Error("5 is gone")
		}
		synctest.Wait()
		l.stop()
		l = live(t, Options{}, DiskOptions{FS: fs, Bytes: 2*testPiece + 10})
		synctest.Wait()
		if got := inUse(); got != 2*testPiece {
			t.Errorf("%d bytes after a start with a smaller bound", got)
		}
		if !has(l, Key{"a", 5}) || !has(l, Key{"a", 8}) || has(l, Key{"a", 7}) {
			t.Error("others than the two most recently used were kept")
		}
	})
}

func TestLeastRecentlyUsedFileGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := source{}
		l := live(t, Options{}, DiskOptions{FS: vfs.NewMem(), Bytes: 3 * testPiece})
		l.fill(&src, Key{"a", 0}, Key{"a", 1}, Key{"a", 2}, Key{"a", 0}, Key{"a", 3}) // 3 displaces 1
		l.fill(&src, Key{"a", 2}, Key{"a", 0})
		if src.n.Load() != 4 {
			t.Errorf("%d fetches, want 4", src.n.Load())
		}
		l.fill(&src, Key{"a", 1})
		if s := l.disk.Stats(); src.n.Load() != 5 || s.Evicted != 2 {
			t.Errorf("%d fetches, want 5; %+v", src.n.Load(), s)
		}
	})
}

func TestPieceLargerThanTheDiskIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src := vfs.NewMem(), source{}
		l := live(t, Options{MemoryBytes: 4 * testChunk}, DiskOptions{FS: fs, Bytes: testPiece})
		l.fill(&src, Key{"a", 1})
		large := Key{"b", 1}
		mustGet(t, l.Cache, large, 2*testChunk, src.fetch(large)).Release() // more than the writer's buffer
		l.fill(&src, Key{strings.Repeat("n", maxPieceName), 1})             // more than fits a header
		if s := l.disk.Stats(); s.Dropped != 2 || s.Written != 1 || s.Errors != 0 {
			t.Errorf("%+v", s)
		}
	})
}

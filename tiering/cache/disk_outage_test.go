package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// gate holds operations while it is closed.
type gate struct {
	kinds []vfs.OpKind
	mu    sync.Mutex
	shut  chan struct{}
}

func (g *gate) over(fs vfs.FS) vfs.FS {
	return vfs.WithFaults(fs, func(op vfs.Op) error {
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut != nil && slices.Contains(g.kinds, op.Kind) {
			<-shut
		}
		return nil
	})
}

func (g *gate) close(kinds ...vfs.OpKind) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kinds, g.shut = kinds, make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut = nil
}

func TestDiskThatHangsHoldsNoMemoryOfReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, g := source{}, gate{}
		l := live(t, Options{MemoryBytes: testChunk}, DiskOptions{FS: g.over(vfs.NewMem())})
		g.close(vfs.OpWrite)
		for _, k := range keys("a", 200) {
			l.fill(&src, k) // its memory is all there is
		}
		if s := l.disk.Stats(); s.Dropped < 100 || s.Written != 0 {
			t.Errorf("%+v", s)
		}
		g.open()
		synctest.Wait()
		if s := l.disk.Stats(); s.Written != 2 { // the one that hung, and the one that is still in memory
			t.Errorf("%+v", s)
		}
	})
}

func TestReadThatHangsIsTheOnlyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, g := source{}, gate{}
		l := live(t, Options{MemoryBytes: 2 * testChunk}, DiskOptions{FS: g.over(vfs.NewMem())})
		l.fill(&src, keys("a", 8)...)
		g.close(vfs.OpRead)
		stuck := make(chan struct{})
		go func() {
			defer close(stuck)
			l.read(&src, Key{"a", 0})
		}()
		time.Sleep(stuckAfter)
		synctest.Wait()
		for _, k := range keys("a", 8)[1:5] {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			p, err := l.Get(ctx, Reader{}, k, testChunk, src.fetch(k))
			cancel()
			if err != nil {
				t.Fatalf("%v: %v", k, err)
			}
			p.Release()
		}
		g.open()
		<-stuck
		time.Sleep(time.Minute)
		before := src.n.Load()
		l.fill(&src, keys("a", 8)...)
		if s := l.disk.Stats(); s.Out || src.n.Load() != before {
			t.Errorf("%d fetches, %+v", src.n.Load()-before, s)
		}
	})
}

func TestFullDiskFailsNoReadAndGivesSpaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, src, log := vfs.NewMem(), source{}, &logged{}
		l := live(t, Options{}, DiskOptions{FS: fs, Logger: log.logger()})
		l.fill(&src, keys("a", 16)...)
		fs.SetCapacity(fs.Used() + pageBytes)
		for round := range 5 {
			for _, k := range keys(fmt.Sprint(round), 10) {
				l.fill(&src, k)
			}
		}
		s := l.disk.Stats()
		if s.Errors != 1 || s.Evicted < 2 || s.Evicted > 4 || !s.Out || log.count("out of order") != 1 {
			t.Errorf("%+v, %v", s, log.n)
		}
		l.fill(&src, Key{"a", 15})
		if got := l.disk.Stats(); got.Hits != 1 {
			t.Error("what is there is not read while the disk is full")
		}
		time.Sleep(2 * outageMin)
		l.fill(&src, Key{"b", 1})
		if s := l.disk.Stats(); s.Out || s.Errors != 1 || log.count("works again") != 1 {
			t.Errorf("%+v, %v", s, log.n)
		}
	})
}

func TestBrokenDiskIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, src, log := vfs.NewMem(), source{}, &logged{}
		var mu sync.Mutex
		var broken error
		var calls int
		fs := vfs.WithFaults(mem, func(vfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			calls++
			return broken
		})
		set := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			broken, calls = err, 0
		}
		l := live(t, Options{}, DiskOptions{FS: fs, Logger: log.logger()})
		l.fill(&src, keys("a", 3)...)
		set(syscall.EIO)
		for i := range 20 {
			l.fill(&src, append(keys("a", 3), keys(fmt.Sprint(i), 3)...)...)
		}
		mu.Lock()
		if calls > 10 {
			t.Errorf("%d operations on a disk that is broken", calls)
		}
		mu.Unlock()
		if s := l.disk.Stats(); !s.Out || log.count("out of order") != 2 { // once for reading, once for writing
			t.Errorf("%+v, %v", s, log.n)
		}
		time.Sleep(outageMax) // and again, for longer each time
		l.fill(&src, keys("a", 3)...)
		set(nil)
		time.Sleep(outageMax)
		l.fill(&src, append(keys("a", 3), keys("b", 3)...)...)
		before := src.n.Load()
		l.fill(&src, keys("b", 3)...)
		if s := l.disk.Stats(); s.Out || src.n.Load() != before || log.count("out of order") != 2 || log.count("works again") != 2 {
			t.Errorf("%+v, %v", s, log.n)
		}
	})
}

func TestListingThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, src := vfs.NewMem(), source{}
		l := live(t, Options{}, DiskOptions{FS: mem})
		l.fill(&src, keys("a", 3)...)
		l.stop()
		failed := 0
		fs := vfs.WithFaults(mem, func(op vfs.Op) error {
			if op.Kind == vfs.OpList && failed < 3 {
				failed++
				return syscall.EIO
			}
			return nil
		})
		l = live(t, Options{}, DiskOptions{FS: fs, Bytes: testPiece})
		time.Sleep(time.Minute)
		l.fill(&src, Key{"b", 1})
		if s := l.disk.Stats(); s.Pieces != 1 || s.Errors != 3 || s.Out {
			t.Errorf("%+v", s)
		}
	})
}

func TestReadsThatHangLeaveMemoryForReadsOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunks = 16
		src, g := source{}, gate{}
		l := live(t, Options{MemoryBytes: chunks * testChunk}, DiskOptions{FS: g.over(vfs.NewMem())})
		l.fill(&src, keys("a", 3*chunks)...)
		g.close(vfs.OpRead)
		var wg sync.WaitGroup
		for _, k := range keys("a", chunks) { // on the disk, and no longer in memory
			wg.Go(func() { l.read(&src, k) })
		}
		synctest.Wait()
		if s := l.Stats(); s.Running > chunks/loadShare {
			t.Errorf("%d of %d chunks wait for a disk that hangs", s.Running, chunks)
		}
		for range 20 { // whatever is tried again meanwhile
			time.Sleep(outageMax + time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			for _, k := range keys("a", 3*chunks)[chunks : 2*chunks] {
				p, err := l.Get(ctx, Reader{}, k, testChunk, src.fetch(k))
				if err != nil {
					t.Fatalf("%v: %v", k, err)
				}
				p.Release()
			}
			cancel()
		}
		g.open()
		wg.Wait()
	})
}

func TestFewDescriptorsCostNoPiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, src := vfs.NewMem(), source{}
		var few atomic.Bool
		l := live(t, Options{}, DiskOptions{FS: vfs.WithFaults(mem, func(op vfs.Op) error {
			if few.Load() && (op.Kind == vfs.OpOpen || op.Kind == vfs.OpCreate) {
				return syscall.EMFILE
			}
			return nil
		})})
		l.fill(&src, keys("a", 3)...)
		few.Store(true)
		l.fill(&src, keys("a", 3)...)
		few.Store(false)
		time.Sleep(outageMax)
		before := src.n.Load()
		l.fill(&src, keys("a", 3)...)
		if n := src.n.Load() - before; n != 0 {
			t.Errorf("%d pieces are gone", n)
		}
	})
}

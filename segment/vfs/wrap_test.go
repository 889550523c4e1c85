package vfs

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFaultsReplaceOperations(t *testing.T) {
	m := NewMem()
	bad := errors.New("bad disk")
	var calls []string
	f := WithFaults(m, func(op Op) error {
		calls = append(calls, fmt.Sprintf("%d %v", op.N, op))
		switch {
		case op.Kind == OpWrite && op.Off == 100:
			return &TornWrite{Bytes: 2, Err: bad}
		case op.Kind == OpSync, op.Kind == OpRead && op.Off == 7:
			return bad
		}
		return nil
	})
	h := must(f.Create("/a"))(t)
	write(t, h, "hello", 0)
	if n, err := h.WriteAt([]byte("torn"), 100); n != 2 || !errors.Is(err, bad) {
		t.Errorf("torn write = %d, %v", n, err)
	}
	if err := h.Sync(); err != bad {
		t.Errorf("Sync = %v", err)
	}
	if _, err := h.ReadAt(make([]byte, 1), 7); err != bad {
		t.Errorf("ReadAt = %v", err)
	}
	noError(t, h.Truncate(200))
	noError(t, h.Preallocate(200, 10))
	if _, err := f.Open("/missing"); err == nil {
		t.Error("Open of a missing file: want an error")
	}
	closeFile(t, h)
	want := []string{
		"1 create /a", "2 write /a 0+5", "3 write /a 100+4", "4 sync /a", "0 read /a 7+1",
		"5 truncate /a to 200", "6 preallocate /a 200+10", "0 open /missing",
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
	if got := m.Ops(); got != 5 {
		// The failed sync never reached the disk.
		t.Errorf("Ops = %d, want 5", got)
	}
	if asOS(h) != nil {
		t.Error("sendfile would bypass the faults")
	}
}

func TestRandomFaultsDependOnThePathOnly(t *testing.T) {
	outcome := func(order []string) map[string]string {
		got := map[string]string{}
		hook := Randomly(42, 0.3, syscall.EIO)
		for _, path := range order {
			if hook(Op{Kind: OpRead, Path: path}) != nil {
				t.Error("a read failed: want writes only")
			}
			got[path] += fmt.Sprint(hook(Op{Kind: OpWrite, Path: path}) != nil, " ")
		}
		return got
	}
	var mixed, apart []string
	for range 50 {
		mixed = append(mixed, "a", "b")
	}
	for _, p := range []string{"b", "a"} {
		for range 50 {
			apart = append(apart, p)
		}
	}
	if diff := cmp.Diff(outcome(mixed), outcome(apart)); diff != "" {
		t.Error(diff)
	}
	if outcome(mixed)["a"] == outcome(mixed)["b"] {
		t.Error("two paths fail alike")
	}
}

func TestWatchReportsWhileStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		slow := WithFaults(NewMem(), func(op Op) error {
			if op.Kind == OpSync {
				<-stuck
			}
			return nil
		})
		var mu sync.Mutex
		var reports []string
		f := WithWatch(slow, time.Second, func(op Op, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, fmt.Sprintf("%v %v %v", op, took, op.Done))
		})
		h := must(f.Create("/a"))(t)
		for range 100 {
			write(t, h, "quick", 0)
		}
		done := make(chan error)
		go func() { done <- h.Sync() }()
		time.Sleep(4500 * time.Millisecond)
		synctest.Wait()
		mu.Lock()
		if diff := cmp.Diff([]string{"sync /a 1s false", "sync /a 2s false", "sync /a 4s false"}, reports); diff != "" {
			t.Errorf("while stuck: %s", diff)
		}
		mu.Unlock()
		close(stuck)
		noError(t, <-done)
		time.Sleep(time.Hour)
		if diff := cmp.Diff([]string{"sync /a 4.5s true"}, reports[3:]); diff != "" {
			t.Errorf("when done: %s", diff)
		}
	})
}

func TestLockOfMem(t *testing.T) {
	m := NewMem()
	must(m.Lock("/l"))(t)
	after := crash(m, 1, 100)
	l := must(after.Lock("/l"))(t)
	closeFile(t, l)
	if err := l.Close(); err == nil {
		t.Error("second Close: want an error")
	}
	if _, err := m.Lock("/l"); !errors.Is(err, ErrLocked) {
		t.Errorf("Lock = %v, want ErrLocked", err)
	}
}

// TestConcurrentUse lets the race detector look at one file in many hands.
func TestConcurrentUse(t *testing.T) {
	m := NewMem()
	f := WithWatch(m, time.Hour, func(Op, time.Duration) {})
	h := must(f.Create("/a"))(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			buf := make([]byte, 3000)
			for j := range 200 {
				if _, err := h.WriteAt(buf, int64((i*200+j)*3000)); err != nil {
					t.Error(err)
				}
				if _, err := h.ReadAt(buf, int64(j)); err != nil && err != io.EOF {
					t.Error(err)
				}
				if j%50 == 0 {
					if err := errors.Join(h.Sync(), f.SyncDir("/")); err != nil {
						t.Error(err)
					}
					crash(m, int64(j), 50)
				}
			}
		})
	}
	wg.Wait()
	if got := must(h.Size())(t); got != 4*200*3000 {
		t.Errorf("Size = %d", got)
	}
}

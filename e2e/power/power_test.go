package power

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// pair is a connection of which the accepting end hangs on the line.
func pair(t *testing.T, l *Line) (near, far net.Conn) {
	t.Helper()
	network := wire.NewMemoryNetwork()
	ln, err := l.Listen(func(_ context.Context, addr string) (net.Listener, error) { return network.Listen(addr) })(t.Context(), "broker:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	if near, err = network.Dial(t.Context(), "tcp", "broker:1"); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// each is one operation on each seam.
func (l *Line) each(ctx context.Context, c net.Conn) map[string]func() error {
	return map[string]func() error{
		"kv":      func() error { return l.KV(ctx, kv.Call{}) },
		"objects": func() error { return l.Objects(ctx, object.Op{}) },
		"disk":    func() error { return l.Disk(vfs.Op{}) },
		"network": func() error { _, err := c.Write([]byte("x")); return err },
	}
}

func TestWithoutPowerNothingLeavesABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Line{}
		_, far := pair(t, l)
		for name, op := range l.each(t.Context(), far) {
			if err := op(); err != nil {
				t.Errorf("%s with power: %v", name, err)
			}
		}
		l.Pause() // what is held must end too
		ended := make(chan error)
		for _, op := range l.each(t.Context(), far) {
			go func() { ended <- op() }()
		}
		synctest.Wait()
		l.Cut()
		for range 4 {
			if err := <-ended; !errors.Is(err, errCut) {
				t.Errorf("held when the power went: %v, want %v", err, errCut)
			}
		}
		for name, op := range l.each(t.Context(), far) {
			if err := op(); !errors.Is(err, errCut) {
				t.Errorf("%s without power: %v, want %v", name, err, errCut)
			}
		}
	})
}

func TestPausedBrokerNeitherHearsNorAnswersUntilItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Line{}
		near, far := pair(t, l)
		const pause = 5 * time.Second
		start := time.Now()
		l.Pause()
		time.AfterFunc(pause, l.Resume)
		done := make(chan time.Duration)
		ops := l.each(t.Context(), far)
		for name, op := range ops {
			go func() {
				if err := op(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				done <- time.Since(start)
			}()
		}
		go func() {
			if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			done <- time.Since(start)
		}()
		if _, err := near.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		for range len(ops) + 1 {
			if took := <-done; took < pause {
				t.Errorf("an operation went through after %v of a pause of %v", took, pause)
			}
		}
	})
}

func TestConnectionClosedWhilePausedDoesNotHoldItsUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Line{}
		_, far := pair(t, l)
		l.Pause()
		ended := make(chan error)
		go func() { _, err := far.Write([]byte("x")); ended <- err }()
		synctest.Wait()
		_ = far.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("write on a closed connection: %v, want %v", err, net.ErrClosed)
		}
	})
}

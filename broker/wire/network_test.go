package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// network is the fourth seam as the tests use it.
type network struct {
	listen func() (net.Listener, error)
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
}

func loopback() network {
	var d net.Dialer
	return network{func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }, d.DialContext}
}

func inMemory() network {
	n := NewMemoryNetwork()
	return network{func() (net.Listener, error) { return n.Listen("server:0") }, n.Dial}
}

// overNetworks runs fn on loopback TCP, and in memory inside a bubble.
func overNetworks(t *testing.T, fn func(t *testing.T, n network)) {
	t.Run("tcp", func(t *testing.T) { fn(t, loopback()) })
	t.Run("memory", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { fn(t, inMemory()) }) })
}

// pair returns both ends of a connection, closed when the test ends.
func pair(t *testing.T, n network) (near, far net.Conn) {
	t.Helper()
	l, err := n.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = n.dial(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestNetworkKeepsBytesInOrder(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		near, far := pair(t, n)
		sent := make([]byte, 3<<20)
		rng := rand.NewChaCha8([32]byte{1})
		_, _ = rng.Read(sent) // never fails
		done := make(chan error, 1)
		go func() {
			_, err := near.Write(sent)
			done <- errors.Join(err, near.Close())
		}()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("read %d bytes, %v; want the %d that were sent", len(got), err, len(sent))
		}
		if err := <-done; err != nil {
			t.Errorf("write: %v", err)
		}
	})
}

func TestNetworkDeadlines(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		near, far := pair(t, n)
		check := func(what string, err error) {
			t.Helper()
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%s: got %v, want a timeout", what, err)
			}
		}
		must(t, near.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err := near.Read(make([]byte, 1))
		check("read", err)
		must(t, near.SetReadDeadline(aLongTimeAgo))
		_, err = near.Read(make([]byte, 1))
		check("read after a deadline in the past", err)
		must(t, near.SetReadDeadline(time.Time{}))
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
			t.Errorf("read without a deadline again: %v", err)
		}
		must(t, near.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		_, err = near.Write(make([]byte, 16<<20)) // more than any buffer takes
		check("write", err)
		result := make(chan error, 1)
		go func() {
			_, err := far.Read(nil)
			for err == nil {
				_, err = far.Read(make([]byte, 1<<20))
			}
			result <- err
		}()
		must(t, far.SetReadDeadline(time.Now().Add(time.Millisecond)))
		check("read that was waiting", <-result)
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNetworkCloseWakesBothEnds(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		near, far := pair(t, n)
		nearErr, farErr := make(chan error, 1), make(chan error, 1)
		read := func(c net.Conn, to chan error) {
			_, err := c.Read(make([]byte, 1))
			to <- err
		}
		go read(near, nearErr)
		go read(far, farErr)
		must(t, near.Close())
		if err := <-nearErr; !errors.Is(err, net.ErrClosed) {
			t.Errorf("own read: got %v, want %v", err, net.ErrClosed)
		}
		if err := <-farErr; err != io.EOF {
			t.Errorf("peer's read: got %v, want %v", err, io.EOF)
		}
		if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("own write: got %v, want %v", err, net.ErrClosed)
		}
		for err := error(nil); err == nil; { // TCP notices with the first answer
			_, err = far.Write(make([]byte, 1<<10))
		}
	})
}

func TestNetworkListenerEnds(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		l, err := n.listen()
		must(t, err)
		accepted := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			accepted <- err
		}()
		must(t, l.Close())
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: got %v, want %v", err, net.ErrClosed)
		}
		if c, err := n.dial(t.Context(), "tcp", l.Addr().String()); err == nil {
			t.Error("dial after close: got a connection")
			c.Close()
		}
	})
}

func TestMemoryLinkFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemoryNetwork()
		host := m.Host("a")
		near, far := pair(t, network{func() (net.Listener, error) { return m.Listen("b:9092") }, host.Dial})
		read := make(chan time.Duration, 1)
		began := time.Now()
		start := func() {
			go func() {
				if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
					t.Errorf("read: %v", err)
				}
				read <- time.Since(began)
			}()
		}
		m.SetFault("a", "b", Fault{Delay: time.Second})
		start()
		_, err := near.Write([]byte("x"))
		must(t, err)
		if got := <-read; got != time.Second {
			t.Errorf("delayed byte arrived after %v, want 1s", got)
		}
		m.SetFault("a", "b", Fault{Cut: true})
		start()
		_, err = near.Write([]byte("y"))
		must(t, err)
		_, err = far.Write([]byte("z")) // the other direction works: half-open
		must(t, err)
		_, err = io.ReadFull(near, make([]byte, 1))
		must(t, err)
		time.Sleep(time.Minute)
		m.SetFault("a", "b", Fault{})
		if got := <-read; got != time.Second+time.Minute {
			t.Errorf("byte over the cut link arrived after %v, want when it was healed", got)
		}
		m.SetFault("b", "a", Fault{Cut: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := host.Dial(ctx, "tcp", "b:9092"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial over a cut link: got %v, want %v", err, context.DeadlineExceeded)
		}
		m.Reset("a", "b")
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, errReset) {
			t.Errorf("read after a reset: got %v, want %v", err, errReset)
		}
	})
}

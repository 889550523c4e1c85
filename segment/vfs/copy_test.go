package vfs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func newOSFile(tb testing.TB, fs FS, size int) (File, []byte) {
	tb.Helper()
	data := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(data)
	f, err := fs.Create(filepath.Join(tb.TempDir(), "a"))
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	})
	return f, data
}

// tcpPair returns both ends of a connection.
func tcpPair(tb testing.TB) (client, server *net.TCPConn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = c.Close(), s.Close() }) // tests may have closed them
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestCopyToConnection(t *testing.T) {
	for name, fs := range map[string]FS{
		"sendfile": NewOS(),
		"watched":  WithWatch(NewOS(), time.Minute, func(Op, time.Duration) {}),
		"buffered": WithFaults(NewOS(), func(Op) error { return nil }),
	} {
		t.Run(name, func(t *testing.T) {
			// Larger than any socket buffer, so that the sender has to wait.
			f, data := newOSFile(t, fs, 12<<20)
			client, server := tcpPair(t)
			type result struct {
				n   int64
				err error
			}
			sent := make(chan result, 1)
			go func() {
				n, err := CopyTo(server, f, 1000, int64(len(data)-1000))
				sent <- result{n, errors.Join(err, server.Close())}
			}()
			h := sha256.New()
			n, err := io.Copy(h, client)
			noError(t, err)
			if r := <-sent; r.err != nil || r.n != n || n != int64(len(data)-1000) {
				t.Fatalf("sent %+v, received %d", r, n)
			}
			if want := sha256.Sum256(data[1000:]); !bytes.Equal(h.Sum(nil), want[:]) {
				t.Error("received other bytes than sent")
			}
		})
	}
}

func TestCopyToConnectionAtTheEndOfTheFile(t *testing.T) {
	f, _ := newOSFile(t, NewOS(), 1000)
	_, server := tcpPair(t)
	if n, err := CopyTo(server, f, 900, 200); n != 100 || err != io.ErrUnexpectedEOF {
		t.Errorf("CopyTo = %d, %v; want 100, ErrUnexpectedEOF", n, err)
	}
}

func TestCopyToStopsWithTheConnection(t *testing.T) {
	f, data := newOSFile(t, NewOS(), 20<<20)
	client, server := tcpPair(t)
	noError(t, server.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := CopyTo(server, f, 0, int64(len(data))); err == nil || n >= int64(len(data)) {
		t.Errorf("CopyTo with a deadline and no reader = %d, %v", n, err)
	}
	noError(t, server.SetWriteDeadline(time.Time{}))
	noError(t, client.SetLinger(0))
	done := make(chan error, 1)
	go func() {
		_, err := CopyTo(server, f, 0, int64(len(data)))
		done <- err
	}()
	closeFile(t, client)
	if err := <-done; err == nil {
		t.Error("CopyTo a closed connection: want an error")
	}
}

// TestCopyToFromOneFileInParallel checks that transfers do not share a position.
func TestCopyToFromOneFileInParallel(t *testing.T) {
	f, data := newOSFile(t, NewOS(), 1<<20)
	var wg sync.WaitGroup
	for i := range 4 {
		client, server := tcpPair(t)
		off := i * 1000
		wg.Go(func() {
			if _, err := CopyTo(server, f, int64(off), int64(len(data)-off)); err != nil {
				t.Error(err)
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			got, err := io.ReadAll(client)
			if err != nil || !bytes.Equal(got, data[off:]) {
				t.Errorf("transfer %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkCopyTo(b *testing.B) {
	const size = 1 << 20
	for name, fs := range map[string]FS{
		"sendfile": NewOS(),
		"buffered": WithFaults(NewOS(), func(Op) error { return nil }),
	} {
		b.Run(name, func(b *testing.B) {
			f, _ := newOSFile(b, fs, size)
			client, server := tcpPair(b)
			go func() { _, _ = io.Copy(io.Discard, client) }() // ends with the connection
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := CopyTo(server, f, 0, size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemAppend is a log's life: small appends, a sync for each few.
func BenchmarkMemAppend(b *testing.B) {
	buf := make([]byte, 1000)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	f, err := NewMem().Create("/a")
	if err != nil {
		b.Fatal(err)
	}
	var off int64
	for b.Loop() {
		if _, err := f.WriteAt(buf, off%(64<<20)); err != nil {
			b.Fatal(err)
		}
		off += int64(len(buf))
		if off%4000 == 0 {
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

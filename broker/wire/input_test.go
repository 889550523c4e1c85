package wire

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"testing"
	"testing/iotest"
)

func TestBufferClassesHoldWhatIsAskedFor(t *testing.T) {
	last := 0
	for n := 1; n < 3<<maxClassBits; n += 1 + n/97 {
		class, size := bufferClass(n)
		if size < n {
			t.Fatalf("class of %d bytes has %d", n, size)
		}
		if n > 1<<maxClassBits {
			if class != -1 {
				t.Fatalf("%d bytes are in class %d", n, class)
			}
			continue
		}
		if class < last || class >= bufClasses {
			t.Fatalf("%d bytes are in class %d after %d", n, class, last)
		}
		if n > 1<<minClassBits && float64(size) > math.Ceil(float64(n)*1.25)+1 {
			t.Errorf("class of %d bytes has %d", n, size)
		}
		if again, same := bufferClass(size); again != class || same != size {
			t.Fatalf("class %d of %d bytes, %d of its own size %d", class, n, again, size)
		}
		last = class
	}
}

// byteConn is a connection for tests of the reader alone.
func byteConn(t testing.TB, h Handler) *Conn {
	t.Helper()
	s, err := NewServer(Options{Handler: h, MaxRequestBytes: 1 << 20})
	must(t, err)
	n := NewMemoryNetwork()
	l, err := n.Listen("a:1")
	must(t, err)
	near, err := n.Dial(context.Background(), "", "a:1")
	must(t, err)
	t.Cleanup(func() { near.Close(); l.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return &Conn{server: s, listener: &Listener{}, nc: near, ctx: ctx, cancel: cancel, answered: make(chan struct{}, 1)}
}

// FuzzFrames reads whatever a peer may send: no panic, and no more memory than frames may take.
func FuzzFrames(f *testing.F) {
	f.Add(frame(3, 1, 1, "me", []byte("body")))
	f.Add(append(frame(3, 9, 1, "me", make([]byte, 5000)), frame(18, 99, 2, "", nil)...))
	f.Add([]byte{0, 0, 0, 17, 0, 3, 0, 9, 0, 0, 0, 4, 0, 1, 'c', 1, 5, 2, 'x', 'y', 'b'})
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{0, 0xf, 0xff, 0xff, 0, 3, 0, 1, 0, 0, 0, 0, 0x7f, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := byteConn(t, funcHandler{handle: echo})
		src := iotest.HalfReader(bytes.NewReader(b))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		frames := int64(0)
		for c.in.fill(src, 4) == nil {
			cl, terms, err := c.readHead(src)
			if err != nil {
				break
			}
			c.alone = !terms.Pipelined
			err = c.readBody(src, cl)
			if len(cl.req.Body) > cl.req.Size {
				t.Fatalf("body of %d bytes in a frame of %d", len(cl.req.Body), cl.req.Size)
			}
			cl.freeFrame()
			c.server.budget.release(&cl.req.claim)
			if err != nil {
				break
			}
			frames++
		}
		if held := c.server.budget.inUse(); held != 0 || c.held.Load() != 0 {
			t.Errorf("%d bytes are charged for frames that are gone, %d of them to the connection", held, c.held.Load())
		}
		runtime.ReadMemStats(&after)
		if used := int64(after.TotalAlloc - before.TotalAlloc); used > 2<<20+frames*1024 {
			t.Errorf("%d bytes allocated for %d", used, len(b))
		}
	})
}

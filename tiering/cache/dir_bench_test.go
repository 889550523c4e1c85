package cache

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// Cold reads of one sequential reader from a directory store through a cache that is much smaller
// than the object, written to a loopback socket; and the same file by sendfile as the limit.
func BenchmarkColdReadFromDir(b *testing.B) {
	const size = 256 << 20
	store, err := object.NewDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := store.Put(b.Context(), "segment.log", object.Bytes(make([]byte, size)), object.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	for _, chunk := range []int{256 << 10, 1 << 20, 4 << 20} {
		for _, ahead := range []int64{0, 2} {
			b.Run(fmt.Sprintf("chunk=%dKiB/ahead=%d", chunk>>10, ahead), func(b *testing.B) {
				w := loopback(b)
				c := start(b, Options{MemoryBytes: 64 << 20, ChunkBytes: chunk})
				fetch := func(n int64) Fetch {
					return func(ctx context.Context, dst []byte) (int, error) {
						return object.ReadFull(ctx, store, "segment.log", n*int64(chunk), dst)
					}
				}
				b.SetBytes(int64(chunk))
				b.ReportAllocs()
				for i := int64(0); b.Loop(); i++ {
					n := i % (size / int64(chunk))
					for a := n + 1; a <= n+ahead && a < size/int64(chunk); a++ {
						c.Prefetch(Key{"segment.log", a}, chunk, fetch(a), false)
					}
					p, err := c.Get(b.Context(), Reader{}, Key{"segment.log", n}, chunk, fetch(n))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := w.Write(p.Bytes()); err != nil {
						b.Fatal(err)
					}
					p.Release()
				}
			})
		}
	}
	b.Run("sendfile", func(b *testing.B) {
		w := loopback(b)
		const chunk = 4 << 20
		b.SetBytes(chunk)
		for i := int64(0); b.Loop(); i++ {
			body, err := store.Get(b.Context(), "segment.log", i*chunk%size, chunk)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(w, body); err != nil {
				b.Fatal(err)
			}
			_ = body.Close()
		}
	})
}

// loopback returns a socket whose other end reads and forgets.
func loopback(b *testing.B) net.Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			b.Error(err)
			return
		}
		buf := make([]byte, 1<<20)
		for {
			if _, err := c.Read(buf); err != nil {
				_ = c.Close()
				return
			}
		}
	}()
	w, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = w.Close()
		<-done
		_ = l.Close()
	})
	return w
}

package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric"
	"golang.org/x/sys/unix"
)

// fixed answers every request with the same few bytes, without allocating.
func fixed(pending bool) Handler {
	resp := Response{Buffers: [][]byte{make([]byte, 32)}}
	answer := Pending(func(context.Context) (Response, error) { return resp, nil })
	return funcHandler{handle: func(context.Context, *Request) (Response, Pending) {
		if pending {
			return Response{}, answer
		}
		return resp, nil
	}}
}

// BenchmarkTinyRequests counts requests over one loopback connection with a number of them in flight, both ends.
func BenchmarkTinyRequests(b *testing.B) {
	for _, inFlight := range []int{1, 5, 32} {
		for _, pending := range []bool{false, true} {
			b.Run(fmt.Sprintf("inflight=%d/pending=%t", inFlight, pending), func(b *testing.B) {
				meter := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())).Meter("wire")
				c := start(b, loopback(), Options{Handler: fixed(pending), Meter: meter}).connect(b)
				request := frame(3, 1, 1, "bench", make([]byte, 20))
				all := make([]byte, 0, inFlight*len(request))
				for range inFlight {
					all = append(all, request...)
				}
				answers := make([]byte, inFlight*(4+4+32))
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; n += inFlight {
					c.write(all)
					if _, err := io.ReadFull(c, answers); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkBareEcho is the limit: the same bytes over loopback, with one read and one write a round.
func BenchmarkBareEcho(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		p := make([]byte, 4096)
		for {
			if _, err := c.Read(p); err != nil {
				return
			}
			if _, err := c.Write(p[:40]); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	must(b, err)
	request, answer := make([]byte, 39), make([]byte, 40)
	for b.Loop() {
		_, err := c.Write(request)
		must(b, err)
		_, err = io.ReadFull(c, answer)
		must(b, err)
	}
	c.Close()
	<-done
}

// filePayload is a region of a file, sent with sendfile.
type filePayload struct {
	f *os.File
	n int64
}

func (p filePayload) Len() int64 { return p.n }
func (p filePayload) Release()   {}

func (p filePayload) WriteTo(w io.Writer) (int64, error) {
	tcp, ok := w.(syscall.Conn)
	if !ok {
		buf := getBuffer(int(p.n))
		defer buf.free()
		if _, err := p.f.ReadAt(buf.bytes, 0); err != nil {
			return 0, err
		}
		n, err := w.Write(buf.bytes)
		return int64(n), err
	}
	rc, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	offset := int64(0)
	err2 := rc.Write(func(fd uintptr) bool {
		for offset < p.n {
			if _, err = unix.Sendfile(int(fd), int(p.f.Fd()), &offset, int(p.n-offset)); err != nil {
				return err != unix.EAGAIN
			}
		}
		return true
	})
	if err == unix.EAGAIN {
		err = nil
	}
	if err == nil {
		err = err2
	}
	return offset, err
}

const mib = 1 << 20

func megabyteFile(b *testing.B) *os.File {
	f, err := os.Create(b.TempDir() + "/region")
	must(b, err)
	_, err = f.Write(make([]byte, mib))
	must(b, err)
	b.Cleanup(func() { f.Close() })
	return f
}

// drain reads n bytes without copying them to the user: the client's part is the same in both benchmarks.
func drain(b *testing.B, c net.Conn, buf []byte, n int) {
	for n > 0 {
		got, err := c.Read(buf[:min(n, len(buf))])
		must(b, err)
		n -= got
	}
}

// BenchmarkFileResponse1MiB answers each request with 1 MiB of a file, one after another and five in flight.
func BenchmarkFileResponse1MiB(b *testing.B) {
	for _, inFlight := range []int{1, 5} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			f := megabyteFile(b)
			c := start(b, loopback(), Options{Handler: funcHandler{handle: func(context.Context, *Request) (Response, Pending) {
				return Response{Buffers: [][]byte{make([]byte, 50)}, Payloads: []Payload{filePayload{f, mib}}}, nil
			}}}).connect(b)
			request := frame(1, 4, 1, "bench", make([]byte, 20))
			buf := make([]byte, 256<<10)
			for range inFlight - 1 {
				c.write(request)
			}
			b.SetBytes(mib)
			b.ResetTimer()
			for range b.N {
				c.write(request)
				drain(b, c.Conn, buf, 4+4+50+mib)
			}
		})
	}
}

// BenchmarkBareSendfile1MiB is the limit: a loop that sends the file whenever it is asked to.
func BenchmarkBareSendfile1MiB(b *testing.B) {
	for _, inFlight := range []int{1, 5} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			f := megabyteFile(b)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(b, err)
			defer l.Close()
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				p := make([]byte, 4)
				for {
					if _, err := io.ReadFull(c, p); err != nil {
						return
					}
					if _, err := (filePayload{f, mib}).WriteTo(c); err != nil {
						return
					}
				}
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			must(b, err)
			defer c.Close()
			request := binary.BigEndian.AppendUint32(nil, 1)
			buf := make([]byte, 256<<10)
			for range inFlight - 1 {
				_, err := c.Write(request)
				must(b, err)
			}
			b.SetBytes(mib)
			b.ResetTimer()
			for range b.N {
				_, err := c.Write(request)
				must(b, err)
				drain(b, c, buf, mib)
			}
		})
	}
}

// BenchmarkManyPartitions answers with 50 regions of a file in one response.
func BenchmarkManyPartitions(b *testing.B) {
	for _, size := range []int64{1 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("region=%dKiB", size>>10), func(b *testing.B) {
			f := megabyteFile(b)
			var resp Response
			for range 50 {
				resp.Buffers = append(resp.Buffers, make([]byte, 40))
				resp.Payloads = append(resp.Payloads, filePayload{f, size})
			}
			c := start(b, loopback(), Options{Handler: funcHandler{handle: func(context.Context, *Request) (Response, Pending) {
				return resp, nil
			}}}).connect(b)
			request := frame(1, 4, 1, "bench", make([]byte, 20))
			buf := make([]byte, 256<<10)
			b.SetBytes(50 * size)
			b.ResetTimer()
			for range b.N {
				c.write(request)
				drain(b, c.Conn, buf, 4+4+50*(40+int(size)))
			}
		})
	}
}

// BenchmarkIdleLongPolls reports what a connection with a waiting fetch costs in memory.
func BenchmarkIdleLongPolls(b *testing.B) {
	const conns = 500
	for b.Loop() {
		w := waiting{make(chan int32, conns), make(chan int32, conns)}
		r := start(b, loopback(), Options{Handler: funcHandler{handle: w.handle}})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		request := frame(1, 4, 1, "bench", make([]byte, 10_000))
		var all []*client
		for range conns {
			c := r.connect(b)
			c.write(request)
			<-w.began
			all = append(all, c)
		}
		runtime.GC()
		runtime.GC() // pools
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/conns, "B/conn")
		for _, c := range all {
			c.Close()
		}
		r.stop()
	}
}

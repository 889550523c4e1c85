package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// testPayload is a Payload in memory.
type testPayload struct {
	data     []byte
	short    int // bytes that it does not write
	err      error
	released atomic.Int32
	to       io.Writer
}

func (p *testPayload) Len() int64 { return int64(len(p.data)) }
func (p *testPayload) Release()   { p.released.Add(1) }

func (p *testPayload) WriteTo(w io.Writer) (int64, error) {
	p.to = w
	if p.err != nil {
		return 0, p.err
	}
	n, err := w.Write(p.data[:len(p.data)-p.short])
	return int64(n), err
}

func TestBuffersAndPayloadsAreWrittenInTurn(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		const seed = 5
		rng := mrand.New(mrand.NewPCG(seed, 0))
		var payloads []*testPayload
		wants := make(chan []byte, 1)
		r := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			var resp Response
			buffers, parts := rng.IntN(8), rng.IntN(8)
			for range buffers {
				resp.Buffers = append(resp.Buffers, letters(rng))
			}
			for range parts {
				p := &testPayload{data: letters(rng)}
				payloads = append(payloads, p)
				resp.Payloads = append(resp.Payloads, p)
			}
			want := binary.BigEndian.AppendUint32(nil, uint32(r.CorrelationID))
			for i := range max(buffers, parts) {
				if i < buffers {
					want = append(want, resp.Buffers[i]...)
				}
				if i < parts {
					want = append(want, resp.Payloads[i].(*testPayload).data...)
				}
			}
			wants <- want
			return resp, nil
		}}})
		c := r.connect(t)
		for i := range int32(200) {
			c.send(i, "")
			got, err := c.receive()
			want := <-wants
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("response %d (seed %d): %d bytes, %v; want %d", i, seed, len(got), err, len(want))
			}
		}
		r.stop()
		for _, p := range payloads {
			if got := p.released.Load(); got != 1 {
				t.Fatalf("payload of %d bytes released %d times", p.Len(), got)
			}
		}
	})
}

// letters are some bytes: often few, sometimes none, sometimes more than is copied.
func letters(rng *mrand.Rand) []byte {
	return bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, rng.IntN(1<<(rng.IntN(16)+1)))
}

func TestPayloadGetsAConnectionThatTheKernelCanCopyTo(t *testing.T) {
	p := &testPayload{data: make([]byte, 1<<20)}
	r := start(t, loopback(), Options{Handler: funcHandler{handle: func(context.Context, *Request) (Response, Pending) {
		return Response{Buffers: [][]byte{{1}}, Payloads: []Payload{p}}, nil
	}}})
	c := r.connect(t)
	c.send(1, "")
	if got, err := c.receive(); err != nil || len(got) != 4+1+1<<20 {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	r.stop()
	if _, ok := p.to.(syscall.Conn); !ok {
		t.Errorf("payload was given a %T: no sendfile", p.to)
	}
}

func TestPayloadThatFailsClosesTheConnection(t *testing.T) {
	for name, make := range map[string]func() *testPayload{
		"small, short": func() *testPayload { return &testPayload{data: make([]byte, 10), short: 1} },
		"large, short": func() *testPayload { return &testPayload{data: make([]byte, 1<<20), short: 1} },
		"small, error": func() *testPayload { return &testPayload{data: make([]byte, 10), err: io.ErrUnexpectedEOF} },
		"large, error": func() *testPayload { return &testPayload{data: make([]byte, 1<<20), err: io.ErrUnexpectedEOF} },
	} {
		t.Run(name, func(t *testing.T) {
			overNetworks(t, func(t *testing.T, n network) {
				first, second, later := make(), make(), make()
				r := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
					if r.CorrelationID == 2 {
						return Response{Payloads: []Payload{later}}, nil
					}
					return Response{Payloads: []Payload{first, second}}, nil
				}}})
				c := r.connect(t)
				c.write(append(frame(3, 1, 1, "", nil), frame(3, 1, 2, "", nil)...))
				if got, err := c.receive(); err == nil {
					t.Errorf("got a response of %d bytes", len(got))
				}
				c.Close()
				r.stop()
				if first.released.Load() != 1 || second.released.Load() != 1 || later.released.Load() > 1 {
					t.Errorf("released %d, %d and %d times", first.released.Load(), second.released.Load(), later.released.Load())
				}
			})
		})
	}
}

func TestPanicClosesOnlyItsConnection(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		r := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			switch r.CorrelationID {
			case 1:
				panic("ordered phase")
			case 2:
				return Response{}, func(context.Context) (Response, error) { panic("pending") }
			}
			return echoed(r), nil
		}}})
		other := r.connect(t)
		for i := range int32(2) {
			c := r.connect(t)
			c.send(i+1, "")
			c.expectClosed()
		}
		other.send(3, "fine")
		other.expect(3, "fine")
	})
}

func TestPendingErrorAndCloseEndTheConnection(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		r := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			resp := echoed(r)
			resp.Close = r.CorrelationID == 2
			if r.CorrelationID == 3 {
				return Response{Close: true}, nil
			}
			return Response{}, func(context.Context) (Response, error) {
				if r.CorrelationID == 1 {
					return resp, errors.New("no")
				}
				return resp, nil
			}
		}}})
		c := r.connect(t)
		c.send(1, "x")
		c.expectClosed()
		c = r.connect(t)
		c.send(2, "last words")
		c.expect(2, "last words")
		c.expectClosed()
		c = r.connect(t)
		c.send(3, "malformed")
		c.expectClosed()
	})
}

// countingListener counts the writes on its connections.
type countingListener struct {
	net.Listener
	writes *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestReadyResponsesShareOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes atomic.Int32
		memory := inMemory()
		counted := network{func() (net.Listener, error) {
			l, err := memory.listen()
			return countingListener{l, &writes}, err
		}, memory.dial}
		gate, read := make(chan struct{}), make(chan struct{})
		c := start(t, counted, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			resp := echoed(r)
			if r.CorrelationID == 11 {
				close(read)
			}
			return Response{}, func(ctx context.Context) (Response, error) {
				var until chan struct{}
				switch r.CorrelationID {
				case 0:
					until = read // the writer must not be faster than the reader
				case 9:
					until = gate
				default:
					return resp, nil
				}
				select {
				case <-until:
				case <-ctx.Done():
				}
				return resp, nil
			}
		}}}).connect(t)
		var all []byte
		for i := range int32(12) {
			all = append(all, frame(3, 1, i, "", []byte("x"))...)
		}
		c.write(all)
		synctest.Wait()
		// Nine are ready, the tenth waits: what is ready must have left before it began to.
		for i := range int32(9) {
			c.expect(i, "x")
		}
		if got := writes.Load(); got != 1 {
			t.Errorf("%d writes for nine responses that were ready together", got)
		}
		close(gate)
		for i := int32(9); i < 12; i++ {
			c.expect(i, "x")
		}
		if got := writes.Load(); got != 2 {
			t.Errorf("%d writes for twelve responses", got)
		}
	})
}

func TestEncodedResponseOutlivesItsBuffer(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		c := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			resp := kmsg.NewPtrListGroupsResponse()
			resp.ThrottleMillis = r.CorrelationID
			resp.Version = 1
			return Encode(resp), nil
		}}}).connect(t)
		for i := range int32(100) {
			c.write(frame(16, 1, i, "", nil))
		}
		for i := range int32(100) {
			want := kmsg.NewPtrListGroupsResponse()
			want.ThrottleMillis, want.Version = i, 1
			c.expect(i, string(want.AppendTo(nil)))
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		r := start(t, n, Options{Handler: funcHandler{handle: echo}, MaxConnectionsPerIP: 2,
			MaxConnectionsPerIPOverrides: map[string]int{"10.0.0.1": 1}})
		a, b := r.connect(t), r.connect(t)
		a.send(1, "a")
		a.expect(1, "a")
		b.send(1, "b")
		b.expect(1, "b")
		r.connect(t).expectClosed()
		a.send(2, "a")
		a.expect(2, "a")
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, inMemory(), Options{Handler: funcHandler{handle: echo}, MaxConnections: 1})
		a, b := r.connect(t), r.connect(t)
		b.send(1, "b")
		synctest.Wait()
		a.send(1, "a")
		a.expect(1, "a")
		must(t, a.Close())
		b.expect(1, "b") // accepted when there was room
	})
}

func TestTLSListener(t *testing.T) {
	cert := selfSigned(t)
	overNetworks(t, func(t *testing.T, n network) {
		l, err := n.listen()
		must(t, err)
		p := &testPayload{data: make([]byte, 100_000)}
		r := run(t, n, Options{
			Listeners: []Listener{{Name: "SSL", Listener: l, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}},
			Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
				return Response{Buffers: [][]byte{bytes.Clone(r.Body)}, Payloads: []Payload{p}}, nil
			}},
		})
		raw := r.connect(t)
		c := &client{tls.Client(raw.Conn, &tls.Config{InsecureSkipVerify: true}), t}
		c.send(1, "secret")
		c.expect(1, "secret"+string(p.data))
	})
	synctest.Test(t, func(t *testing.T) { // a peer that does not speak
		n := inMemory()
		l, err := n.listen()
		must(t, err)
		r := run(t, n, Options{Handler: funcHandler{handle: echo},
			Listeners: []Listener{{Name: "SSL", Listener: l, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}}})
		c := r.connect(t)
		began := time.Now()
		c.expectClosed()
		if took := time.Since(began); took > time.Minute {
			t.Errorf("closed after %v", took)
		}
	})
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	// Valid at the start of a bubble's time, the year 2000, and today.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestBodyIsSpoiledAfterTheOrderedPhase(t *testing.T) {
	probe := []byte{1}
	if scribble(probe); probe[0] == 1 {
		t.Skip("only with -race or -tags invariants")
	}
	synctest.Test(t, func(t *testing.T) {
		c := start(t, inMemory(), Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			kept := r.Body // wrong
			return Response{}, func(context.Context) (Response, error) {
				return Response{Buffers: [][]byte{bytes.Clone(kept)}}, nil
			}
		}}}).connect(t)
		for i, n := range []int{10, 10_000} {
			c.send(int32(i), string(make([]byte, n)))
			c.expect(int32(i), string(bytes.Repeat([]byte{0xdb}, n)))
		}
	})
}

package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// funcHandler is a Handler made of functions.
type funcHandler struct {
	handle func(ctx context.Context, r *Request) (Response, Pending)
	limits func(key, version int16) (int32, bool)
	alone  bool // requests have their connection to themselves
}

func (h funcHandler) Handle(ctx context.Context, r *Request) (Response, Pending) {
	return h.handle(ctx, r)
}

func (h funcHandler) Terms(key, version int16) (Terms, bool) {
	if h.limits == nil {
		return Terms{MaxBytes: 1 << 20, Pipelined: !h.alone}, key < 90 && !(key == apiVersions && version > 4)
	}
	n, ok := h.limits(key, version)
	return Terms{MaxBytes: n, Pipelined: !h.alone}, ok
}

// echo answers with the request's body.
func echo(_ context.Context, r *Request) (Response, Pending) { return echoed(r), nil }

func echoed(r *Request) Response { return Response{Buffers: [][]byte{bytes.Clone(r.Body)}} }

// rig is a server under test. stop ends it and waits; so does the end of the test.
type rig struct {
	*Server
	network
	addr string
	stop func()
}

func start(t testing.TB, n network, o Options) *rig {
	t.Helper()
	l, err := n.listen()
	must(t, err)
	o.Listeners = append(o.Listeners, Listener{Name: "PLAINTEXT", Listener: l})
	return run(t, n, o)
}

func run(t testing.TB, n network, o Options) *rig {
	t.Helper()
	s, err := NewServer(o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &rig{Server: s, network: n, addr: o.Listeners[0].Listener.Addr().String()}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// newServer is a server in memory.
func newServer(t testing.TB, o Options) *rig { return start(t, inMemory(), o) }

// unanswered counts the requests that wait for their answer.
func (r *rig) unanswered() (n int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		n += c.inFlight.Load()
	}
	return n
}

// client is a raw connection to a server.
type client struct {
	net.Conn
	t testing.TB
}

func (r *rig) connect(t testing.TB) *client {
	t.Helper()
	c, err := r.dial(context.WithoutCancel(t.Context()), "tcp", r.addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &client{c, t}
}

// frame is a request frame with header v1, or v2 when the version is flexible.
func frame(key, version int16, correlation int32, client string, body []byte) []byte {
	b := make([]byte, 4, 64+len(body))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	b = binary.BigEndian.AppendUint16(b, uint16(len(client)))
	b = append(b, client...)
	if flexible(key, version) {
		b = append(b, 0)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// send sends a request of Metadata v1 by default number.
func (c *client) send(correlation int32, body string) {
	c.t.Helper()
	c.write(frame(3, 1, correlation, "test", []byte(body)))
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// receive returns what follows the length field of the next response.
func (c *client) receive() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

// expect receives a response with header v0.
func (c *client) expect(correlation int32, body string) {
	c.t.Helper()
	got, err := c.receive()
	want := append(binary.BigEndian.AppendUint32(nil, uint32(correlation)), body...)
	if err != nil || !bytes.Equal(got, want) {
		c.t.Fatalf("got response %.80q, %v; want %.80q", got, err, want)
	}
}

// expectClosed waits for the server to close the connection without another byte.
func (c *client) expectClosed() {
	c.t.Helper()
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !isReset(err) {
		c.t.Fatalf("got %.80q, %v; want the end of the connection", b, err)
	}
}

// isReset tells whether a peer closed with bytes unread.
func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

func TestResponsesCarryCorrelationIdAndBody(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		c := start(t, n, Options{Handler: funcHandler{handle: echo}}).connect(t)
		big := string(bytes.Repeat([]byte("0123456789abcdef"), 20_000))
		for i, body := range []string{"", "hello", big[:copyBuffer], big[:copyBuffer+1], big[:readAhead-17], big[:readAhead], big, "x"} {
			c.send(int32(i), body)
			c.expect(int32(i), body)
		}
		for i := range int32(50) { // pipelined
			c.send(i, "pipelined")
		}
		for i := range int32(50) {
			c.expect(i, "pipelined")
		}
	})
}

func TestHeadersFollowTheVersion(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		requests := make(chan Request, 1)
		var last Request
		c := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			requests <- *r
			return echoed(r), nil
		}}}).connect(t)
		roundTrip := func(f []byte, want string) {
			t.Helper()
			c.write(f)
			if got, err := c.receive(); err != nil || string(got) != want {
				t.Errorf("got response %q, %v; want %q", got, err, want)
			}
			last = <-requests
		}
		roundTrip(frame(3, 1, 1, "me", []byte("old")), "\x00\x00\x00\x01old")
		roundTrip(frame(3, 9, 2, "me", []byte("flexible")), "\x00\x00\x00\x02\x00flexible")
		if last.ClientID != "me" || last.Version != 9 || last.Key != 3 || last.CorrelationID != 2 {
			t.Errorf("request %+v", last)
		}
		null := []byte{0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 3, 0xff, 0xff}
		roundTrip(null, "\x00\x00\x00\x03")
		if last.ClientID != "" {
			t.Errorf("null client id became %q", last.ClientID)
		}
		tagged := []byte{0, 0, 0, 17, 0, 3, 0, 9, 0, 0, 0, 4, 0, 1, 'c', 1, 5, 2, 'x', 'y', 'b'}
		roundTrip(tagged, "\x00\x00\x00\x04\x00b")
		// ApiVersions: the response header never has tags, and unknown versions reach the handler (KIP-511).
		roundTrip(frame(18, 3, 5, "me", []byte("v3")), "\x00\x00\x00\x05v3")
		roundTrip(frame(18, 99, 6, "me", []byte("v99")), "\x00\x00\x00\x06v99")
		if last.Version != 99 {
			t.Errorf("ApiVersions v99 arrived as v%d", last.Version)
		}
	})
}

func TestUnknownApisAndBadFramesCloseTheConnection(t *testing.T) {
	limits := func(key, version int16) (int32, bool) {
		if key == 3 {
			return 1000, true
		}
		return 1 << 20, key == 0
	}
	for name, f := range map[string][]byte{
		"unknown key":               frame(99, 0, 1, "", nil),
		"negative key":              frame(-1, 0, 1, "", nil),
		"larger than its api may":   frame(3, 1, 1, "", make([]byte, 1000))[:12],
		"larger than any may":       {0x7f, 0xff, 0xff, 0xff},
		"negative size":             {0xff, 0xff, 0xff, 0xff},
		"size of nothing":           {0, 0, 0, 0},
		"no client id":              {0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0, 1},
		"client id beyond frame":    {0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0, 5},
		"tags beyond the frame":     {0, 0, 0, 11, 0, 3, 0, 9, 0, 0, 0, 1, 0, 0, 4},
		"four billion tags":         {0, 0, 0, 15, 0, 3, 0, 9, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"large unauthenticated one": frame(0, 1, 1, "", make([]byte, 2000))[:12],
	} {
		t.Run(name, func(t *testing.T) {
			overNetworks(t, func(t *testing.T, n network) {
				l, err := n.listen()
				must(t, err)
				r := run(t, n, Options{
					Handler:                 funcHandler{handle: echo, limits: limits},
					Listeners:               []Listener{{Name: "SASL", Listener: l, Authenticate: true}},
					MaxUnauthenticatedBytes: 1500,
				})
				c := r.connect(t)
				c.write(f)
				c.expectClosed()
			})
		})
	}
}

func TestAuthenticationLiftsTheFrameLimit(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		l, err := n.listen()
		must(t, err)
		h := funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			r.Conn.SetPrincipal("User:alice")
			return echoed(r), nil
		}}
		r := run(t, n, Options{Handler: h, MaxUnauthenticatedBytes: 100,
			Listeners: []Listener{{Name: "SASL", Listener: l, Authenticate: true}}})
		c := r.connect(t)
		c.send(1, "token")
		c.expect(1, "token")
		c.send(2, string(make([]byte, 5000)))
		c.expect(2, string(make([]byte, 5000)))
	})
}

func TestResponsesLeaveInRequestOrder(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		gates := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
		var handled atomic.Int32
		c := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			handled.Add(1)
			i, resp := r.CorrelationID, echoed(r)
			if i == 3 {
				return resp, nil // ready first, answered last
			}
			return Response{}, func(ctx context.Context) (Response, error) {
				select {
				case <-gates[i]:
					return resp, nil
				case <-ctx.Done():
					return Response{}, ctx.Err()
				}
			}
		}}}).connect(t)
		for i := range int32(4) {
			c.send(i, "body")
		}
		for i := len(gates) - 1; i >= 0; i-- {
			close(gates[i])
		}
		for i := range int32(4) {
			c.expect(i, "body")
		}
	})
}

// waiting is a handler whose requests wait until their connection ends, and says so.
type waiting struct{ began, ended chan int32 }

func newWaiting() waiting { return waiting{make(chan int32, 100), make(chan int32, 100)} }

func (w waiting) handle(_ context.Context, r *Request) (Response, Pending) {
	id := r.CorrelationID
	return Response{}, func(ctx context.Context) (Response, error) {
		w.began <- id
		<-ctx.Done()
		w.ended <- id
		return Response{}, ctx.Err()
	}
}

func TestWaitingRequestNoticesThatThePeerIsGone(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		w := newWaiting()
		c := start(t, n, Options{Handler: funcHandler{handle: w.handle}}).connect(t)
		c.send(1, "")
		c.send(2, "")
		<-w.began
		must(t, c.Close())
		for want := range int32(2) { // each Pending is called, in order, also on a dead connection
			if got := <-w.ended; got != want+1 {
				t.Errorf("request %d ended, want %d", got, want+1)
			}
		}
	})
}

func TestInFlightBoundStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var handled atomic.Int32
		gate := make(chan struct{})
		c := start(t, inMemory(), Options{MaxInFlight: 3, Handler: funcHandler{
			handle: func(_ context.Context, r *Request) (Response, Pending) {
				handled.Add(1)
				resp := echoed(r)
				return Response{}, func(context.Context) (Response, error) { <-gate; return resp, nil }
			}}}).connect(t)
		for i := range int32(10) {
			c.send(i, "x")
		}
		synctest.Wait()
		if got := handled.Load(); got != 3 {
			t.Errorf("%d requests handled while none is answered, want 3", got)
		}
		close(gate)
		for i := range int32(10) {
			c.expect(i, "x")
		}
	})
}

func TestWaitingRequestHoldsNoMemory(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		w := newWaiting()
		r := start(t, n, Options{MemoryBytes: 10_000, Handler: funcHandler{
			handle: func(ctx context.Context, r *Request) (Response, Pending) {
				if r.CorrelationID == 1 {
					return w.handle(ctx, r)
				}
				return echoed(r), nil
			}}})
		poll, other := r.connect(t), r.connect(t)
		poll.send(1, string(make([]byte, 9000)))
		<-w.began
		other.send(2, string(make([]byte, 9000)))
		other.expect(2, string(make([]byte, 9000)))
		other.send(3, string(make([]byte, 90_000))) // larger than all the memory: it waits to be alone
		other.expect(3, string(make([]byte, 90_000)))
	})
}

func TestMemoryBoundsFramesOfAllConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		gate := make(chan struct{})
		r := start(t, inMemory(), Options{MemoryBytes: 30_000, Handler: funcHandler{
			handle: func(_ context.Context, r *Request) (Response, Pending) {
				most.Store(max(most.Load(), now.Add(1)))
				<-gate
				now.Add(-1)
				return echoed(r), nil
			}}})
		var clients []*client
		for range 10 {
			c := r.connect(t)
			c.send(1, string(make([]byte, 9000)))
			clients = append(clients, c)
		}
		synctest.Wait()
		close(gate)
		for _, c := range clients {
			c.expect(1, string(make([]byte, 9000)))
		}
		if got := most.Load(); got != 3 {
			t.Errorf("%d frames of 9 KB at the same time in 30 KB, want 3", got)
		}
	})
}

func TestNoResponseForAcksZero(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		c := start(t, n, Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			if r.CorrelationID == 1 {
				return Response{None: true}, nil
			}
			return echoed(r), nil
		}}}).connect(t)
		c.send(1, "acks=0")
		c.send(2, "metadata")
		c.expect(2, "metadata")
	})
}

func TestThrottleMutesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		c := start(t, inMemory(), Options{Handler: funcHandler{handle: func(_ context.Context, r *Request) (Response, Pending) {
			at = append(at, time.Since(began))
			resp := echoed(r)
			resp.Throttle = 3 * time.Second
			return resp, nil
		}}}).connect(t)
		for i := range int32(3) {
			c.send(i, "x")
			c.expect(i, "x") // at once: only the next request has to wait (KIP-219)
			if got, want := time.Since(began), at[i]; got != want {
				t.Errorf("response %d after %v, its request was handled at %v", i, got, want)
			}
		}
		for i, got := range at {
			if want := time.Duration(i) * 3 * time.Second; got != want {
				t.Errorf("request %d handled after %v, want %v", i, got, want)
			}
		}
	})
}

func TestIdleConnectionIsClosedWaitingOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := start(t, inMemory(), Options{IdleTimeout: time.Minute, Handler: funcHandler{
			handle: func(_ context.Context, r *Request) (Response, Pending) {
				resp := echoed(r)
				return Response{}, func(context.Context) (Response, error) { <-gate; return resp, nil }
			}}})
		idle, waits := r.connect(t), r.connect(t)
		waits.send(1, "x")
		time.Sleep(2 * time.Minute)
		idle.expectClosed()
		close(gate)
		waits.expect(1, "x")
	})
}

func TestStuckFrameIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, inMemory(), Options{StallTimeout: 10 * time.Second, Handler: funcHandler{handle: echo}})
		c := r.connect(t)
		f := frame(3, 1, 1, "", make([]byte, 100_000))
		c.write(f[:50_000])
		began := time.Now()
		c.expectClosed()
		if took := time.Since(began); took < 10*time.Second || took > 20*time.Second {
			t.Errorf("closed after %v, want some 11 s", took)
		}
	})
}

func TestPeerThatTakesNoResponseIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var payload testPayload
		r := start(t, inMemory(), Options{IdleTimeout: time.Minute, Handler: funcHandler{
			handle: func(context.Context, *Request) (Response, Pending) {
				payload = testPayload{data: make([]byte, 4*pipeBytes)}
				return Response{Payloads: []Payload{&payload}}, nil
			}}})
		c := r.connect(t)
		c.send(1, "")
		time.Sleep(2 * time.Minute)
		if _, err := io.Copy(io.Discard, c); err != nil && !isReset(err) {
			t.Errorf("read: %v", err)
		}
		r.stop()
		if got := payload.released.Load(); got != 1 {
			t.Errorf("payload released %d times", got)
		}
	})
}

func TestStopAnswersWhatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, inMemory(), Options{StopTimeout: time.Minute, Handler: funcHandler{
			handle: func(_ context.Context, r *Request) (Response, Pending) {
				resp := echoed(r)
				return Response{}, func(ctx context.Context) (Response, error) {
					if !sleep(ctx, 10*time.Second) {
						return Response{}, ctx.Err()
					}
					return resp, nil
				}
			}}})
		busy, idle := r.connect(t), r.connect(t)
		busy.send(1, "x")
		synctest.Wait()
		go r.stop()
		busy.expect(1, "x")
		busy.expectClosed()
		idle.expectClosed()
	})
}

func TestStopEndsIdleWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, inMemory(), Options{StopTimeout: time.Minute, Handler: funcHandler{
			handle: func(_ context.Context, r *Request) (Response, Pending) {
				resp := echoed(r)
				return Response{}, func(ctx context.Context) (Response, error) {
					// As a fetch waits for records; what was there goes out.
					sleep(Idle(ctx), time.Hour)
					if err := ctx.Err(); err != nil {
						return Response{}, err
					}
					return resp, nil
				}
			}}})
		c := r.connect(t)
		c.send(1, "x")
		c.send(2, "y")
		synctest.Wait()
		began := time.Now()
		go r.stop()
		c.expect(1, "x")
		c.expect(2, "y")
		c.expectClosed()
		if took := time.Since(began); took != 0 {
			t.Errorf("stopped after %v", took)
		}
	})
}

func TestStopGivesUpAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting()
		r := start(t, inMemory(), Options{StopTimeout: 3 * time.Second, Handler: funcHandler{handle: w.handle}})
		c := r.connect(t)
		c.send(1, "")
		<-w.began
		began := time.Now()
		r.stop()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("stopped after %v, want 3 s", took)
		}
		if got := <-w.ended; got != 1 {
			t.Errorf("request %d ended", got)
		}
		c.expectClosed()
	})
}

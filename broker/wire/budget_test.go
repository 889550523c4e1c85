package wire

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// announce sends the first bytes of a produce request whose frame is said to have n bytes.
func (c *client) announce(n int) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, uint32(n))
	c.write(append(b, 0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff))
}

// echoAlone echoes requests that have their connection to themselves.
var echoAlone = mixed{func(_ context.Context, r *Request) (Response, Pending) {
	return Response{}, func(context.Context) (Response, error) { return echoed(r), nil }
}}

func TestAnnouncedBytesAreNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{Handler: mixed{echo}, MemoryBytes: 128 * mib})
		for range 100 {
			s.connect(t).announce(100 * mib)
		}
		synctest.Wait()
		if used := s.budget.inUse(); used > 100*firstPiece {
			t.Errorf("%d bytes are charged for 1,400 that have arrived", used)
		}
		began := time.Now()
		c := s.connect(t)
		for _, n := range []int{100, 8 << 10, mib} {
			body := strings.Repeat("x", n)
			c.write(frame(0, 7, 1, "test", []byte(body)))
			c.expect(1, body)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("others waited for %v", took)
		}
	})
}

func TestSmallFramesDoNotQueueBehindLargeOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := newServer(t, Options{MemoryBytes: 16 * mib, Handler: mixed{func(_ context.Context, r *Request) (Response, Pending) {
			if r.Size > mib {
				<-gate // holds its frame
			}
			return echoed(r), nil
		}}})
		var large sync.WaitGroup
		for i := range int32(10) { // more than there is memory for
			c := s.connect(t)
			large.Go(func() {
				c.write(frame(0, 7, i, "", make([]byte, 4*mib)))
				c.expect(i, string(make([]byte, 4*mib)))
			})
		}
		synctest.Wait()
		c := s.connect(t)
		body := strings.Repeat("x", 50<<10)
		c.write(frame(0, 7, 1, "", []byte(body)))
		c.expect(1, body)
		close(gate)
		large.Wait()
	})
}

func TestPreferredRequestsDoNotQueueBehindClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(16 * mib)
		clients, broker := claim{conn: &Conn{}}, claim{conn: &Conn{}, prior: true}
		must(t, b.grow(t.Context(), &clients, 20*mib)) // all that clients may have
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.grow(ctx, &claim{conn: &Conn{}}, mib); err == nil {
			t.Error("there is memory for another client")
		}
		must(t, b.grow(t.Context(), &broker, mib))
		b.release(&broker)
		b.release(&clients)
	})
}

// TestHalfReadFramesDoNotWaitForEachOther lets frames take all of the memory before any of them is complete.
func TestHalfReadFramesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{MemoryBytes: 4 * mib, Handler: mixed{echo}})
		body := make([]byte, 3*mib)
		var all sync.WaitGroup
		for i := range int32(8) {
			c := s.connect(t)
			f := frame(0, 7, i, "", body)
			c.write(f[:200<<10])
			all.Go(func() {
				time.Sleep(time.Second)
				c.write(f[200<<10:])
				c.expect(i, string(body))
			})
		}
		all.Wait()
		synctest.Wait()
		if used := s.budget.inUse(); used != 0 {
			t.Errorf("%d bytes are charged when everything is answered", used)
		}
	})
}

func TestSenderThatMakesNoProgressLosesItsMemory(t *testing.T) {
	for name, test := range map[string]struct {
		others bool
		most   time.Duration
	}{
		"alone":                    {false, 25 * time.Second},
		"while others need memory": {true, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Options{MemoryBytes: 2 * mib, Handler: mixed{echo}})
				for range 8 {
					c := s.connect(t)
					f := frame(0, 7, 1, "", make([]byte, 8*mib))
					go c.Write(f[:mib+100]) // of some the write ends with the connection
				}
				began := time.Now()
				synctest.Wait()
				if test.others {
					c := s.connect(t)
					c.write(frame(0, 7, 1, "", make([]byte, mib)))
					c.expect(1, string(make([]byte, mib)))
				} else {
					for s.budget.inUse() > 0 {
						time.Sleep(100 * time.Millisecond)
					}
				}
				if took := time.Since(began); took > test.most {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestFrameThatArrivesSteadilyIsNoIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{IdleTimeout: 3 * time.Second, StallTimeout: 2 * time.Second, Handler: mixed{echo}})
		for _, n := range []int{1500, 900_000} {
			c := s.connect(t)
			f := frame(0, 7, 1, "", make([]byte, n))
			for at := 0; at < len(f); at += len(f)/40 + 1 {
				c.write(f[at:min(len(f), at+len(f)/40+1)])
				time.Sleep(200 * time.Millisecond)
			}
			c.expect(1, string(make([]byte, n)))
		}
	})
}

func TestFrameThatTricklesIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{Handler: mixed{echo}})
		c := s.connect(t)
		c.announce(mib)
		began := time.Now()
		for time.Since(began) < time.Minute {
			if _, err := c.Write(make([]byte, 10)); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
		t.Error("a frame that arrives with 10 bytes a second is waited for")
	})
}

// TestInvariant14WaitingRequestsKeepTheirCharge queues large requests behind one that waits: the one that is served is
// charged, and the others are not read.
func TestInvariant14WaitingRequestsKeepTheirCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := newServer(t, Options{MemoryBytes: 128 * mib, Handler: mixed{func(_ context.Context, r *Request) (Response, Pending) {
			return Response{}, func(context.Context) (Response, error) {
				<-gate
				return echoed(r), nil
			}
		}}})
		c := s.connect(t)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range int32(20) {
				c.write(frame(11, 1, i, "", make([]byte, 3*mib)))
			}
		}()
		synctest.Wait()
		if used := s.budget.inUse(); used < 3*mib || used > 4*mib {
			t.Errorf("%d bytes are charged while one request of 3 MiB is served", used)
		}
		close(gate)
		for i := range int32(20) {
			c.expect(i, string(make([]byte, 3*mib)))
		}
		<-sent
	})
}

func TestLongPollsGiveTheirMemoryToThoseWhoWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{MemoryBytes: 4 * mib, Handler: mixed{func(ctx context.Context, r *Request) (Response, Pending) {
			if r.CorrelationID != 7 {
				return echoed(r), nil
			}
			if err := r.Charge(ctx, mib); err != nil {
				t.Errorf("charge: %v", err)
			}
			return Response{}, func(ctx context.Context) (Response, error) {
				sleep(Idle(ctx), time.Hour)
				return Response{Buffers: [][]byte{[]byte("empty")}}, nil
			}
		}}})
		var polls []*client
		for range 3 {
			c := s.connect(t)
			c.write(frame(0, 7, 7, "", nil))
			polls = append(polls, c)
		}
		synctest.Wait()
		began := time.Now()
		c := s.connect(t)
		c.write(frame(0, 7, 1, "", make([]byte, 2*mib)))
		c.expect(1, string(make([]byte, 2*mib)))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it waited for %v", took)
		}
		polls[0].expect(7, "empty")
		polls[0].write(frame(0, 7, 7, "", nil)) // and it may wait again
		synctest.Wait()
		if inFlight := s.unanswered(); inFlight == 0 {
			t.Error("no poll waits any more")
		}
	})
}

func TestClientThatReadsNothingHoldsOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int32
		s := newServer(t, Options{Handler: mixed{func(context.Context, *Request) (Response, Pending) {
			return Response{}, func(context.Context) (Response, error) {
				made.Add(1)
				return Response{Buffers: [][]byte{make([]byte, 2*mib)}}, nil
			}
		}}})
		c := s.connect(t)
		for i := range int32(30) {
			c.write(frame(3, 1, i, "", nil))
		}
		synctest.Wait()
		if used := s.budget.inUse(); made.Load() != 1 || used < 2*mib || used > 3*mib {
			t.Errorf("%d answers are made, %d bytes are charged; want one answer of 2 MiB", made.Load(), used)
		}
		time.Sleep(15 * time.Second)
		if used := s.budget.inUse(); used != 0 || s.unanswered() != 0 {
			t.Errorf("%d bytes are held for a client that takes nothing", used)
		}
	})
}

// pinned is a payload in memory.
type pinned struct{ *testPayload }

func (p pinned) Pinned() int64 { return int64(len(p.data)) }

func TestOnlyAnswersInMemoryAreTakenInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{IdleTimeout: time.Hour, Handler: mixed{func(_ context.Context, r *Request) (Response, Pending) {
			file := &testPayload{data: make([]byte, 4*mib)}
			if r.CorrelationID == 1 {
				return Response{Payloads: []Payload{file}}, nil
			}
			return Response{Payloads: []Payload{pinned{file}}}, nil
		}}})
		files, memory := s.connect(t), s.connect(t)
		files.write(frame(0, 7, 1, "", nil))
		memory.write(frame(0, 7, 2, "", nil))
		time.Sleep(10 * time.Minute)
		if _, err := memory.receive(); err == nil {
			t.Error("memory is held for a client that takes nothing for ten minutes")
		}
		if b, err := files.receive(); err != nil || len(b) != 4+4*mib {
			t.Errorf("a busy consumer of what is on disk gets %d bytes, %v", len(b), err)
		}
	})
}

func TestClientThatReadsSlowlyIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{StallTimeout: 4 * time.Second, IdleTimeout: 6 * time.Second, Handler: echoAlone})
		c := s.connect(t)
		go c.write(frame(3, 1, 1, "", make([]byte, 2*mib)))
		buf := make([]byte, 64<<10)
		for total := 0; total < 2*mib; {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
			total += n
			time.Sleep(time.Second)
		}
	})
}

func TestGarbageIsLoggedOnceAMinuteWithACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuilder
		s := newServer(t, Options{Handler: mixed{echo}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for _, junk := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\xff\xff\xff\xff", "\x00\x00\x00\x08\x00\x00"} {
			c := s.connect(t)
			c.write([]byte(junk))
			if junk[0] != 0 { // the last one may still become a request
				c.expectClosed()
			}
		}
		synctest.Wait()
		if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "HTTP request") || !strings.Contains(log.String(), "client=") {
			t.Errorf("logged at once, want one line that names the peer and what it speaks:\n%s", log.String())
		}
		time.Sleep(2 * time.Minute)
		if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "count=2") {
			t.Errorf("logged after two minutes, want one line more that counts 2:\n%s", log.String())
		}
	})
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestBudgetHoldsUnderRandomClaims lets claims of all sizes come and go: the budget is never exceeded, all of them get what
// they want, and nothing stays charged.
func TestBudgetHoldsUnderRandomClaims(t *testing.T) {
	const seed, limit = 11, 10 * mib
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(limit)
		waiting := func() bool { since, _ := b.waiting(); return !since.IsZero() }
		var all sync.WaitGroup
		for worker := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, worker))
			all.Go(func() {
				c := claim{conn: &Conn{}}
				for range 300 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rng.IntN(30))*time.Minute)
					for range rng.IntN(5) {
						if b.grow(ctx, &c, rng.Int64N(1<<(1+rng.IntN(23)))) != nil {
							break
						}
						if used := b.inUse(); used > limit {
							t.Errorf("seed %d: %d bytes charged", seed, used)
						}
						time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
						b.shrink(&c, rng.Int64N(c.size+1))
					}
					cancel()
					b.release(&c)
					if held := c.conn.held.Load(); c.size != 0 || c.charged != 0 || held != 0 {
						t.Errorf("seed %d: a released claim holds %d, %d are charged, %d of its connection", seed, c.size, c.charged, held)
					}
				}
			})
		}
		all.Wait()
		if used := b.inUse(); used != 0 || b.lane != nil || waiting() {
			t.Errorf("seed %d: %d bytes are charged in the end", seed, used)
		}
	})
}

package wire

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// mixed is a handler whose key 0 is pipelined and whose other keys have their connection to themselves.
type mixed struct {
	handle func(ctx context.Context, r *Request) (Response, Pending)
}

func (m mixed) Handle(ctx context.Context, r *Request) (Response, Pending) { return m.handle(ctx, r) }

func (m mixed) Terms(key, version int16) (Terms, bool) {
	return Terms{MaxBytes: 100 << 20, Pipelined: key == 0}, true
}

// TestInvariant14RequestsTakeEffectInTheOrderTheyWereSent sends requests of both kinds at once: pipelined ones are
// handled while those before them wait, any other one when everything before it is answered, and nothing behind it
// before it is.
func TestInvariant14RequestsTakeEffectInTheOrderTheyWereSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var handled [6]atomic.Bool
		var gates [6]chan struct{}
		for i := range gates {
			gates[i] = make(chan struct{})
		}
		c := start(t, inMemory(), Options{Handler: mixed{func(_ context.Context, r *Request) (Response, Pending) {
			i := r.CorrelationID
			alone := r.Key != 0
			if !alone {
				handled[i].Store(true)
			}
			return Response{}, func(ctx context.Context) (Response, error) {
				handled[i].Store(true)
				select {
				case <-gates[i]:
				case <-ctx.Done():
					return Response{}, ctx.Err()
				}
				if alone && string(r.Body) != "body" {
					t.Errorf("request %d: body %q while it is served", i, r.Body)
				}
				return Response{Buffers: [][]byte{[]byte("answer")}}, nil
			}
		}}}).connect(t)
		keys := []int16{0, 0, 3, 3, 0, 0}
		for i, key := range keys {
			c.write(frame(key, 1, int32(i), "test", []byte("body")))
		}
		for i, want := range []string{"110000", "110000", "111000", "111100", "111111", "111111"} {
			synctest.Wait()
			got := ""
			for j := range handled {
				if got += "0"; handled[j].Load() {
					got = got[:j] + "1"
				}
			}
			if got != want {
				t.Errorf("with %d answers: requests %s are handled, want %s", i, got, want)
			}
			close(gates[i])
			c.expect(int32(i), "answer")
		}
	})
}

func TestPeerThatGoesAwayEndsTheRequestThatHasItsConnection(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		w := newWaiting()
		c := start(t, n, Options{Handler: funcHandler{handle: w.handle, alone: true}}).connect(t)
		c.send(1, "")
		<-w.began
		must(t, c.Close())
		if got := <-w.ended; got != 1 {
			t.Errorf("request %d ended", got)
		}
	})
}

// TestListenersWithoutCallersHoldNoConnections: max.connections counts connections, not listeners that wait for one.
func TestListenersWithoutCallersHoldNoConnections(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		var listeners []Listener
		for _, name := range []string{"A", "B", "C"} {
			l, err := n.listen()
			must(t, err)
			listeners = append(listeners, Listener{Name: name, Listener: l})
		}
		r := run(t, n, Options{Handler: funcHandler{handle: echo}, Listeners: listeners, MaxConnections: 2})
		for i := range 2 {
			r.addr = listeners[i].Listener.Addr().String()
			c := r.connect(t)
			c.send(1, "x")
			c.expect(1, "x")
		}
		r.addr = listeners[2].Listener.Addr().String()
		third := r.connect(t)
		third.send(1, "x")
		must(t, third.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		if _, err := third.receive(); err == nil {
			t.Error("a third connection is served, want 2")
		}
	})
}

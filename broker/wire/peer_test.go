package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchOf is a small Fetch request of a follower.
func fetchOf(partitions int) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.Version, r.ReplicaState.ID = 17, 2
	t := kmsg.NewFetchRequestTopic()
	for i := range partitions {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition = int32(i)
		t.Partitions = append(t.Partitions, p)
	}
	r.Topics = append(r.Topics, t)
	return r
}

// fetched answers a Fetch with size bytes for each partition.
func fetched(size int) func(ctx context.Context, r *Request) (Response, Pending) {
	return func(_ context.Context, r *Request) (Response, Pending) {
		req := kmsg.NewPtrFetchRequest()
		req.Version = r.Version
		if err := req.ReadFrom(r.Body); err != nil {
			return Response{Close: true}, nil
		}
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = r.Version
		for _, t := range req.Topics {
			rt := kmsg.NewFetchResponseTopic()
			for _, p := range t.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition = p.Partition
				rp.RecordBatches = bytes.Repeat([]byte{byte(p.Partition)}, size)
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return Encode(resp), nil
	}
}

func (r *rig) peer(t testing.TB, o PeerOptions) *Peer {
	if o.Dial == nil {
		o.Dial = r.dial
	}
	p := NewPeer(r.addr, o)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func TestPeerAsksAndIsAnswered(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		r := start(t, n, Options{Handler: funcHandler{handle: fetched(100_000)}})
		p := r.peer(t, PeerOptions{ClientID: "broker-2"})
		for range 3 {
			got, err := p.Do(t.Context(), fetchOf(5))
			must(t, err)
			parts := got.(*kmsg.FetchResponse).Topics[0].Partitions
			for i, rp := range parts {
				if want := bytes.Repeat([]byte{byte(i)}, 100_000); !bytes.Equal(rp.RecordBatches, want) {
					t.Fatalf("partition %d: %d bytes differ", i, len(rp.RecordBatches))
				}
			}
		}
	})
}

func TestPeerEndsARequestWithItsContext(t *testing.T) {
	overNetworks(t, func(t *testing.T, n network) {
		never := func(_ context.Context, _ *Request) (Response, Pending) {
			return Response{}, func(ctx context.Context) (Response, error) {
				<-ctx.Done()
				return Response{}, ctx.Err()
			}
		}
		r := start(t, n, Options{Handler: funcHandler{handle: never}})
		p := r.peer(t, PeerOptions{})
		for range 2 { // the deadline of one request is not the next one's
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err := p.Do(ctx, fetchOf(1))
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
			if p.Connected() {
				t.Error("still connected: the answer to the request given up could be taken for another's")
			}
		}
	})
}

func TestPeerGivesUpAHalfOpenLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork()
		r := start(t, network{func() (net.Listener, error) { return n.Listen("server:0") }, n.Dial}, Options{Handler: funcHandler{handle: fetched(1)}})
		p := r.peer(t, PeerOptions{})
		if _, err := p.Do(t.Context(), fetchOf(1)); err != nil {
			t.Fatal(err)
		}
		n.SetFault("server", "client", Fault{Cut: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Do(ctx, fetchOf(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		n.SetFault("server", "client", Fault{})
		if _, err := p.Do(t.Context(), fetchOf(1)); err != nil {
			t.Errorf("after the link healed: %v", err)
		}
	})
}

// answering is a peer whose every request is answered with what answer makes of its correlation id.
func answering(t *testing.T, answer func(correlation []byte) []byte) *Peer {
	o := PeerOptions{MaxResponseBytes: 1 << 20, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			var head [12]byte
			if _, err := io.ReadFull(far, head[:]); err != nil {
				return
			}
			rest := make([]byte, binary.BigEndian.Uint32(head[:])-8)
			if _, err := io.ReadFull(far, rest); err != nil {
				return
			}
			_, _ = far.Write(answer(head[8:])) // the peer reports what it makes of it
		}()
		return near, nil
	}}
	p := NewPeer("x:1", o)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func framed(parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestPeerRefusesAnswersThatAreNone(t *testing.T) {
	endless := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0x3f}, make([]byte, 1<<20-100)...)
	for name, answer := range map[string]func(id []byte) []byte{
		"too long":           func(id []byte) []byte { return append([]byte{0, 0x20, 0, 0}, id...) },
		"negative":           func(id []byte) []byte { return append([]byte{0xff, 0, 0, 0}, id...) },
		"another's":          func(id []byte) []byte { return framed([]byte{9, 9, 9, 9}, []byte{0}) },
		"short":              func(id []byte) []byte { return framed(id, []byte{0, 0, 0}) },
		"more than it holds": func(id []byte) []byte { return framed(id, []byte{0}, endless) },
		"cut":                func(id []byte) []byte { return append([]byte{0, 0, 1, 0}, id...) },
	} {
		t.Run(name, func(t *testing.T) {
			p := answering(t, answer)
			if resp, err := p.Do(t.Context(), fetchOf(1)); err == nil || p.Connected() {
				t.Errorf("got %v, %v, want an error and the connection closed", resp, err)
			}
		})
	}
}

// fetchAnswers are bodies of Fetch responses of every version.
func fetchAnswers(rng *rand.Rand, fn func(key, version int16, body []byte)) {
	for _, s := range answerSchemas {
		r := kmsg.ResponseForKey(s.key)
		for v := int16(0); v <= r.MaxVersion(); v++ {
			for range 40 {
				r := kmsg.ResponseForKey(s.key)
				fill(rng, reflect.ValueOf(r).Elem(), 3)
				r.SetVersion(v)
				fn(s.key, v, r.AppendTo(nil))
			}
		}
	}
}

func TestPeerUnderstandsEveryAnswerThatKmsgWrites(t *testing.T) {
	const seed = 3
	fetchAnswers(rand.New(rand.NewPCG(seed, 0)), func(key, version int16, body []byte) {
		if err := checkAnswer(key, version, body); err != nil {
			t.Errorf("%s v%d: %v", kmsg.NameForKey(key), version, err)
		}
	})
}

func FuzzPeerAnswer(f *testing.F) {
	fetchAnswers(rand.New(rand.NewPCG(4, 0)), func(key, version int16, body []byte) {
		if version >= 17 {
			f.Add(key, version, body)
		}
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		r := kmsg.ResponseForKey(key)
		if r == nil || answerPrograms()[key] == nil || version < 0 || version > r.MaxVersion() || checkAnswer(key, version, body) != nil {
			return
		}
		r.SetVersion(version)
		used := testing.AllocsPerRun(1, func() { _ = r.ReadFrom(body) }) // what it refuses is refused
		if used > float64(len(body))+100 {
			t.Errorf("%v allocations for %d bytes", used, len(body))
		}
	})
}

func TestPeerReusesItsMemory(t *testing.T) {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 17
	topic, part := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	part.RecordBatches = make([]byte, 1<<20)
	topic.Partitions = append(topic.Partitions, part)
	resp.Topics = append(resp.Topics, topic)
	answer := framed([]byte{0, 0, 0, 0, 0}, resp.AppendTo(nil))
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := make([]byte, 1<<10)
		for {
			if _, err := far.Read(in); err != nil {
				return
			}
			copy(answer[4:8], in[8:12])
			if _, err := far.Write(answer); err != nil {
				return
			}
		}
	}()
	p := NewPeer("x:1", PeerOptions{Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }})
	req := fetchOf(1)
	const runs = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		if _, err := p.Do(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	// Under the race detector a pool forgets a quarter of what it is given.
	if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > 768<<10 {
		t.Errorf("%d bytes allocated for an answer of 1 MiB", got)
	}
	must(t, p.Close())
	<-done
}

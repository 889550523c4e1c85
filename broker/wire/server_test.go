package wire

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// funcHandler is a Handler made of functions.
type funcHandler struct {
	handle func(ctx context.Context, r *Request) (Response, Pending)
	limits func(key, version int16) (int32, bool)
}

func (h funcHandler) Handle(ctx context.Context, r *Request) (Response, Pending) {
	return h.handle(ctx, r)
}

func (h funcHandler) Limits(key, version int16) (int32, bool) {
	if h.limits == nil {
		return 1 << 20, key != 99
	}
	return h.limits(key, version)
}

// echo answers with the request's body.
func echo(_ context.Context, r *Request) (Response, Pending) {
	return Response{Buffers: [][]byte{append([]byte(nil), r.Body...)}}, nil
}

// start runs a server on a loopback listener until the test ends and returns its address.
func start(t testing.TB, o Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listeners = []Listener{{Name: "PLAINTEXT", Listener: l}}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return l.Addr().String()
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

// readFrame returns what follows the length field of the next response.
func readFrame(t testing.TB, r io.Reader) []byte {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatalf("read the size of a response: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("read a response: %v", err)
	}
	return b
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestResponseEchoesCorrelationAndBody(t *testing.T) {
	addr := start(t, Options{Handler: funcHandler{handle: echo}})
	c := dial(t, addr)
	for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.Fetch} {
		if _, err := c.Write(frame(int16(key), 1, 7, "me", []byte("hello"))); err != nil {
			t.Fatal(err)
		}
		got := readFrame(t, c)
		if string(got) != "\x00\x00\x00\x07hello" {
			t.Errorf("got %q", got)
		}
	}
}

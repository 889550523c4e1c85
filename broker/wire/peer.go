package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxPeerResponse bounds an answer where PeerOptions do not.
const maxPeerResponse = 128 << 20

var (
	errPeerClosed = errors.New("peer closed")
	errBadAnswer  = errors.New("malformed response")
)

// PeerOptions of a Peer. Dial is required.
type PeerOptions struct {
	// Dial opens a connection that is ready for requests: encrypted and authenticated where the listener wants that.
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	ClientID string
	// MaxResponseBytes bounds an answer; 128 MiB. A longer one is an error.
	MaxResponseBytes int32
}

// Peer is a connection to another broker, made when it is needed and made anew after an error. It asks one request at a
// time; only Answered is safe for concurrent use. The versions of requests are the caller's choice: brokers of one cluster know
// each other.
type Peer struct {
	addr      string
	o         PeerOptions
	formatter *kmsg.RequestFormatter

	conn        net.Conn // nil without a connection
	closed      bool
	correlation int32
	request     []byte  // reused
	answer      *buffer // what the last answer's byte slices point into
	answered    atomic.Bool
}

// NewPeer makes a Peer; the first request dials.
func NewPeer(addr string, o PeerOptions) *Peer {
	if o.MaxResponseBytes <= 0 {
		o.MaxResponseBytes = maxPeerResponse
	}
	return &Peer{addr: addr, o: o, formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID(o.ClientID))}
}

// Addr is the address that Do dials.
func (p *Peer) Addr() string { return p.addr }

// Connected says whether there is a connection that no error has ended.
func (p *Peer) Connected() bool { return p.conn != nil }

// Answered says whether a Do is under way and its answer has begun to arrive.
func (p *Peer) Answered() bool { return p.answered.Load() }

// Do sends a request and returns its answer. Byte slices in the answer are valid until the next Do or Close; while a
// request waits, none of the last answer's memory is held. An error, or the end of ctx before the answer, closes the
// connection; the next Do dials again. Do never repeats a request.
func (p *Peer) Do(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	p.release()
	if p.closed {
		return nil, fmt.Errorf("%s: %w", p.addr, errPeerClosed)
	}
	if err := p.connect(ctx); err != nil {
		return nil, err
	}
	resp, err := p.roundTrip(ctx, req)
	if err != nil {
		_ = p.hangUp() // err says why
		if ctx.Err() != nil {
			err = ctx.Err() // the deadline that broke the read is not the caller's word for it
		}
		return nil, fmt.Errorf("%s to %s: %w", kmsg.NameForKey(req.Key()), p.addr, err)
	}
	return resp, nil
}

// Close ends the connection.
func (p *Peer) Close() error {
	p.closed = true
	p.release()
	return p.hangUp()
}

func (p *Peer) hangUp() error {
	if p.conn == nil {
		return nil
	}
	err := p.conn.Close()
	p.conn = nil
	return err
}

// release gives the last answer's memory back.
func (p *Peer) release() {
	if p.answer != nil {
		scribble(p.answer.bytes)
		p.answer.free()
		p.answer = nil
	}
}

func (p *Peer) connect(ctx context.Context) error {
	if p.conn != nil {
		return nil
	}
	conn, err := p.o.Dial(ctx, "tcp", p.addr)
	if err != nil {
		return fmt.Errorf("dial %s: %w", p.addr, err)
	}
	p.conn = conn
	return nil
}

func (p *Peer) roundTrip(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	conn := p.conn
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		// A connection that has no deadlines is closed instead.
		if conn.SetDeadline(time.Unix(1, 0)) != nil {
			_ = conn.Close() // the read that it ends reports
		}
	})
	defer func() {
		if !stop() {
			<-interrupted // or it would hit the next request's deadline
		}
	}()
	p.correlation++
	p.request = p.formatter.AppendRequest(p.request[:0], req, p.correlation)
	defer p.answered.Store(false)
	if _, err := conn.Write(p.request); err != nil {
		return nil, err
	}
	if cap(p.request) > maxReused {
		p.request = nil
	}
	body, err := p.read(flexible(req.Key(), req.GetVersion()) && req.Key() != apiVersions)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	if err := checkAnswer(req.Key(), req.GetVersion(), body); err != nil {
		return nil, err
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return resp, nil
}

// read reads one frame and returns what follows its header.
func (p *Peer) read(tags bool) ([]byte, error) {
	var head [8]byte // size, correlation id
	if _, err := io.ReadFull(p.conn, head[:]); err != nil {
		return nil, err
	}
	p.answered.Store(true)
	size := int32(binary.BigEndian.Uint32(head[:]))
	if size < 4 || size > p.o.MaxResponseBytes {
		return nil, fmt.Errorf("%w: %d bytes, want 4 to %d", errBadAnswer, size, p.o.MaxResponseBytes)
	}
	if id := int32(binary.BigEndian.Uint32(head[4:])); id != p.correlation {
		return nil, fmt.Errorf("%w: it answers request %d, want %d", errBadAnswer, id, p.correlation)
	}
	p.answer = getBuffer(int(size - 4))
	body := p.answer.bytes
	if _, err := io.ReadFull(p.conn, body); err != nil {
		return nil, err
	}
	if !tags {
		return body, nil
	}
	w := walker{rest: body, budget: answerBudget, tags: maxTags}
	if r := w.tagged(&op{kind: opTags}); r != walkOK {
		return nil, fmt.Errorf("%w: header", errBadAnswer)
	}
	return w.rest, nil
}

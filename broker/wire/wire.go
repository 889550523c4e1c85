package wire

import (
	"context"
	"io"
	"time"
)

// Request is one request frame with its header parsed. It is valid until its response has been handed over (Handle
// returned a response, or its Pending returned one).
type Request struct {
	// Key and Version are those of the header. For ApiVersions the version may be one that the handler does not have:
	// Kafka answers it in version 0 with UNSUPPORTED_VERSION, and so must the handler.
	Key, Version  int16
	CorrelationID int32
	// ClientID is empty when the client sent null.
	ClientID string
	Conn     *Conn
	// Body is what follows the header. It lies in a pooled buffer: that of a pipelined request is valid until Handle
	// returns, that of any other as long as the request is.
	Body []byte
	// Received is when the frame had been read.
	Received time.Time
	// Size is the size of the frame without its length field.
	Size int

	claim claim
}

// Guard is [Guard] of the body, and charges the request what its decoded form takes, waiting for that memory until ctx
// ends. It must be passed before the body is decoded.
func (r *Request) Guard(ctx context.Context, budget int64) error {
	_, cost, err := guard(r.Key, r.Version, r.Body, budget)
	if err != nil {
		return err
	}
	return r.Charge(ctx, cost)
}

// Charge charges the request n bytes more, waiting for that memory until ctx ends: for an answer, before it is made.
// Everything is given back when the answer has been written.
func (r *Request) Charge(ctx context.Context, n int64) error {
	return r.Conn.server.budget.grow(ctx, &r.claim, n)
}

// Payload is a part of a response that is not in memory, such as a region of a file. Len bytes are written by one
// call of WriteTo, which gets a syscall.Conn where the connection is a plain TCP connection, so that sendfile can be
// used. Release is called exactly once, also when the payload is never written.
type Payload interface {
	Len() int64
	WriteTo(w io.Writer) (int64, error)
	Release()
}

// Prefer lets what is charged to the request from here on go before what clients ask for: replication is not held up
// by their memory.
func (r *Request) Prefer() { r.claim.prior = true }

// pinning is a Payload that is in memory after all: its owner charges it, and it is written like an answer that is.
type pinning interface {
	// Pinned is how many bytes are held until Release.
	Pinned() int64
}

// Response is the body of a response; the server puts size and header in front of it.
// What is written is Buffers[0] Payloads[0] Buffers[1] Payloads[1] …; either list may be the longer one.
type Response struct {
	Buffers  [][]byte
	Payloads []Payload
	// Throttle mutes the connection for that long once the response is on its way (KIP-219).
	Throttle time.Duration
	// Close ends the connection after the response; with neither Buffers nor Payloads, without a response.
	Close bool
	// Err says why the connection is closed, when it is because the peer does not speak the protocol.
	Err error
	// None means that the request has no response: acks=0.
	None bool
	// Failed counts the request as one that was answered with an error, for metrics.
	Failed bool

	encoded *encoded // where Buffers come from, nil when the handler made them
}

// silent tells whether nothing is written.
func (r *Response) silent() bool {
	return r.None || r.Close && len(r.Buffers) == 0 && len(r.Payloads) == 0
}

// Pending finishes a response that has to wait. The writer of the connection calls it, in request order and exactly
// once, also when the connection is gone: ctx ends with the connection or when the server stops hard, and what the
// request holds can then be let go. An error closes the connection without an answer.
//
// A Pending that is about to wait does so with ctx.Done() among its cases; answers that are ready are sent
// before that call returns. One that does not wait does not cause a write of its own.
type Pending func(ctx context.Context) (Response, error)

// Terms are what a handler says of an API version before anything of its frame but the first bytes has been read.
type Terms struct {
	// MaxBytes is the largest frame.
	MaxBytes int32
	// Pipelined requests take effect in Handle, and only their answers wait: the requests behind them are handled
	// meanwhile. Any other request has its connection to itself, as all requests have in Kafka: it is handled when
	// everything before it is answered, and nothing behind it is handled before its answer has left.
	Pipelined bool
}

// Handler is what the server calls for each request.
type Handler interface {
	// Handle is the ordered phase of a request. It runs on the read loop of the connection: no other request of that
	// connection is handled until it returns. If the Pending is not nil, the Response is ignored.
	// ctx ends with the connection.
	Handle(ctx context.Context, r *Request) (Response, Pending)
	// Terms returns the terms of an API version. Without ok the connection is closed, as Kafka does for an unknown key
	// or version; only ApiVersions is handed on in any version.
	Terms(key, version int16) (t Terms, ok bool)
}

package wire

import (
	"context"
	"io"
	"time"
)

// Request is one request frame with its header parsed. It is valid until its response has been handed over (Handle
// returned a response, or its Pending returned one); Body only until Handle returns.
type Request struct {
	// Key and Version are those of the header. For ApiVersions the version may be one that the handler does not have:
	// Kafka answers it in version 0 with UNSUPPORTED_VERSION, and so must the handler.
	Key, Version  int16
	CorrelationID int32
	// ClientID is empty when the client sent null.
	ClientID string
	Conn     *Conn
	// Body is what follows the header. It lies in a pooled buffer: whoever keeps a part of it beyond Handle copies it.
	Body []byte
	// Received is when the frame had been read.
	Received time.Time
	// Size is the size of the frame without its length field.
	Size int
}

// Payload is a part of a response that is not in memory, such as a region of a file. Len bytes are written by one
// call of WriteTo, which gets the *net.TCPConn itself where the connection is a plain one, so that sendfile can be
// used. Release is called exactly once, also when the payload is never written.
type Payload interface {
	Len() int64
	WriteTo(w io.Writer) (int64, error)
	Release()
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

// Handler is what the server calls for each request.
type Handler interface {
	// Handle is the ordered phase of a request. It runs on the read loop of the connection: no other request of that
	// connection is handled until it returns. If the Pending is not nil, the Response is ignored.
	// ctx ends with the connection.
	Handle(ctx context.Context, r *Request) (Response, Pending)
	// Limits returns the largest frame of an API version, before anything of the frame but its first bytes has been
	// read. Without ok the connection is closed, as Kafka does for an unknown key or version; only ApiVersions
	// is handed on in any version.
	Limits(key, version int16) (maxBytes int32, ok bool)
}

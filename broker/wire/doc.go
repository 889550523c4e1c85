// Package wire speaks Kafka's framing on a listener and hides everything between a TCP connection and a request:
// limits, memory, order, pipelining, throttling, sendfile, idle and graceful ends. It does not know the APIs: the
// Handler does.
//
// # Frames
//
//	request   size int32 | key int16 | version int16 | correlation id int32 | client id (nullable string) | [tags] | body
//	response  size int32 | correlation id int32 | [tags] | body
//
// Tags are there from the first flexible version of the API on (request header v2, response header v1). An
// ApiVersions response always has header v0, so that a client of any age can read it (KIP-511).
//
// # Goroutines and order
//
// A connection has a reader and a writer. The reader reads one frame at a time and runs the handler's ordered phase; what
// has to wait is returned as a Pending and runs on the writer, which answers strictly in request order. A pipelined
// request (Terms) takes effect in the ordered phase, so the next one may be handled while its answer waits: at most
// Options.MaxInFlight of a connection are unanswered. Any other request has the connection to itself. Beyond that the
// reader stops reading and TCP pushes back. The head of the next frame is read meanwhile, so that a peer that goes away
// is noticed.
//
// # Memory
//
// No length from the peer is trusted: a frame is refused before it is read when it is larger than its API and
// version allow, and Guard walks a body's arrays before anything decodes it. Every byte that a request holds is charged to
// its connection and to the budget of the server (Options.MemoryBytes), until it is released:
//
//   - frames as they arrive, in buffers that grow; those that fit a connection's small read-ahead need none,
//   - what the body decodes to (Request.Guard) and what the handler says its answer takes (Request.Charge),
//   - the encoded answer, until it is written. Payloads are not in memory, or in their owner's.
//
// The frame of a pipelined request is given back when its ordered phase ends, so a produce that waits for acks or a long
// poll holds little. Small claims have a part of the budget for themselves (smallShare). A connection that holds memory
// and makes no progress, with its frame or with its answer, is closed after Options.StallTimeout, and within seconds
// while somebody waits for memory; long polls then answer with what they have (Idle).
package wire

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
// A connection has a reader and a writer. The reader reads one frame at a time and runs the handler's ordered phase, so
// requests take effect in the order of their arrival; what has to wait is returned as a Pending and runs on the writer.
// The writer answers strictly in request order. At most Options.MaxInFlight requests of a connection are unanswered:
// beyond that the reader stops reading and TCP pushes back.
//
// # Memory
//
// No length from the peer is trusted: a frame is refused before it is read when it is larger than its API and
// version allow, and Guard walks a body's arrays before anything decodes it. Frames that do not fit a connection's
// small read-ahead are read into pooled buffers; their bytes, from all connections together, are bounded by
// Options.MemoryBytes. A buffer goes back to its pool when the ordered phase ends, so a waiting request (a long poll, a
// produce waiting for acks) holds none.
package wire

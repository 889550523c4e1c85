// Package api answers Kafka's requests: one file per API key, from the decoded
// request through calls into the domain to the response.
//
// It is the only place that knows Kafka's error codes (errors.go, with the one
// exception of the group coordinator, whose answers are Kafka's messages) and
// which versions of which API are served (versions.go).
//
// # A request's path
//
// wire calls [API.Handle] on the connection's read loop, in arrival order. The
// version table says how an API is served:
//
//   - serve: the request has its connection to itself, as every request has in
//     Kafka. Everything before it is answered, nothing behind it has begun. So
//     DeleteRecords, ListOffsets or OffsetCommit mean what they meant when they
//     arrived, however long they wait, and a connection holds one answer.
//   - pipelined: Produce and Fetch. All that the request means takes effect on
//     the read loop: Produce appends, Fetch makes its step of the session and
//     finds its topics. Only the wait for acks or records is pending, so Produce
//     appends in arrival order while the acks of earlier requests are awaited.
//
// Before kmsg decodes, the lengths in the body are walked and what the decoded
// form takes is charged to the request (wire.Request.Guard). Handlers whose answer
// is larger than their request charge it before they make it.
//
// Responses are encoded by kmsg into buffers of wire, but those of Produce and
// Fetch, which are encoded here: see encoder. An answer is bounded by its
// request: what is named a thousand times is answered once.
//
// # Fetch sessions
//
// A request works on copies of its session's partitions, so requests of one
// session cannot disturb each other; when another came in between, the answer
// is INVALID_FETCH_SESSION_EPOCH. Lock order: a session, then the cache.
//
// # Security
//
// Every handler asks [API.allowed] with the connection's principal before it
// touches a resource, and byte-moving handlers charge the quota manager.
// Nothing is denied or throttled until it is configured.
package api

// Package api answers Kafka's requests: one file per API key, from the decoded
// request through calls into the domain to the response.
//
// It is the only place that knows Kafka's error codes (errors.go, with the one
// exception of the group coordinator, whose answers are Kafka's messages) and
// which versions of which API are served (versions.go).
//
// # A request's path
//
// wire calls [API.Handle] on the connection's read loop, in arrival order:
// Guard walks the array lengths, kmsg decodes, the handler runs. A handler
// either answers at once or returns a pending part that wire runs on the
// connection's writer, in request order. So Produce appends in arrival order
// while the acks of earlier requests are still awaited.
//
// Handlers marked as waiting in the version table run wholly in the pending
// part, with their own copy of the request body. Those marked as deciding may
// wait for etcd, for as long as the request says.
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

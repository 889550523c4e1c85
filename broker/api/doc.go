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
// part, with their own copy of the request body.
//
// # Security
//
// Every handler asks [API.allowed] with the connection's principal before it
// touches a resource, and byte-moving handlers charge the quota manager.
// Nothing is denied or throttled until it is configured.
package api

// Package servers runs the real S3 servers that tests and benchmarks talk to: MinIO and versitygw,
// as processes of this machine, without containers. It hides where the binaries come from: they
// are built once with `go install` into $COLDBROOK_CACHE/bin, else <user cache>/coldbrook/bin, under
// a file lock, so that parallel test binaries on a fresh machine build each of them once. Neither
// is linked into anything (MinIO is AGPL).
//
// Servers listen on a free loopback port that they keep over Stop and Start, store below a given
// directory, and die with the process that started them.
package servers

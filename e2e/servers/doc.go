// Package servers runs the real servers that tests and benchmarks talk to: the S3 servers MinIO and
// versitygw, and etcd, as processes of this machine, without containers. It hides where the binaries come
// from: they are built once into $COLDBROOK_CACHE/bin, else <user cache>/coldbrook/bin, under a file lock,
// so that parallel test binaries on a fresh machine build each of them once. The S3 servers are linked
// into nothing (MinIO is AGPL). The binaries are static: they run in images made FROM scratch.
//
// Servers listen on free loopback ports that they keep over Stop and Start, store below a given
// directory, and die with the process that started them.
package servers

// Package bucket is a bucket as a library, without brokers: clusters → topics → manifests → segments → their indexes,
// topics' own files and snapshots of a cluster. Restore, fsck, verify and every other program that has the bucket alone
// stand on it. It hides keys, retries and what is kept in memory of what was read.
//
// A Bucket looks at what clusters have left there; it needs no more than an object store. A Cluster is one cluster's
// part of it as its brokers use it: manifests by the pointers that etcd has, attempts that are given up when a store
// hangs, a Memo of decoded roots, nodes and index heads. Both read the same objects.
//
// # Invariants
//
//   - What is returned was checked: checksum, bounds, and that the object is the one that its name or the pointer says.
//   - An error names the object (ObjectError) and its kind: ErrMissing and ErrCorrupt are damage (IsDamage), for which
//     an older object may do; a newer format than this release reads (manifest.VersionError) ends the work, and no
//     older object is taken in its place; anything else is about the store and may pass. A store that does not answer
//     is never taken for one that has nothing.
//   - Objects are immutable but topic.json, so nothing in a Memo is ever stale.
//   - A snapshot is written under a name that is free, and never again.
//
// # Formats
//
// Names, manifests and the header of all JSON objects are package manifest's. Of this package are
//
//	format                        object                    written    read by this release
//	coldbrook.topic               topics/<…>/topic.json     1          1
//	coldbrook.cluster.snapshot    cluster/<sequence>.json   1          1
//
// Members that this release does not know are kept when an object is rewritten, but for those of a single committed
// offset: what is added there takes a new version. Releases up to 2fd9a92 take such members for damage.
package bucket

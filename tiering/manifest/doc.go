// Package manifest says what a partition has in the object store. It is pure: no I/O, no clock; nodes come from a
// NodeSource, times from the caller. What it hides is the shape of the manifest: callers ask for the entry that holds
// an offset or a time, and edit the whole as one.
//
// # Bucket
//
// Names of objects are part of the format (names.go, parse.go). Below "<cluster-id>/", everything immutable but
// topic.json:
//
//	topics/<topic>.<topic-id>/topic.json                                            name, id, configuration
//	topics/<topic>.<topic-id>/<p>/segments/<base, 20 digits>-<leader epoch>-<uuid>.log   Kafka's bytes, untouched
//	topics/<topic>.<topic-id>/<p>/segments/<base, 20 digits>-<leader epoch>-<uuid>.idx   all indexes of it
//	topics/<topic>.<topic-id>/<p>/manifest/<leader epoch>-<sequence>.json           root
//	topics/<topic>.<topic-id>/<p>/manifest/leaf-<first offset>-<uuid>.json          node: up to 1,000 entries, or 50 references
//
// # Tree
//
// A partition's manifest is a tree of immutable objects. The root holds totals, the epoch lineage, references to
// sealed nodes and up to 100 entries (the open tail). A full tail becomes a part of a leaf, ten parts one leaf of
// 1,000 entries; 100 references of one level at the end of the root become 50 references and one node a level
// higher. So a root is some 30 KiB, at most about 80, whatever number of segments it covers; a seek reads at most
// one object per level (1,000,000 entries: a node of 50,000 and a leaf); a commit writes the root and, once in a
// hundred segments, a node. With all 1,000 entries of an open leaf inline, every commit and every start-up would
// move and parse up to 230 KiB a partition.
//
// # Invariants
//
//   - Entries are contiguous: each starts where the one before ended. Totals, lineage and references agree with
//     them. All of it is checked whenever a root or a node is encoded or decoded.
//   - Every length is bounded before anything is allocated for it (root.go has the bounds, which belong to the format).
//   - An Edit never changes the root it started from, and whatever it takes out of the manifest it puts on the new
//     root's garbage list with the time before which it must not be deleted: pending deletions survive a crash.
//
// # Format
//
// JSON objects with a header of fixed length that names format, version and the CRC32C of the whole object with the
// checksum's own digits as zeros (codec.go). topic.json and cluster snapshots have the same header.
//
// Members that a release does not know are kept when it rewrites the object around them (Unknown), in the root, nodes,
// entries, references and garbage. A change that an older release must not ignore takes a new version, which that refuses
// (VersionError); header and checksum are the same in all versions, so that it is not taken for damage.
//
//	format                     object                      written    read by this release
//	coldbrook.manifest.root    manifest/<epoch>-<seq>      1          1
//	coldbrook.manifest.node    manifest/leaf-…             1          1
//
// Releases up to 2fd9a92 read version 1 too, but take a member that they do not know for damage.
package manifest

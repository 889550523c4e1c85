// Package tiering keeps sealed segments of led partitions in an object store and reads them back: the
// RemoteLogManager. It decides which partition does what, and when, and leaves the rest to the packages below it: a
// Manager loads what the tier has of a partition that this broker leads (run.go), has segments copied and commits them
// (copy.go, commit.go), keeps house (keep.go), and hides all of it from replicas, who ask for an offset, a time or an
// epoch (remotelog.go).
//
//	manifest, index             what is stored, without I/O
//	bucket                      reading it, without brokers
//	upload, read, gc            what a broker does with it
//	restore, cost               what comes back without etcd · what it costs
//	object, cache, memory       the store, chunks of it near by, buffers outside the heap
//
// # Commit
//
// PUT .log, PUT .idx, verify, PUT the new root under a name never used before, then one etcd transaction that
// compares the old pointer and the partition's leader epoch. Only after it is the new end published, and only
// then may local segments go.
//
// # Passes
//
// A partition has one pass at a time (partition.busy), which alone edits its manifest. Options.Uploads partitions are
// copied at a time, that with the oldest un-uploaded segment next; one whose copy failed queues up anew from when it may
// be tried again. Nothing expires and nothing is deleted before the tier's state was loaded under the leadership.
//
// # Locks
//
// Manager.mu guards the map of partitions, partition.mu one partition's small state; neither is held across I/O.
package tiering

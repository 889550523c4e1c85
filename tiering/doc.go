// Package tiering keeps sealed segments of led partitions in an object store and reads them back: the
// RemoteLogManager. It hides where an old record lives: callers ask for an offset, a time or an epoch.
//
// What a partition has in the bucket, under which names, says package manifest.
//
// # Commit
//
// PUT .log, PUT .idx, verify, PUT the new root under a name never used before, then one etcd transaction that
// compares the old pointer and the partition's leader epoch. Only after it is the new end published, and only
// then may local segments go. Whatever a commit takes out of the manifest is put on the root's garbage list
// with the time before which it must not be deleted, so pending deletions survive a crash.
//
// # Uploads
//
// Options.Uploads partitions are copied at a time, that with the oldest un-uploaded segment next; one whose copy failed
// queues up anew from when it may be tried again. What an upload costs says package upload.
//
// # Disabling
//
// A topic whose remote.storage.enable is switched off gives its tier up, partition by partition, by the leader:
// copies stop, the log start moves to the local log start, one commit puts everything on the garbage list, and the
// objects go after the grace. Switched on again, copying begins at the local log start (disable.go, KIP-950).
//
// # Locks
//
// Manager.mu guards the map of partitions, partition.mu one partition's small state; neither is held across
// I/O. A partition's manifest is edited by one goroutine at a time (partition.busy).
package tiering

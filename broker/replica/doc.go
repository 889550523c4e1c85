// Package replica keeps this broker's partitions: their logs, who leads them,
// the in-sync replicas, the high watermark, and the requests that wait for it.
//
// It hides how an append becomes committed and how a fetch finds its bytes.
// Callers say what they want in Kafka's terms and get Go errors; Kafka's error
// codes are added in broker/api.
//
// # Leadership
//
// The cluster's [metadata.Image] says which partitions this broker holds and
// which it leads. [Manager.Run] follows it: it opens logs, assigns leader
// epochs, tells the remote log and the coordinators, and deletes what belongs
// to a deleted topic. A partition directory the Image does not name and no
// tombstone names is left alone, with a warning: losing metadata must not lose
// data.
//
// # High watermark
//
// The log's committer reports what is on stable storage. A leader's high
// watermark is the lowest such end over the in-sync replicas, so on one broker
// a record is committed, readable and acked in the same moment: when it is
// synced. It never goes back on one leader epoch line.
//
// # Fetch
//
// Offsets at or above LocalLogStart are answered with pinned file regions,
// those in [LogStart, LocalLogStart) by the [RemoteLog]. All cold partitions of
// one request are read in parallel. Hot partitions do not wait for cold ones: a
// request that already has its bytes gives cold reads only [coldGrace] more. A
// cold read that does not finish in time goes on in the remote log's cache, so
// the next poll is served from memory.
//
// Lock order: Manager.mu before Partition.mu before segment's own locks. No
// lock is held across I/O or a wait; Manager.mu guards only the map of
// partitions, which readers load without it.
package replica

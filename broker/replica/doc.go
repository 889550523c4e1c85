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
// which it leads, and under which registration: after a restart nothing is led
// before the controller has bumped the leader epoch. [Manager.Run] follows it: it
// opens logs, assigns leader epochs, tells the remote log and the coordinators,
// and deletes what belongs to a deleted topic or moved elsewhere. A partition
// that the Image does not name and no tombstone names is left alone, with a
// complaint: losing metadata must not lose data.
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
// one request are read in parallel and share what is left of its bytes; at least
// half of them if hot partitions want them too, so that neither starves the
// other. Hot partitions do not wait for cold ones: a request that already has
// its bytes gives cold reads only [coldGrace] more. A cold read that does not
// finish in time goes on in the remote log's cache, so the next poll is served
// from memory. A fetch that waits for data holds none.
//
// Lock order: Partition.mu before segment's own locks. No lock is held across
// I/O or a wait. The view of the partitions is replaced by one goroutine and
// read without a lock.
package replica

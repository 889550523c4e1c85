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
// which it leads, and under which registration: after a restart, or when a lease
// was lost, nothing is led before the controller has bumped the leader epoch.
// [Manager.Run] follows it, at the cost of what changes in it: it opens logs,
// begins leader epochs, has the others copied from their leaders, tells the remote
// log and the coordinators, and deletes what belongs to a deleted topic or moved
// elsewhere. What waits for a disk, opening and deleting logs, is done by others
// (jobs.go): an election waits for no other partition. A partition that the Image
// does not name and no tombstone names is left alone, with a complaint: losing
// metadata must not lose data. A directory that is in the way of another topic's
// partition, or that the metadata plainly contradicts, is put aside (strays.go).
//
// A log has one master at a time: the leader's appends, one follow (follow.go),
// or one recovery. Who takes over ends the one before first. A leader that was
// elected though it was not in sync, or whose log ends before its tier does, takes
// what the tier has before it leads (takeover.go). The pointer in the Image says where
// a tier ends, so a store that is away holds up no leader that has all of it.
//
// # In-sync replicas and high watermark
//
// The log's committer reports what is on stable storage; a follower asks for
// what it has on stable storage, so its fetch offset is the same of it. A leader's
// high watermark is the lowest such end over the maximal in-sync replicas: those
// that the Image shows and those that the leader has asked for and may have got.
// So whoever is elected has all that is committed. On one broker a record is
// committed, readable and acked in the same moment: when it is synced. The high
// watermark does not move while fewer than min.insync.replicas are in sync, and
// never goes back on one leader epoch line.
//
// The leader changes the in-sync replicas by compare-and-swap in the metadata
// store (isr_keeper.go), many partitions at a time, never on the path of a fetch
// or an append. One change of a partition is under way at a time; it is asked for
// again until the Image shows a later state.
//
// A leader is believed only with its lease and an Image that the store has just said
// is fresh: another one may have been elected when the lease ran out, or while it
// lasts. Without, acks=1 waits as acks=all does, and consumers are not told where the
// log ends before the followers have shown that they follow this leader (certain.go).
// Changes of the in-sync replicas wait for the lease, and are compared with the state
// that they were based on.
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
// A follower's fetch is noted before it is answered, and answered at once when it
// moved the high watermark, so that readers of followers are not a wait behind.
// Consumers are sent by the leader to a replica in their rack, and for what is in
// the tier only to replay brokers, which need no replica to read it (KIP-392).
//
// Lock order: Partition.mu before segment's own locks. No lock is held across
// I/O or a wait. The view of the partitions is replaced by one goroutine and
// read without a lock.
package replica

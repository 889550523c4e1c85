package replica

import "errors"

// Errors that callers test for.
var (
	// ErrUnknownPartition means there is no such partition.
	ErrUnknownPartition = errors.New("unknown topic or partition")
	// ErrUnknownTopicID means no topic has the id.
	ErrUnknownTopicID = errors.New("unknown topic id")
	// ErrNotLeader means this broker does not lead the partition.
	ErrNotLeader = errors.New("not leader or follower")
	// ErrFencedEpoch means the caller's leader epoch is older than ours (KIP-320).
	ErrFencedEpoch = errors.New("fenced leader epoch")
	// ErrUnknownEpoch means the caller's leader epoch is newer than ours (KIP-320).
	ErrUnknownEpoch = errors.New("unknown leader epoch")
	// ErrNotEnoughReplicas means fewer replicas are in sync than min.insync.replicas.
	ErrNotEnoughReplicas = errors.New("not enough in-sync replicas")
	// ErrNotEnoughReplicasAfterAppend means the same of records that are committed already.
	ErrNotEnoughReplicasAfterAppend = errors.New("appended, but not enough in-sync replicas are left")
	// ErrTimedOut means that acks did not come in the time the producer gave.
	ErrTimedOut = errors.New("timed out")
	// ErrPartitionOffline means the partition is this broker's but its log could not be opened.
	ErrPartitionOffline = errors.New("partition is offline")
	// ErrMovedToTier tells a follower that its offset is in the remote log only (KIP-405).
	ErrMovedToTier = errors.New("offset moved to tiered storage")
	// ErrRemote means the remote log could not give what it holds.
	ErrRemote = errors.New("remote log")
	// ErrKeepsRecords means a topic whose records may not be deleted by offset: it is compacted only.
	ErrKeepsRecords = errors.New("cleanup.policy has no delete")
	// ErrOffsetNotAvailable means the high watermark of a new leader is not known yet.
	ErrOffsetNotAvailable = errors.New("offset not available")
)

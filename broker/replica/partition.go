package replica

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

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

// Partition is one replica on this broker. Its methods are safe for concurrent use.
type Partition struct {
	tp     metadata.TopicPartition
	tip    metadata.TopicIDPartition
	broker metadata.BrokerID
	log    *segment.Log
	dir    *segment.Dir

	state     atomic.Pointer[state]
	moved     signal  // an end moved (synced, high watermark), or the state changed
	fetches   wakeups // consumers' fetches that wait for committed data
	followers wakeups // followers' fetches that wait for appended data

	// mu serialises changes of the high watermark with changes of state, so
	// that a deposed leader cannot move it.
	mu sync.Mutex
}

// state is what the Image says of the partition; immutable.
type state struct {
	metadata.Partition
	leading    bool
	epochStart int64 // where the log ended when this broker became leader
	minInSync  int
	gone       error // why the partition is not served any more, nil while it is
	config     segment.Config
	remote     bool // remote.storage.enable
}

// enoughInSync holds the in-sync replicas to min.insync.replicas, of which a
// topic with fewer replicas can only keep so many: Partition.effectiveMinIsr.
func (s *state) enoughInSync() bool { return len(s.ISR) >= min(s.minInSync, len(s.Replicas)) }

// follower says whether another broker's replica follows this one.
func (s *state) follower(id, self metadata.BrokerID) bool {
	return id != self && slices.Contains(s.Replicas, id)
}

// TopicPartition names the partition.
func (p *Partition) TopicPartition() metadata.TopicPartition { return p.tp }

// ID names the partition by topic id.
func (p *Partition) ID() metadata.TopicIDPartition { return p.tip }

// Log is the partition's local log.
func (p *Partition) Log() *segment.Log { return p.log }

// LeaderEpoch is the epoch of the leader this broker knows.
func (p *Partition) LeaderEpoch() int32 { return p.state.Load().LeaderEpoch }

// Leading says whether this broker leads the partition.
func (p *Partition) Leading() bool { return p.state.Load().leading }

// checkEpoch compares a client's idea of the leader epoch with ours; -1 is none (KIP-320).
func (s *state) checkEpoch(epoch int32) error {
	switch {
	case epoch == -1 || epoch == s.LeaderEpoch:
		return nil
	case epoch < s.LeaderEpoch:
		return ErrFencedEpoch
	default:
		return ErrUnknownEpoch
	}
}

// leaderState returns the state under which this broker leads, or why a request
// cannot be served: the order of the checks is Kafka's.
func (p *Partition) leaderState(epoch int32) (*state, error) {
	s := p.state.Load()
	if s.gone != nil {
		return nil, s.gone
	}
	if err := p.dir.Offline(); err != nil {
		return nil, err
	}
	if err := s.checkEpoch(epoch); err != nil {
		return nil, err
	}
	if !s.leading {
		return nil, ErrNotLeader
	}
	return s, nil
}

// synced is called by the log's committer: what lies below end is on stable
// storage. On a leader that may commit it.
func (p *Partition) synced(int64) {
	p.advance()
}

// advance recomputes the high watermark and wakes who waits for it. A lone
// in-sync replica's high watermark is what it has synced; followers' ends join
// the minimum as replication reports them.
func (p *Partition) advance() {
	p.mu.Lock()
	committed := false
	if s := p.state.Load(); s != nil && s.leading {
		if end := p.log.SyncedOffset(); end > p.log.HighWatermark() {
			p.log.SetHighWatermark(end)
			committed = true
		}
	}
	p.mu.Unlock()
	p.moved.broadcast()
	if committed {
		p.fetches.wake()
	}
}

// wakeAll makes everybody who waits look again.
func (p *Partition) wakeAll() {
	p.moved.broadcast()
	p.fetches.wake()
	p.followers.wake()
}

// update installs a new state and returns the old one.
func (p *Partition) update(s *state) (old *state) {
	p.mu.Lock()
	old = p.state.Load()
	p.state.Store(s)
	p.mu.Unlock()
	p.wakeAll()
	return old
}

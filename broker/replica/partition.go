package replica

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// Errors that callers test for.
var (
	// ErrUnknownPartition means this broker holds no such partition.
	ErrUnknownPartition = errors.New("unknown topic or partition")
	// ErrUnknownTopicID means no topic has the id.
	ErrUnknownTopicID = errors.New("unknown topic id")
	// ErrInconsistentTopicID means the partition belongs to another incarnation of the topic.
	ErrInconsistentTopicID = errors.New("inconsistent topic id")
	// ErrNotLeader means another broker leads the partition.
	ErrNotLeader = errors.New("not leader or follower")
	// ErrFencedEpoch means the caller's leader epoch is older than ours (KIP-320).
	ErrFencedEpoch = errors.New("fenced leader epoch")
	// ErrUnknownEpoch means the caller's leader epoch is newer than ours (KIP-320).
	ErrUnknownEpoch = errors.New("unknown leader epoch")
	// ErrNotEnoughReplicas means fewer replicas are in sync than min.insync.replicas.
	ErrNotEnoughReplicas = errors.New("not enough in-sync replicas")
	// ErrOffsetNotAvailable means the high watermark of a new leader is not known yet.
	ErrOffsetNotAvailable = errors.New("offset not available")
	// ErrUnsupportedTimestamp means a special timestamp we do not know.
	ErrUnsupportedTimestamp = errors.New("unsupported timestamp")
)

// Partition is one replica on this broker. Its methods are safe for concurrent use.
type Partition struct {
	tp     metadata.TopicPartition
	tip    metadata.TopicIDPartition
	broker metadata.BrokerID
	log    *segment.Log
	dir    *segment.Dir

	state   atomic.Pointer[state]
	moved   signal  // an end moved (synced, high watermark), or the state changed
	fetches wakeups // fetches that wait for data

	// mu serialises changes of the high watermark with changes of state, so
	// that a deposed leader cannot move it.
	mu sync.Mutex
}

// state is what the Image says of the partition; immutable.
type state struct {
	metadata.Partition
	leading   bool
	minInSync int
	removed   bool
	config    segment.Config
	remote    bool // remote.storage.enable
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
	case epoch < 0 || epoch == s.LeaderEpoch:
		return nil
	case epoch < s.LeaderEpoch:
		return ErrFencedEpoch
	default:
		return ErrUnknownEpoch
	}
}

func (p *Partition) leaderState(epoch int32) (*state, error) {
	s := p.state.Load()
	if s.removed {
		return nil, ErrUnknownPartition
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

// update installs a new state and returns the old one.
func (p *Partition) update(s *state) (old *state) {
	p.mu.Lock()
	old = p.state.Load()
	p.state.Store(s)
	p.mu.Unlock()
	p.moved.broadcast()
	p.fetches.wake()
	return old
}

package replica

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// Partition is one replica on this broker. Its methods are safe for concurrent use.
type Partition struct {
	m      *Manager
	tp     metadata.TopicPartition
	tip    metadata.TopicIDPartition
	broker metadata.BrokerID
	log    *segment.Log
	dir    *segment.Dir

	state     atomic.Pointer[state]
	moved     signal  // an end moved (synced, high watermark), or the state changed
	asked     signal  // a follower fetched, or the state changed
	fetches   wakeups // consumers' fetches that wait for committed data
	followers wakeups // followers' fetches that wait for appended data, or for news of the high watermark

	turn     turn                                // of who changes the log and is not its leader: a follow, or a recovery
	unfit    atomic.Bool                         // elected, and the log does not take the leader epoch
	expiring atomic.Int32                        // how often retention was asked for since somebody is at it
	recovery *recovery                           // of followImage alone; nil when none is under way
	spoilt   atomic.Pointer[segment.DamageError] // what was found in the open log and is not cut yet

	// Of followImage alone:
	damage    error     // for which the log was cut, until it is healed
	mendAfter time.Time // what is spoilt is not looked at before

	// mu serialises changes of the high watermark with changes of state, so
	// that a deposed leader cannot move it.
	mu        sync.Mutex
	peers     map[metadata.BrokerID]*peer // the followers, on the leader; else nil
	pending   *pendingChange              // asked for and not yet seen in the Image
	askAgain  time.Time                   // no change is asked for before
	recovered int32                       // leader epoch in which the log took what the tier has
}

// state is what the Image says of the partition; immutable.
type state struct {
	metadata.Partition
	elected    bool  // this broker is the leader, under its registration in force
	leading    bool  // and has begun to lead: see recovery
	epochStart int64 // where the leader epoch began, on its leader
	minInSync  int
	gone       error // why the partition is not served any more, nil while it is
	config     segment.Config
	remote     bool // remote.storage.enable
	throttled  bool // named in leader.replication.throttled.replicas
}

// enoughInSync holds the in-sync replicas to min.insync.replicas, of which a
// topic with fewer replicas can only keep so many: Partition.effectiveMinIsr.
func (s *state) enoughInSync() bool { return len(s.ISR) >= s.enough() }

func (s *state) enough() int { return min(s.minInSync, len(s.Replicas)) }

// underReplicated says whether replicas are out of sync, those that a
// reassignment adds aside.
func (s *state) underReplicated() bool { return len(s.ISR) < len(s.Replicas)-len(s.Adding) }

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
func checkEpoch(theirs, ours int32) error {
	switch {
	case theirs == -1 || theirs == ours:
		return nil
	case theirs < ours:
		return ErrFencedEpoch
	default:
		return ErrUnknownEpoch
	}
}

// leaderState returns the state under which this broker leads, or why a request
// cannot be served: the order of the checks is Kafka's.
func (p *Partition) leaderState(epoch int32) (*state, error) {
	s, err := p.replicaState(epoch)
	if err == nil && !s.leading {
		return nil, ErrNotLeader
	}
	return s, err
}

// replicaState is leaderState for what a follower may answer too. A broker that
// was elected and does not lead yet is neither.
func (p *Partition) replicaState(epoch int32) (*state, error) {
	s := p.state.Load()
	if s.gone != nil {
		return nil, s.gone
	}
	if err := p.dir.Offline(); err != nil {
		return nil, err
	}
	if err := checkEpoch(epoch, s.LeaderEpoch); err != nil {
		return nil, err
	}
	if !s.leading && s.Leader == p.broker {
		return nil, ErrNotLeader
	}
	return s, nil
}

// synced is called by the log's committer: what lies below end is on stable
// storage. On a leader that may commit it.
func (p *Partition) synced(int64) { p.advance() }

// wakeAll makes everybody who waits look again.
func (p *Partition) wakeAll() {
	p.moved.broadcast()
	p.asked.broadcast()
	p.fetches.wake()
	p.followers.wake()
}

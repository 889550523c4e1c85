package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// A leader whose lease is not confirmed may have been deposed without knowing it.
// What it shows was committed all the same, but where it says that the log ends is
// not to be believed: a consumer that is told that its offset is out of range goes
// elsewhere, and one that is told the latest offset stops there.

// certain says whether nobody else can lead the partition now.
func (p *Partition) certain(s *state) bool { return s.leading && p.m.leased(s, time.Now()) }

// certain says whether the caller may be told that its offset is not in the log.
// Followers name their leader epoch and are told; a consumer that is not told by
// the leader asks the leader.
func (f *fetch) certain(i int) bool {
	p := f.parts[i]
	return f.req.follower() || p == nil || p.certain(p.state.Load())
}

// confirmWait bounds how long a question waits for followers: some of their long
// polls.
func (m *Manager) confirmWait() time.Duration { return 4 * m.o.FetchWait }

// confirm returns when nobody else had begun to lead the partition at some moment
// since the call: the lease is confirmed, or else all who may have been elected go
// on asking this broker for records. ErrNotLeader means that this cannot be known.
func (p *Partition) confirm(ctx context.Context, s *state) error {
	if p.certain(s) {
		return nil
	}
	timer := time.NewTimer(p.m.confirmWait())
	defer timer.Stop()
	began := make(map[metadata.BrokerID]int64)
	for {
		asked := p.asked.next()
		now := p.state.Load()
		if !now.leading || now.LeaderEpoch != s.LeaderEpoch {
			return ErrNotLeader
		}
		if p.certain(now) || p.followed(now, began) {
			return nil
		}
		select {
		case <-asked:
		case <-timer.C:
			return fmt.Errorf("%w: the lease is not confirmed, and not all in-sync followers of %s ask", ErrNotLeader, p.tp)
		case <-ctx.Done():
			return fmt.Errorf("%w: the lease is not confirmed: %w", ErrNotLeader, ctx.Err())
		}
	}
}

// followed says whether all followers that may be elected have asked twice since
// began was noted, which it does at the first call: the first time may have been
// sent before, the second is sent by who has the answer to the first.
func (p *Partition) followed(s *state, began map[metadata.BrokerID]int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := true
	for id, f := range p.peers {
		if !p.countsLocked(s, id) {
			continue
		}
		if _, noted := began[id]; !noted {
			began[id] = f.asked
		}
		all = all && f.asked >= began[id]+2
	}
	return all
}

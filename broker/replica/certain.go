package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// A leader may have been deposed without knowing it: its lease ran out, or it was
// moved while the lease lasts, by a reassignment, a drain or the election of the
// preferred leader, and the watch of its Image is late. What it shows was committed
// all the same, but where it says that the log ends is not to be believed: a
// consumer that is told that its offset is out of range goes elsewhere, and one
// that is told the latest offset stops there. So it is believed only with its lease
// and an Image that is known to be fresh, or where its followers vouch for it.

// imageAge is how old what the Image is known to show may be for acks=1. Records
// acked so may be lost with a leader in any case; they must not be with one that
// was deposed long ago. It is some intervals at which the store is asked.
const imageAge = 500 * time.Millisecond

// current says whether the Image still shows this broker as the leader of s. The
// state of a partition follows the Image a little later.
func (p *Partition) current(s *state) bool {
	now, ok := p.m.o.Metadata.Image().PartitionByID(p.tip)
	return ok && now.Leader == s.Leader && now.LeaderEpoch == s.LeaderEpoch && now.LeaderBrokerEpoch == s.LeaderBrokerEpoch
}

// believed says whether this broker leads as far as its lease and its Image show,
// which are to be looked at after it is known how fresh the Image is.
func (p *Partition) believed(s *state, now time.Time) bool {
	return s.leading && p.m.leased(s, now) && p.current(s)
}

// leads says whether acks=1 may be given: the Image is fresh, or was a moment ago.
func (p *Partition) leads(s *state, fresh bool) bool {
	now := time.Now()
	fresh = fresh || now.Sub(p.m.o.Metadata.Confirmed()) <= imageAge
	return fresh && p.believed(s, now)
}

// atOnce says whether confirm has nothing to wait for but the store, which answered
// a moment ago, or nothing at all: nobody else can be elected.
func (p *Partition) atOnce() bool {
	s := p.state.Load()
	return p.leads(s, false) || s.leading && p.current(s) && p.followed(s, make(map[metadata.BrokerID]int64))
}

// confirmWait bounds how long a question waits for followers: some of their long
// polls.
func (m *Manager) confirmWait() time.Duration { return 4 * m.o.FetchWait }

// Confirm returns when nobody else had begun to lead the partition at some moment
// since the call: the lease is confirmed and a fresh Image shows it, or else all who
// may have been elected go on asking this broker for records. ErrNotLeader means
// that this cannot be known.
func (p *Partition) Confirm(ctx context.Context) error { return p.confirm(ctx, p.state.Load()) }

func (p *Partition) confirm(ctx context.Context, s *state) error {
	timer := time.NewTimer(p.m.confirmWait())
	defer timer.Stop()
	fresh := p.m.o.Metadata.Confirm()
	began := make(map[metadata.BrokerID]int64)
	for known := false; ; {
		asked := p.asked.next()
		now := p.state.Load()
		switch {
		case !now.leading || now.LeaderEpoch != s.LeaderEpoch || !p.current(now):
			return ErrNotLeader
		case known && p.believed(now, time.Now()) || p.followed(now, began):
			return nil
		}
		select {
		case <-asked:
		case <-fresh:
			known, fresh = true, nil
		case <-timer.C:
			return fmt.Errorf("%w: it is not known whether another broker leads, and not all in-sync followers of %s ask", ErrNotLeader, p.tp)
		case <-ctx.Done():
			return fmt.Errorf("%w: it is not known whether another broker leads: %w", ErrNotLeader, ctx.Err())
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

// confirm takes back what consumers may not be told by a leader that was deposed:
// that their offset is not in the log, or another epoch is. Followers name their
// leader epoch and are told; a consumer that is not told by the leader asks the
// leader.
func (f *fetch) confirm(ctx context.Context) {
	if f.req.follower() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, f.m.confirmWait())
	defer cancel()
	for i := range f.results {
		p, r := f.parts[i], &f.results[i]
		if p == nil || !errors.Is(r.Err, segment.ErrOffsetOutOfRange) && r.DivergingEpoch < 0 {
			continue
		}
		if err := p.confirm(ctx, p.state.Load()); err != nil {
			f.fail(i, ErrNotLeader)
		}
	}
}

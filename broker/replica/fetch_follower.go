package replica

import (
	"context"
	"math"
	"slices"
)

// note makes room for what is known of the follower that asks.
func (f *fetch) note() {
	n := len(f.req.Partitions)
	f.told, f.epochs = make([]int64, n), make([]int32, n)
	for i := range f.told {
		f.told[i], f.epochs[i] = math.MaxInt64, -1
	}
}

// lookAsFollower goes on with a follower's request of one partition. What it says
// of the follower is taken once, before the answer, so that the answer has the
// high watermark that follows from it.
func (f *fetch) lookAsFollower(i int, p *Partition, s *state) error {
	q, r := &f.req.Partitions[i], &f.results[i]
	if q.Offset < p.log.LocalLogStart() {
		return ErrMovedToTier
	}
	if f.epochs[i] < 0 {
		told, err := p.fetched(f.req, q, f.now)
		if err != nil {
			return err
		}
		f.told[i], f.epochs[i] = told, s.LeaderEpoch
		f.ends(p, r)
	}
	if r.HighWatermark > f.told[i] {
		f.urgent = true // its readers wait for it
	}
	if q.Offset < p.log.LogEnd() && !f.throttled(s) {
		f.hot = append(f.hot, i)
	}
	return nil
}

// throttled says whether a follower's partition is left out of the answer because
// leader.replication.throttled.rate is used up (KIP-73). Followers in sync are not
// held back: ReplicaManager.shouldLeaderThrottle.
func (f *fetch) throttled(s *state) bool {
	return s.throttled && !slices.Contains(s.ISR, f.req.Replica) && f.m.quota.spent(f.m.o.LeaderThrottle(), f.now)
}

// answered notes what the follower is told.
func (f *fetch) answered(ctx context.Context) {
	bytes, throttled := 0, 0
	for i := range f.results {
		p, r := f.parts[i], &f.results[i]
		if r.Err != nil || p == nil {
			continue
		}
		n := r.Size()
		bytes += n
		if n > 0 && p.state.Load().throttled {
			throttled += n
		}
		if f.epochs[i] >= 0 && r.HighWatermark > f.told[i] {
			p.tell(f.req.Replica, f.epochs[i], r.HighWatermark)
		}
	}
	if throttled > 0 {
		f.m.quota.take(f.m.o.LeaderThrottle(), throttled, f.now)
	}
	f.m.metrics.replicated(ctx, bytes)
}

package replica

import (
	"math"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// throttle holds replicas that are named in
// follower.replication.throttled.replicas, and are not in sync, to
// follower.replication.throttled.rate (KIP-73).
type throttle struct {
	m     *Manager
	rate  func() int64
	limit rateLimit

	mu      sync.Mutex
	configs map[metadata.TopicPartition]throttled // asked for at most once in configAge
}

// configAge is how long the answer whether a partition is throttled is kept.
const configAge = time.Second

type throttled struct {
	is bool
	at time.Time
}

func newThrottle(m *Manager) *throttle {
	return &throttle{m: m, rate: m.o.FollowerThrottle, configs: make(map[metadata.TopicPartition]throttled)}
}

// holds says whether a partition has to be left out for now.
func (t *throttle) holds(fo *follow, now time.Time) bool {
	rate := t.rate()
	return rate != math.MaxInt64 && fo.lag.Load() != 0 && t.named(fo.p.tp, now) && t.limit.spent(rate, now)
}

// record counts what was copied, of partitions in sync too: the rate is one for
// all, as in ReplicaFetcherThread.processPartitionData.
func (t *throttle) record(fo *follow, n int, now time.Time) {
	if rate := t.rate(); rate != math.MaxInt64 && t.named(fo.p.tp, now) {
		t.limit.take(rate, n, now)
	}
}

// named says whether the configuration throttles a partition here.
func (t *throttle) named(tp metadata.TopicPartition, now time.Time) bool {
	t.mu.Lock()
	known, ok := t.configs[tp]
	t.mu.Unlock()
	if ok && now.Sub(known.at) < configAge {
		return known.is
	}
	cfg, err := t.m.o.TopicConfig(t.m.o.Metadata.Image().TopicConfig(tp.Topic))
	is := err == nil && cfg.FollowerThrottled != nil && cfg.FollowerThrottled(tp.Partition, t.m.o.Broker)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.configs) > 10_000 {
		clear(t.configs) // partitions that are gone
	}
	t.configs[tp] = throttled{is, now}
	return is
}

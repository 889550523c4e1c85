package replica

import (
	"math"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// throttle holds replicas that are named in
// follower.replication.throttled.replicas, and are not in sync, to
// follower.replication.throttled.rate (KIP-73). What is taken beyond the rate is
// owed: nothing more is asked for until it is paid.
type throttle struct {
	m    *Manager
	rate func() int64

	mu      sync.Mutex
	left    float64 // bytes; negative while owed
	at      time.Time
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
	if rate == math.MaxInt64 || fo.lag.Load() == 0 || !t.named(fo.p.tp, now) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.payLocked(rate, now)
	return t.left < 0 || rate <= 0
}

// record counts what was copied, of partitions in sync too: the rate is one for
// all, as in ReplicaFetcherThread.processPartitionData.
func (t *throttle) record(fo *follow, n int, now time.Time) {
	rate := t.rate()
	if rate == math.MaxInt64 || !t.named(fo.p.tp, now) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.payLocked(rate, now)
	t.left -= float64(n)
}

// payLocked adds what the rate allows since the last time, at most a second's.
func (t *throttle) payLocked(rate int64, now time.Time) {
	if now.After(t.at) {
		t.left = min(t.left+now.Sub(t.at).Seconds()*float64(rate), float64(rate))
		t.at = now
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

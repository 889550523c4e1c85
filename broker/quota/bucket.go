package quota

import (
	"sync"
	"time"
)

// firstSweep is how many buckets there are before the idle ones are looked for.
const firstSweep = 1024

// bucket is a token bucket that may go into debt. It is not x/time/rate's because a request is recorded after it was
// done: it may be larger than the burst, and may have to be taken back.
type bucket struct {
	mu     sync.Mutex
	limit          // rate in tokens a second
	tokens float64 // below 0: debt
	at     time.Time
}

// limit is what a bucket holds at the moment: a rule may change it.
type limit struct{ rate, burst float64 }

// take takes n tokens and returns how long the bucket needs to pay its debt. What was used under another limit stays
// used.
func (b *bucket) take(n float64, l limit, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	b.relimitLocked(l)
	b.tokens = min(b.tokens-n, b.burst)
	return b.untilLocked(0)
}

// spend takes n tokens, unless there is a debt already.
func (b *bucket) spend(n float64, l limit, now time.Time) (debt time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	b.relimitLocked(l)
	if ok = b.tokens >= 0; ok {
		b.tokens -= n
	}
	return b.untilLocked(0), ok
}

func (b *bucket) relimitLocked(l limit) {
	if b.limit != l {
		b.tokens += l.burst - b.burst
		b.limit = l
	}
}

// untilLocked is how long it takes until there are n tokens.
func (b *bucket) untilLocked(n float64) time.Duration {
	if b.tokens >= n {
		return 0
	}
	return time.Duration(min((n-b.tokens)/b.rate, maxThrottle.Seconds()) * float64(time.Second))
}

// maxThrottle keeps a throttle time within what a response can say (an int32 of milliseconds).
const maxThrottle = 24 * time.Hour

func (b *bucket) advanceLocked(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(b.tokens+passed.Seconds()*b.rate, b.burst)
		b.at = now
	}
}

// full tells whether the bucket says no more than a new one would.
func (b *bucket) full(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	return b.tokens >= b.burst
}

// bucketOf returns the bucket of the quota that applies to a client, nil if there is none, and what it holds.
func (m *Manager) bucketOf(kind Kind, user, clientID string, now time.Time) (*bucket, limit) {
	rs := m.rules.Load()
	if rs == nil {
		return nil, limit{}
	}
	value, e, ok := rs.find(kind, user, clientID)
	if !ok {
		return nil, limit{}
	}
	l := m.limit(kind, value)
	// A default quota is not shared: each user and each client id that it covers has its own bucket.
	key := bucketKey{kind: kind, byUser: e.User.IsSet(), byClient: e.ClientID.IsSet()}
	if key.byUser {
		key.user = user
	}
	if key.byClient {
		key.clientID = clientID
	}
	m.mu.RLock()
	b := m.buckets[key]
	m.mu.RUnlock()
	if b == nil {
		b = m.newBucket(key, l, now)
	}
	return b, l
}

// limit is what a bucket of a kind holds. Reads of the tier are held to their rate second by second: ten seconds' worth
// of them at once is what producers would feel.
func (m *Manager) limit(kind Kind, value float64) limit {
	switch kind {
	case Request:
		value /= 100
	case RemoteFetch:
		return limit{rate: value, burst: value}
	}
	return limit{rate: value, burst: value * m.window.Seconds()}
}

// take counts n of a kind against the quota of a client, if there is one.
func (m *Manager) take(kind Kind, user, clientID string, n float64, now time.Time) time.Duration {
	b, l := m.bucketOf(kind, user, clientID, now)
	if b == nil {
		return 0
	}
	return b.take(n, l, now)
}

func (m *Manager) newBucket(key bucketKey, l limit, now time.Time) *bucket {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.buckets[key]; b != nil {
		return b
	}
	if len(m.buckets) >= m.sweepAt {
		// Client ids come from outside: those that ask for nothing any more are forgotten.
		for k, b := range m.buckets {
			if b.full(now) {
				delete(m.buckets, k)
			}
		}
		m.sweepAt = max(firstSweep, 2*len(m.buckets))
	}
	b := &bucket{limit: l, tokens: l.burst, at: now}
	m.buckets[key] = b
	return b
}

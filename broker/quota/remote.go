package quota

import (
	"time"
)

// remoteSteps is how many answers a second a reader that is held to its remote_fetch_byte_rate gets, if the answers
// have room for as much: many small ones would cost requests, few large ones would come in jerks.
const remoteSteps = 8

// Remote is one fetch's part of its client's [RemoteFetch] quota. What a read of the tier may give is reserved before
// it, so that fetches beside each other do not each get the whole rate. A nil Remote has no limit. It is not safe for
// concurrent use; several of one client may be used at once.
type Remote struct {
	m        *Manager
	b        *bucket
	limit    limit
	reserved float64
	used     float64
	throttle time.Duration
}

// Remote returns the part of one fetch in the quota of its client, nil if there is none.
func (m *Manager) Remote(user, clientID string, now time.Time) *Remote {
	b, l := m.bucketOf(RemoteFetch, user, clientID, now)
	if b == nil {
		return nil
	}
	return &Remote{m: m, b: b, limit: l}
}

// Reserve takes up to want bytes out of the quota and returns how many, or 0 and how long it takes until there is
// enough to be worth a read. Each Reserve that takes is followed by a Settle.
func (r *Remote) Reserve(want int, now time.Time) (n int, wait time.Duration) {
	if r == nil {
		return want, 0
	}
	took, wait := r.b.reserve(float64(want), r.limit.rate/remoteSteps, r.limit, now)
	r.reserved += took
	return int(took), r.wait(wait)
}

// Settle says how many bytes were handed out of what was reserved. One batch may be more than that: the client owes
// the rest.
func (r *Remote) Settle(used int, now time.Time) {
	if r == nil {
		return
	}
	r.b.take(float64(used)-r.reserved, r.limit, now)
	r.used, r.reserved = r.used+float64(used), 0
}

// Undo takes back all that was settled: it was not handed out after all.
func (r *Remote) Undo(now time.Time) {
	if r == nil {
		return
	}
	r.b.take(-r.used, r.limit, now)
	r.used = 0
}

// Wait is how long it takes until as much as want can be reserved again.
func (r *Remote) Wait(want int, now time.Time) time.Duration {
	if r == nil {
		return 0
	}
	took, wait := r.b.reserve(float64(want), r.limit.rate/remoteSteps, r.limit, now)
	if took > 0 {
		r.b.take(-took, r.limit, now)
	}
	return r.wait(wait)
}

// wait is never longer than a window, so that a quota that was raised is noticed.
func (r *Remote) wait(d time.Duration) time.Duration { return min(d, r.m.sample) }

// Refused counts a fetch that gave no cold records because its client is over the quota.
func (r *Remote) Refused() {
	if r != nil {
		r.m.counts[RemoteFetch].times.Add(1)
	}
}

// Throttle has the client come back after d.
func (r *Remote) Throttle(d time.Duration) {
	if r != nil && d > 0 {
		r.throttle = d
		r.m.counts[RemoteFetch].nanos.Add(int64(d))
	}
}

// Throttled is what Throttle was told.
func (r *Remote) Throttled() time.Duration {
	if r == nil {
		return 0
	}
	return r.throttle
}

// reserve takes up to n tokens, but none unless there are n or least. It returns how many, or how long that takes.
func (b *bucket) reserve(n, least float64, l limit, now time.Time) (float64, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	b.relimitLocked(l)
	least = min(n, least)
	if b.tokens < least {
		return 0, b.untilLocked(least)
	}
	n = min(n, b.tokens)
	b.tokens -= n
	return n, 0
}

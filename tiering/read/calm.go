package read

import (
	"context"
	"time"

	"github.com/coldbrook/coldbrook/tiering/cache"
)

// Readers that are held to a rate, all by the same quota perhaps, come in step, and what is read ahead for them would
// be asked for all at once: the machine is idle for a while, and then busy for as long as so many chunks take, which
// producers feel. What is read ahead for readers that are in no hurry is fetched one after the other, as many at a
// time as the store is far away.
const (
	calmWidth = 1 << 10              // of the lane that such fetches share; each takes its part of it
	calmNear  = 5 * time.Millisecond // a store that is nearer takes one at a time
	calmWait  = 50 * time.Millisecond
)

// calmly makes a fetch wait for its turn, but not for long: one that hangs must not hold up the others.
func (r *Reader) calmly(fetch cache.Fetch) cache.Fetch {
	return func(ctx context.Context, dst []byte) (int, error) {
		part := max(calmWidth/(1+int64(r.pace.shortest()/calmNear)), 1)
		turn, cancel := context.WithTimeout(ctx, calmWait)
		defer cancel()
		if r.lane.Acquire(turn, part) == nil {
			defer r.lane.Release(part)
		}
		return fetch(ctx, dst)
	}
}

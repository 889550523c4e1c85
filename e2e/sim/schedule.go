package sim

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"
)

// kind is a fault, or something an operator does.
type kind struct {
	name    string
	every   time.Duration // on average, in the seeds that have it
	percent int           // of the seeds have it
	longest time.Duration // how long it may take
	do      func(ctx context.Context, w *world, s step)
}

// step is one thing that happens at a time.
type step struct {
	at   time.Duration
	kind *kind
	a, b int           // draws for whom
	d    time.Duration // draw for how long
	n    uint64        // draw for the rest
}

func (s step) String() string {
	return fmt.Sprintf("%8.3fs %s a=%d b=%d for %v n=%d", s.at.Seconds(), s.kind.name, s.a, s.b, s.d.Round(time.Millisecond), s.n)
}

// calm is how long clients may begin in peace.
const calm = 2 * time.Second

// plan draws what happens in a run of that length. Every kind draws from the
// seed and its own name, so that a new kind changes no other's steps.
func plan(seed uint64, length time.Duration, kinds []*kind) []step {
	var steps []step
	for _, k := range kinds {
		h := fnv.New64a()
		_, _ = h.Write([]byte(k.name)) // a hash never fails
		rng := rand.New(rand.NewPCG(seed, h.Sum64()))
		if rng.IntN(100) >= k.percent {
			continue
		}
		for at := calm + draw(rng, k.every); at < length; at += draw(rng, k.every) {
			steps = append(steps, step{at, k, rng.IntN(1 << 16), rng.IntN(1 << 16), draw(rng, k.longest/2), rng.Uint64N(1 << 32)})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return steps
}

// draw is between 0 and twice the mean.
func draw(rng *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(2*mean) + 1)).Truncate(time.Millisecond)
}

// follow does the steps at their times and returns when the last has ended.
func (w *world) follow(ctx context.Context, steps []step, length time.Duration) {
	begin := time.Now()
	for _, s := range steps {
		time.Sleep(time.Until(begin.Add(s.at)))
		w.steps.Go(func() { s.kind.do(ctx, w, s) })
	}
	time.Sleep(time.Until(begin.Add(length)))
	w.steps.Wait()
}

package bucket

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// Retries is how often a store is asked again.
const Retries = 3

// Retry repeats what a store may do better the next time, with short pauses. Each attempt is given up after
// Options.Stall: a store that hangs must not hold a partition for ever.
func (c *Cluster) Retry(ctx context.Context, fn func(context.Context) error) error {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, c.o.Stall)
		err := fn(attempt)
		late := attempt.Err() != nil
		cancel()
		if err == nil || n == Retries || ctx.Err() != nil || !late && !object.Retriable(err) {
			return err
		}
		if !Sleep(ctx, Backoff(n, c.o.RetryMin/4, c.o.RetryMax)) {
			return err
		}
	}
}

// Sleep says false when ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Backoff doubles from lo to hi with a fifth of jitter, as Kafka's remote log manager does.
func Backoff(failures int, lo, hi time.Duration) time.Duration {
	d := hi
	if failures < 16 {
		d = min(lo<<failures, hi)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

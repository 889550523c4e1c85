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
		if !c.Pause(ctx, n) {
			return err
		}
	}
}

// Stall is after how long without an answer or progress an attempt is given up.
func (c *Cluster) Stall() time.Duration { return c.o.Stall }

// Pause waits before an operation is tried again that has failed n times before. It says false when ctx ended first.
func (c *Cluster) Pause(ctx context.Context, n int) bool {
	return Sleep(ctx, Backoff(n, c.o.RetryMin/4, c.o.RetryMax))
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

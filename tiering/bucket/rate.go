package bucket

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// NewLimiter allows bursts of a second.
func NewLimiter(bytesPerSecond int64) *rate.Limiter {
	return rate.NewLimiter(limit(bytesPerSecond), Burst(bytesPerSecond))
}

// SetRate changes the rate of a limiter, also for what waits.
func SetRate(l *rate.Limiter, bytesPerSecond int64) {
	l.SetBurst(Burst(bytesPerSecond))
	l.SetLimit(limit(bytesPerSecond))
}

func limit(bytesPerSecond int64) rate.Limit {
	if bytesPerSecond <= 0 {
		return rate.Inf
	}
	return rate.Limit(bytesPerSecond)
}

// Burst is a second's worth, but never less than one read of a body.
func Burst(bytesPerSecond int64) int {
	if bytesPerSecond <= 0 {
		return 1 << 30
	}
	return int(min(max(bytesPerSecond, 64<<10), 1<<30))
}

// Take takes n bytes out of a limiter before they are moved, and returns how long it waited.
func Take(ctx context.Context, l *rate.Limiter, n int64) (time.Duration, error) {
	if l.Limit() == rate.Inf {
		return 0, nil
	}
	start := time.Now()
	for n > 0 {
		step := min(n, int64(l.Burst()))
		if err := l.WaitN(ctx, int(step)); err != nil {
			if step > int64(l.Burst()) {
				continue // the rate was lowered: WaitN refuses more than a burst
			}
			return time.Since(start), err
		}
		n -= step
	}
	return time.Since(start), nil
}

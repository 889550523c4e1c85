package replica

import (
	"math"
	"sync"
	"time"
)

// rateLimit counts bytes against a rate: what was taken beyond it is owed, and
// nothing more is to be taken until it is paid. A second's worth may be saved up.
// The zero value has nothing saved and nothing owed.
type rateLimit struct {
	mu   sync.Mutex
	left float64 // bytes; negative while owed
	at   time.Time
}

// spent says whether nothing may be taken now.
func (l *rateLimit) spent(rate int64, now time.Time) bool {
	if rate == math.MaxInt64 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.payLocked(rate, now)
	return l.left < 0 || rate <= 0
}

// take counts n bytes.
func (l *rateLimit) take(rate int64, n int, now time.Time) {
	if rate == math.MaxInt64 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.payLocked(rate, now)
	l.left -= float64(n)
}

func (l *rateLimit) payLocked(rate int64, now time.Time) {
	if now.After(l.at) {
		l.left = min(l.left+now.Sub(l.at).Seconds()*float64(rate), float64(rate))
		l.at = now
	}
}

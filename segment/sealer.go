package segment

import (
	"context"
	"errors"
	"sync"
	"time"
)

// sealRetry is how long the sealer waits when the disk is full.
const sealRetry = time.Second

// sealer makes closed segments complete and durable in the background, so that
// the append that closed them need not wait.
type sealer struct {
	dir  *Dir
	wake chan struct{}

	mu   sync.Mutex
	list []*Log
}

func newSealer(d *Dir) *sealer { return &sealer{dir: d, wake: make(chan struct{}, 1)} }

func (s *sealer) add(l *Log) {
	s.mu.Lock()
	s.list = append(s.list, l)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sealer) take() []*Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

func (s *sealer) run(ctx context.Context) error {
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-retry.C:
		}
		again := false
		for _, l := range s.take() {
			l.sealing.Store(false)
			if err := l.seal(); err != nil && s.dir.Offline() == nil && !errors.Is(err, ErrClosed) {
				s.dir.log.Warn("sealing a segment failed, trying again", "partition", l.tp, "err", err)
				l.requestSeal()
				again = true
			}
		}
		// At once, not at the next interval: below the recovery point a restart
		// can tell damage from a torn tail.
		if err := s.dir.persistRecoveryPoints(); err != nil && s.dir.Offline() == nil {
			s.dir.log.Warn("checkpoint failed, trying again later", "dir", s.dir.path, "err", err)
		}
		if again {
			// Not at once: take the wake-up that requestSeal left.
			select {
			case <-s.wake:
			default:
			}
			retry.Reset(sealRetry)
		}
	}
}

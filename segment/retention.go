package segment

import (
	"fmt"
	"slices"
	"time"
)

// SetLogStart moves the start of the log forward to offset, durably, and removes
// the sealed segments that lie wholly below. Moving it back does nothing. An
// offset above the high watermark is ErrOffsetOutOfRange.
func (l *Log) SetLogStart(offset int64) error {
	l.maint.lock()
	defer l.maint.unlock()
	if err := l.check(); err != nil {
		return err
	}
	if err := l.moveLogStart(offset); err != nil {
		return err
	}
	_, err := l.removeFront(func(p *part) (bool, error) { return p.next <= l.logStart.Load(), nil })
	return err
}

// moveLogStart is the first half of SetLogStart. maint must be held.
func (l *Log) moveLogStart(offset int64) error {
	l.mu.Lock()
	if hw := l.hw.Load(); offset > hw {
		l.mu.Unlock()
		return fmt.Errorf("%s: log start %d above the high watermark %d: %w", l.tp, offset, hw, ErrOffsetOutOfRange)
	}
	if offset > l.logStart.Load() {
		l.logStart.Store(offset)
		l.startEpochsLocked(offset)
		l.producers.OnLogStart(offset)
		l.noteUnstableLocked()
	}
	l.mu.Unlock()
	// Also where it does not move: an attempt before may have failed here, and
	// what lies below goes next.
	return l.persistLogStart()
}

// removeFront removes sealed segments from the front as long as goes says so. A
// segment that is not sealed, or not below the high watermark, stays. maint must
// be held.
func (l *Log) removeFront(goes func(*part) (bool, error)) (freed int64, err error) {
	for {
		// First what an earlier call could not remove: with a hole in it the log
		// would not be found again after a restart.
		if err := l.unlinkFront(); err != nil {
			return freed, err
		}
		l.mu.Lock()
		p := l.parts[0]
		ready := len(l.parts) > 1 && p.sealed && p.next <= l.hw.Load()
		l.mu.Unlock()
		if !ready {
			return freed, nil
		}
		if ok, err := goes(p); err != nil || !ok {
			return freed, err
		}
		l.mu.Lock()
		l.parts = slices.Clone(l.parts[1:])
		l.localStart.Store(l.parts[0].base)
		l.localBytes.Add(-p.size)
		l.mu.Unlock()
		l.doomedFront = append(l.doomedFront, p)
		freed += p.size
	}
}

// unlinkFront removes the files of expired parts, oldest first. maint must be held.
func (l *Log) unlinkFront() error {
	for len(l.doomedFront) > 0 {
		p := l.doomedFront[0]
		if err := l.unlink(p); err != nil {
			return err
		}
		if err := l.removeSnapshots([]int64{p.base}); err != nil {
			return err
		}
		l.doomedFront = l.doomedFront[1:]
	}
	return nil
}

// ExpireLocal applies retention to the local segments and returns the bytes it
// freed. Nothing goes above the high watermark.
//
// Without a tier, retention.ms and retention.bytes apply if cleanup.policy has
// delete, and LogStart moves. With one, local.retention.* apply, only segments
// with LastOffset ≤ highestRemote go, LogStart stays, and nothing happens at all
// before the tier's state is known (KAFKA-20732). In both cases segments below
// LogStart go.
func (l *Log) ExpireLocal(now time.Time, highestRemote int64, remoteLoaded bool) (freed int64, err error) {
	cfg := l.config.Load()
	l.mu.Lock()
	l.producers.Expire(now)
	l.mu.Unlock()
	if cfg.RemoteEnabled && !remoteLoaded {
		return 0, nil
	}
	if err := l.rollExpired(now, cfg); err != nil {
		return 0, err
	}
	l.maint.lock()
	defer l.maint.unlock()
	if err := l.check(); err != nil {
		return 0, err
	}
	if cfg.RemoteEnabled {
		return l.removeFront(func(p *part) (bool, error) {
			if p.next <= l.logStart.Load() {
				return true, nil
			}
			if p.last() > highestRemote {
				return false, nil
			}
			return l.expired(p, l.localBytes.Load(), now, cfg.LocalRetentionAge, cfg.LocalRetentionBytes)
		})
	}
	// The start moves first, durably: a restart must not find it lower.
	if cfg.Delete {
		start, err := l.expiredUpTo(now, cfg)
		if err == nil {
			err = l.moveLogStart(start)
		}
		if err != nil {
			return 0, err
		}
	}
	return l.removeFront(func(p *part) (bool, error) { return p.next <= l.logStart.Load(), nil })
}

// expiredUpTo returns the end of the segments at the front that retention lets go.
func (l *Log) expiredUpTo(now time.Time, cfg *Config) (int64, error) {
	l.mu.Lock()
	parts, start := l.parts, l.logStart.Load()
	l.mu.Unlock()
	left := l.localBytes.Load()
	for _, p := range parts[:len(parts)-1] {
		l.mu.Lock()
		ready := p.sealed && p.next <= l.hw.Load()
		l.mu.Unlock()
		if !ready {
			break
		}
		if p.next > start {
			ok, err := l.expired(p, left, now, cfg.RetentionAge, cfg.RetentionBytes)
			if err != nil || !ok {
				return start, err
			}
			start = p.next
		}
		left -= p.size
	}
	return start, nil
}

// expired reports whether retention by age or by size lets the first of left bytes'
// segments go. Without it, at least keep bytes must be left. A segment whose age
// cannot be read stays, and with it those behind.
func (l *Log) expired(p *part, left int64, now time.Time, age time.Duration, keep int64) (bool, error) {
	if keep >= 0 && left-p.size >= keep {
		return true, nil
	}
	if age < 0 {
		return false, nil
	}
	if err := l.loadIndexHeld(p); err != nil {
		return false, err
	}
	newest, err := l.newestTime(p, now)
	return err == nil && now.Sub(newest) > age, err
}

// newestTime returns the time that retention goes by: that of the newest record.
// Where the records do not tell, because they have no timestamp, or one before
// 1970 or in the future, it is the time of the file: as in Kafka, but that a
// timestamp in the future would keep the segment until then.
func (l *Log) newestTime(p *part, now time.Time) (time.Time, error) {
	if err := l.loadStats(p); err != nil {
		return time.Time{}, err
	}
	l.mu.Lock()
	largest, at, told := p.maxTime, p.sealedAt, p.toldFuture
	future := largest > now.UnixMilli()
	p.toldFuture = told || future
	l.mu.Unlock()
	if at.IsZero() && (largest < 0 || future) {
		info, err := l.fs.Stat(p.log.name)
		if err != nil {
			return time.Time{}, l.readError("stat segment", p.log.name, err)
		}
		at = info.ModTime
	}
	if future && !told {
		l.log.Warn("newest timestamp of a segment lies in the future, retention goes by the time of its file",
			"partition", l.tp, "segment", p.base, "timestamp_ms", largest, "file_time", at)
	}
	return retentionTime(largest, at, now), nil
}

// rollExpired closes the active segment when even its newest record is too old, so
// that a partition nobody writes to is emptied in the end.
func (l *Log) rollExpired(now time.Time, cfg *Config) error {
	if cfg.RemoteEnabled || !cfg.Delete || cfg.RetentionAge < 0 {
		return nil
	}
	l.mu.Lock()
	p := l.active()
	due := !l.closed && p.size > 0 && l.hw.Load() == l.end.Load()
	l.mu.Unlock()
	if !due {
		return nil
	}
	newest, err := l.newestTime(p, now)
	if err != nil || now.Sub(newest) <= cfg.RetentionAge {
		return err
	}
	return l.Roll()
}

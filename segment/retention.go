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
	_, err := l.removeFront(func(p *sealedPart) (bool, error) { return p.next <= l.logStart.Load(), nil })
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
func (l *Log) removeFront(goes func(*sealedPart) (bool, error)) (freed int64, err error) {
	for {
		// First what an earlier call could not remove: with a hole in it the log
		// would not be found again after a restart.
		if err := l.unlinkFront(); err != nil {
			return freed, err
		}
		l.mu.Lock()
		var p *sealedPart
		if len(l.sealed) > 0 && l.sealed[0].next <= l.hw.Load() {
			p = l.sealed[0]
		}
		l.mu.Unlock()
		if p == nil {
			return freed, nil
		}
		if ok, err := goes(p); err != nil || !ok {
			return freed, err
		}
		l.mu.Lock()
		l.parts, l.sealed = slices.Clone(l.parts[1:]), slices.Clone(l.sealed[1:])
		l.localStart.Store(l.parts[0].base)
		l.localBytes.Add(-p.size)
		l.mu.Unlock()
		l.doomedFront = append(l.doomedFront, p.part)
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
		return l.removeFront(func(p *sealedPart) (bool, error) {
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
	return l.removeFront(func(p *sealedPart) (bool, error) { return p.next <= l.logStart.Load(), nil })
}

// expiredUpTo returns the end of the segments at the front that retention lets go.
func (l *Log) expiredUpTo(now time.Time, cfg *Config) (int64, error) {
	l.mu.Lock()
	sealed, start, hw := l.sealed, l.logStart.Load(), l.hw.Load()
	l.mu.Unlock()
	left := l.localBytes.Load()
	for _, p := range sealed {
		if p.next > hw {
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
// cannot be read stays, and with it those behind. Where the records do not tell
// their age, the time of the file counts as in Kafka, but also where the newest
// lies in the future: it would keep the segment until then.
func (l *Log) expired(p *sealedPart, left int64, now time.Time, age time.Duration, keep int64) (bool, error) {
	if keep >= 0 && left-p.size >= keep {
		return true, nil
	}
	if age < 0 {
		return false, nil
	}
	if err := l.loadIndexHeld(p.part); err != nil {
		return false, err
	}
	l.mu.Lock()
	largest, tell := p.maxTime, p.maxTime > now.UnixMilli() && !p.toldFuture
	p.toldFuture = p.toldFuture || tell
	l.mu.Unlock()
	if tell {
		l.log.Warn("newest timestamp of a segment lies in the future, retention goes by the time of its file",
			"partition", l.tp, "segment", p.base, "timestamp_ms", largest, "file_time", p.at)
	}
	return now.Sub(retentionTime(largest, p.at, now)) > age, nil
}

// rollExpired closes the active segment when even its newest record is too old, so
// that a partition nobody writes to is emptied in the end.
func (l *Log) rollExpired(now time.Time, cfg *Config) error {
	if cfg.RemoteEnabled || !cfg.Delete || cfg.RetentionAge < 0 {
		return nil
	}
	l.mu.Lock()
	p := l.active()
	due, largest := !l.closed && p.size > 0 && l.hw.Load() == l.end.Load(), p.maxTime
	l.mu.Unlock()
	if !due {
		return nil
	}
	newest := retentionTime(largest, time.Time{}, now)
	if newest.IsZero() {
		info, err := l.fs.Stat(p.log.name)
		if err != nil {
			return l.readError("stat segment", p.log.name, err)
		}
		newest = info.ModTime
	}
	if now.Sub(newest) <= cfg.RetentionAge {
		return nil
	}
	return l.Roll()
}

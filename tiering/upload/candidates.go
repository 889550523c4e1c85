package upload

import (
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// TopicSettings are the parts of a topic's configuration that concern copying.
type TopicSettings struct {
	CopyDisabled    bool          // remote.log.copy.disable
	DeleteOnDisable bool          // remote.log.delete.on.disable
	CopyLag         time.Duration // remote.copy.lag.ms resolved: copy a segment when it is this old, < 0 = never for that …
	CopyLagBytes    int64         // remote.copy.lag.bytes resolved: … or this much was written after it, < 0 = never for that
}

// Candidates are the sealed segments that may be copied now, oldest first: wholly below the last stable offset
// (the next segment's base offset ≤ it, as in Kafka's candidateLogSegments).
func (t TopicSettings) Candidates(log *segment.Log, sealed []segment.Sealed, now time.Time) []segment.Sealed {
	if len(sealed) == 0 {
		return nil
	}
	stable := log.LastStableOffset()
	behind := t.unsealed(log) // bytes written after a segment
	for _, s := range sealed {
		behind += s.Size
	}
	for i, s := range sealed {
		behind -= s.Size
		if s.LastOffset >= stable || !t.ripe(s, behind, now) {
			return sealed[:i]
		}
	}
	return sealed
}

// unsealed is the size of the active segment, when it matters.
func (t TopicSettings) unsealed(log *segment.Log) int64 {
	if t.CopyLag == 0 || t.CopyLagBytes <= 0 {
		return 0
	}
	bytes := log.LocalBytes()
	for _, s := range log.Sealed(0) {
		bytes -= s.Size
	}
	return max(bytes, 0)
}

// ripe says whether a segment has waited long enough (KIP-1241): by the time since its newest record, or since it was
// sealed where its records come from the future; or because enough was written after it.
func (t TopicSettings) ripe(s segment.Sealed, behind int64, now time.Time) bool {
	if t.CopyLag == 0 || t.CopyLagBytes >= 0 && behind >= t.CopyLagBytes {
		return true
	}
	newest := s.SealedAt
	if at := time.UnixMilli(s.MaxTimestamp); s.MaxTimestamp >= 0 && at.Before(newest) {
		newest = at
	}
	return t.CopyLag > 0 && now.Sub(newest) >= t.CopyLag
}

// Lag sums up segments that wait, and says when the first of them was sealed.
func Lag(sealed []segment.Sealed) (segments, bytes int64, oldest time.Time) {
	for i := range sealed {
		bytes += sealed[i].Size
		if oldest.IsZero() || sealed[i].SealedAt.Before(oldest) {
			oldest = sealed[i].SealedAt
		}
	}
	return int64(len(sealed)), bytes, oldest
}

// Continues refuses a log whose records before the tier's end were written by another line of leaders: copying
// on would put two values at one offset. What the log does not know it cannot contradict.
func (l *Leader) Continues(r *manifest.Root) error {
	last := r.HighestOffset()
	if last < l.Log.LogStart() || r.Segments == 0 {
		return nil
	}
	local, ok := l.Log.EpochForOffset(last)
	remote, _ := r.Epochs.At(last)
	if ok && local != remote {
		return fmt.Errorf("offset %d has leader epoch %d here and %d in the tier: %w", last, local, remote, manifest.ErrDiverged)
	}
	return nil
}

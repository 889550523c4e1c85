package upload

import (
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment"
)

// TestCopyLagIsWhatTheTopicSays: KIP-1241.
func TestCopyLagIsWhatTheTopicSays(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	at := func(sealed, newest int64) segment.Sealed {
		return segment.Sealed{SealedAt: now.Add(-time.Duration(sealed) * time.Second), MaxTimestamp: now.UnixMilli() - newest*1000}
	}
	for _, c := range []struct {
		name   string
		s      TopicSettings
		seg    segment.Sealed
		behind int64
		want   bool
	}{
		{"at once", TopicSettings{CopyLagBytes: -1}, at(0, 0), 0, true},
		{"at once by bytes", TopicSettings{CopyLag: time.Hour}, at(0, 0), 0, true},
		{"too young", TopicSettings{CopyLag: time.Minute, CopyLagBytes: -1}, at(59, 59), 1 << 40, false},
		{"old enough", TopicSettings{CopyLag: time.Minute, CopyLagBytes: -1}, at(60, 60), 0, true},
		{"by its newest record", TopicSettings{CopyLag: time.Minute, CopyLagBytes: -1}, at(1, 60), 0, true},
		{"records of the future", TopicSettings{CopyLag: time.Minute, CopyLagBytes: -1}, at(60, -999), 0, true},
		{"enough behind it", TopicSettings{CopyLag: time.Hour, CopyLagBytes: 100}, at(0, 0), 100, true},
		{"not enough behind it", TopicSettings{CopyLag: time.Hour, CopyLagBytes: 100}, at(0, 0), 99, false},
		{"local retention is for ever", TopicSettings{CopyLag: -1, CopyLagBytes: -1}, at(1<<30, 1<<30), 1 << 50, false},
	} {
		if got := c.s.ripe(c.seg, c.behind, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

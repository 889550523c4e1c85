package producer

import (
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// TestProducersWithoutUsableTimestampsExpireWhenTheyAreSilent: a retry of one that just
// sent is recognized, and none stays for ever.
func TestProducersWithoutUsableTimestampsExpireWhenTheyAreSilent(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for name, timestamp := range map[string]int64{
		"absent": record.NoTimestamp, "before 1970": -5000, "in the future": now.Add(1000 * time.Hour).UnixMilli(),
	} {
		m := NewManager(time.Minute, time.Hour)
		sent := BatchInfo{ProducerID: 1, Timestamp: timestamp}
		m.Update(sent)
		if n := m.Expire(now); n != 0 {
			t.Errorf("%s: expired at once", name)
		}
		again := NewManager(time.Minute, time.Hour)
		again.Restore(m.Producers(), m.End(), now)
		if again.Len() != 1 {
			t.Errorf("%s: left out by a restart", name)
		}
		m.Expire(now.Add(50 * time.Minute))
		sent.FirstSequence, sent.LastSequence, sent.FirstOffset, sent.LastOffset = 1, 1, 1, 1
		m.Update(sent)
		if n := m.Expire(now.Add(61 * time.Minute)); n != 0 {
			t.Errorf("%s: expired although it sent", name)
		}
		if v, err := m.Check(sent, true); err != nil || !v.Duplicate {
			t.Errorf("%s: a retry: %+v, %v", name, v, err)
		}
		if n := m.Expire(now.Add(122 * time.Minute)); n != 1 {
			t.Errorf("%s: %d expired after an hour of silence", name, n)
		}
	}
}

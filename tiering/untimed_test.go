package tiering

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
)

// TestTieredRecordsWithoutUsableTimesExpireByWhenTheyWereCopied, neither at once nor never.
func TestTieredRecordsWithoutUsableTimesExpireByWhenTheyWereCopied(t *testing.T) {
	for name, ts := range map[string]func(now time.Time) int64{
		"none":       func(time.Time) int64 { return record.NoTimestamp },
		"the future": func(now time.Time) int64 { return now.AddDate(5, 0, 0).UnixMilli() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				cfg := smallLog()
				cfg.RetentionAge = 7 * time.Hour
				b := w.mustStart(settings{config: cfg, o: Options{Poll: time.Minute, Interval: 10 * time.Minute}})
				for range 60 {
					batch := record.NewBuilder(record.BuilderOptions{})
					batch.Append(ts(time.Now()), []byte("k"), testValue(b.log.LogEnd()))
					info, err := b.log.AppendAsLeader(batch.Build(), segment.AppendOptions{LeaderEpoch: b.epoch, Origin: segment.Client, Now: time.Now()})
					if err != nil {
						t.Fatal(err)
					}
					if err := b.log.Sync(); err != nil {
						t.Fatal(err)
					}
					b.log.SetHighWatermark(info.LastOffset + 1)
				}
				time.Sleep(6 * time.Hour)
				if start := b.log.LogStart(); start != 0 || !b.isUploaded() {
					t.Fatalf("after 6 of 7 days the log starts at %d, all is uploaded: %v", start, b.isUploaded())
				}
				tiered := b.m.View(w.tip()).HighestOffset
				time.Sleep(90 * time.Minute)
				if start := b.log.LogStart(); start <= tiered {
					t.Errorf("after more than 7 hours the log starts at %d, the tier held up to %d", start, tiered)
				}
			})
		})
	}
}

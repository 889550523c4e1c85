package segment

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// reopened is a log of several segments of which a restart has read nothing but
// the names.
func reopened(t *testing.T, cfg Config) *Log {
	t.Helper()
	fs := vfs.NewMem()
	d := openDir(t, fs)
	l := openLog(t, d, cfg)
	for i := range 6 {
		mustAppend(t, l, 0, plain(t0.UnixMilli()+int64(i), "a", "b"))
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	l.SetHighWatermark(l.LogEnd())
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, openDir(t, fs), cfg)
	l.SetHighWatermark(l.LogEnd())
	return l
}

// TestMaintenanceAfterARestartDoesNotWaitForItself: what it needs of a segment's
// index nobody has read yet.
func TestMaintenanceAfterARestartDoesNotWaitForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := reopened(t, Config{})
		if err := l.TruncateTo(5); err != nil || l.LogEnd() != 4 {
			t.Errorf("truncated into an old segment: %v, log end %d, want 4, the beginning of its batch", err, l.LogEnd())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := reopened(t, Config{})
		for _, s := range l.snapshots { // so that segments before the cut are replayed
			if err := l.fs.Remove(l.snapshotName(s)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.TruncateTo(8); err != nil || l.LogEnd() != 8 {
			t.Errorf("truncated without snapshots: %v, log end %d, want 8", err, l.LogEnd())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := reopened(t, Config{Delete: true, RetentionAge: time.Hour, RetentionBytes: -1})
		if _, err := l.ExpireLocal(t0.Add(2*time.Hour), -1, false); err != nil || l.LogStart() == 0 {
			t.Errorf("retention by age: %v, log start %d", err, l.LogStart())
		}
	})
}

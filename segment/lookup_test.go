package segment

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestLookupByTimeBesideARemoval: a segment that goes while somebody looks into it, by
// retention or a truncation, is neither damage nor the end of the log.
func TestLookupByTimeBesideARemoval(t *testing.T) {
	hour := func(n int64) int64 { return t0.UnixMilli() + n*time.Hour.Milliseconds() }
	lookups := map[string]struct {
		find func(*Log) (TimestampOffset, bool, error)
		want map[string]int64 // offset, by what goes
	}{
		"first since": {
			func(l *Log) (TimestampOffset, bool, error) { return l.OffsetForTimestamp(hour(0)) },
			map[string]int64{"front": 2, "end": 0},
		},
		"largest": {
			func(l *Log) (TimestampOffset, bool, error) { return l.MaxTimestamp() },
			map[string]int64{"front": 5, "end": 0},
		},
	}
	removals := map[string]func(*Log) error{
		"front": func(l *Log) error { return l.SetLogStart(2) },
		"end":   func(l *Log) error { return l.TruncateTo(1) },
	}
	kinds := map[string]vfs.OpKind{"front": vfs.OpOpenReadWrite, "end": vfs.OpRead} // of the call that the removal comes before
	for what, lookup := range lookups {
		for which, remove := range removals {
			synctest.Test(t, func(t *testing.T) {
				var armed atomic.Bool
				reached, proceed := make(chan struct{}), make(chan struct{})
				d := openDir(t, vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
					if op.Kind == kinds[which] && strings.HasSuffix(op.Path, fileName(0, logSuffix)) && armed.Swap(false) {
						close(reached)
						<-proceed
					}
					return nil
				}))
				l := openLog(t, d, Config{})
				for i := range int64(3) {
					mustAppend(t, l, 0, plain(hour(i), "a"))
					mustAppend(t, l, 0, plain(hour(i)+1, "b"))
					noError(t, l.Roll())
				}
				l.SetHighWatermark(6)
				d.files.closeAll()
				armed.Store(true)
				go func() {
					found, ok, err := lookup.find(l)
					if err != nil || !ok || found.Offset != lookup.want[which] {
						t.Errorf("%s, %s goes: %+v, %t, %v", what, which, found, ok, err)
					}
				}()
				<-reached
				noError(t, remove(l))
				close(proceed)
				synctest.Wait()
			})
		}
	}
}

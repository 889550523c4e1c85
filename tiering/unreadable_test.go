package tiering

import (
	"context"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestSegmentsThatCannotBeReadDoNotExpire: a lack of descriptors after a restart does
// not make records that are only on this disk look old.
func TestSegmentsThatCannotBeReadDoNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.UnixMilli(testTime(0)).Add(time.Hour)))
		w := newWorld(t)
		cfg := smallLog()
		cfg.RetentionAge = 2 * time.Hour
		down := object.WithFaults(w.store, func(context.Context, object.Op) error { return object.ErrUnavailable })
		b := w.mustStart(settings{config: cfg, store: down})
		if err := b.produce(150); err != nil {
			t.Fatal(err)
		}
		b.close()
		b.dir = nil
		w.elect()
		var few atomic.Bool
		scarce := vfs.WithFaults(w.fs, func(op vfs.Op) error {
			if few.Load() && (op.Kind == vfs.OpOpen || op.Kind == vfs.OpOpenReadWrite) && (strings.HasSuffix(op.Path, "index") || strings.HasSuffix(op.Path, ".log")) {
				return &fs.PathError{Op: "open", Path: op.Path, Err: syscall.EMFILE}
			}
			return nil
		})
		b = w.mustStart(settings{config: cfg, store: down, fs: scarce, noLead: true})
		b.log.SetHighWatermark(b.log.LogEnd())
		few.Store(true)
		b.m.Lead(w.tip(), b.epoch, b.log)
		time.Sleep(time.Minute)
		if b.log.LogStart() > 0 {
			t.Errorf("%d records that were on this disk only are gone", b.log.LogStart())
		}
	})
}

// TestLocalSegmentsWithoutTimestampsExpireByTheirSeal as long as they are in no tier.
func TestLocalSegmentsWithoutTimestampsExpireByTheirSeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := smallLog()
		cfg.RetentionAge = 4 * time.Minute
		down := object.WithFaults(w.store, func(context.Context, object.Op) error { return object.ErrUnavailable })
		b := w.mustStart(settings{config: cfg, store: down})
		for range 100 {
			one := record.NewBuilder(record.BuilderOptions{})
			one.Append(record.NoTimestamp, []byte("k"), testValue(b.log.LogEnd()))
			info, err := b.log.AppendAsLeader(one.Build(), segment.AppendOptions{LeaderEpoch: b.epoch, Origin: segment.Client, Now: time.Now()})
			if err == nil {
				err = b.log.Sync()
			}
			if err != nil {
				t.Fatal(err)
			}
			b.log.SetHighWatermark(info.LastOffset + 1)
		}
		time.Sleep(3 * time.Minute)
		if b.log.LogStart() > 0 {
			t.Errorf("%d records are gone after three minutes of four", b.log.LogStart())
		}
		time.Sleep(2 * time.Minute)
		if b.log.LogStart() == 0 {
			t.Error("nothing is gone after five minutes of four")
		}
	})
}

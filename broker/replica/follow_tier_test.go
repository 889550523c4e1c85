package replica

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// tiered fills a topic and has its leader upload all but the last segment.
func (l *lab) tiered(lg *ledger, records int) {
	l.t.Helper()
	lg.fill(records)
	lg.log.SetHighWatermark(lg.log.LogEnd())
	l.must(lg.log.Sync())
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	tier := l.tier(ctx, l.g, func(context.Context, object.Op) error { return nil })
	tier.Lead(l.tip(lg.name), lg.epoch, lg.log)
	time.Sleep(5 * time.Second) // it looks every half second
	if v := tier.View(l.tip(lg.name)); v.HighestOffset < int64(records-30) {
		l.t.Fatalf("only offsets up to %d were uploaded", v.HighestOffset)
	}
}

// pointer is where the tier ends.
func (l *lab) pointer(name string) metadata.RemotePointer {
	l.t.Helper()
	p, ok := l.md.Image().RemotePointer(l.tip(name))
	if !ok || p.EndOffset == 0 {
		l.t.Fatalf("no tier of %s", name)
	}
	return p
}

// lowest keeps the lowest offset that is asked for.
func (l *lab) lowest() *atomic.Int64 {
	var low atomic.Int64
	low.Store(1 << 62)
	l.leaders[1].scripted(func(_ *ledger, q *kmsg.FetchRequestTopicPartition, _ *kmsg.FetchResponseTopicPartition) bool {
		low.Store(min(low.Load(), q.FetchOffset))
		return false
	})
	return &low
}

func TestNewFollowerStartsAtTheTiersEndAndCopiesOnlyTheTail(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		l.tiered(lg, 200)
		end, low := l.pointer("t").EndOffset, l.lowest()
		p := l.follow("t")
		l.caughtUp(p, lg)
		if low.Load() != end || p.log.LocalLogStart() != end {
			t.Errorf("asked from offset %d on, local log start %d, the tier ends at %d", low.Load(), p.log.LocalLogStart(), end)
		}
		if p.log.LogStart() != 0 {
			t.Errorf("log start %d, want 0", p.log.LogStart())
		}
		if got, ok := p.log.EpochForOffset(0); !ok || got != 1 {
			t.Errorf("epoch of offset 0: %d, %t", got, ok)
		}
		l.equal(p, lg, end)
	})
}

func TestFarBehindFollowerStartsAtTheTiersEnd(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		p := l.follow("t")
		lg.fill(5)
		l.caughtUp(p, lg)
		l.f.remove(p)
		l.tiered(lg, 200)
		_, err := lg.log.ExpireLocal(time.Now(), l.pointer("t").EndOffset-1, true)
		l.must(err)
		if lg.log.LocalLogStart() <= 5 {
			t.Fatal("nothing expired")
		}
		l.f.assign(p, 1, 1)
		l.caughtUp(p, lg)
		if end := l.pointer("t").EndOffset; p.log.LocalLogStart() != end {
			t.Errorf("local log start %d, the tier ends at %d", p.log.LocalLogStart(), end)
		}
		l.equal(p, lg, l.pointer("t").EndOffset)
	})
}

// TestStartFromTheTierWaitsForTheStoreAlone: other partitions go on meanwhile.
func TestStartFromTheTierWaitsForTheStoreAlone(t *testing.T) {
	for name, away := range map[string]func(ctx context.Context, op object.Op) error{
		"failing": func(context.Context, object.Op) error { return errors.New("store is away") },
		"hanging": func(ctx context.Context, _ object.Op) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				lg, other := l.topic("t"), l.topic("other")
				l.tiered(lg, 200)
				l.onStore.Store(&away)
				p, q := l.follow("t"), l.follow("other")
				for range 20 {
					other.append("x")
					time.Sleep(50 * time.Millisecond)
				}
				l.caughtUp(q, other)
				if p.log.LogEnd() != 0 {
					t.Fatalf("log end %d while the store is away", p.log.LogEnd())
				}
				// remove does not wait for the store.
				before := time.Now()
				l.f.remove(p)
				if took := time.Since(before); took > 0 {
					t.Errorf("remove took %v", took)
				}
				l.f.assign(p, 1, 1)
				time.Sleep(time.Second)
				l.onStore.Store(nil)
				l.caughtUp(p, lg)
				l.equal(p, lg, l.pointer("t").EndOffset)
			})
		})
	}
}

// TestStartFromTheTierSurvivesAPowerCut: at no moment does a cut leave a log
// that cannot go on.
func TestStartFromTheTierSurvivesAPowerCut(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		l.tiered(lg, 200)
		for cut := 1; cut < 60; cut++ {
			l.crash(vfs.NewMem())
			ops, p := 0, l.open("t")
			disk := l.disk
			var rest atomic.Pointer[vfs.Mem]
			hook := afterOps(&ops, cut, disk, &rest)
			l.onDisk.Store(&hook)
			l.f.assign(p, 1, 1)
			l.until("a start or a cut", func() bool { return rest.Load() != nil || p.log.SyncedOffset() == lg.log.LogEnd() })
			l.onDisk.Store(nil)
			if rest.Load() == nil {
				if cut < 20 {
					t.Errorf("only %d operations", cut)
				}
				break
			}
			l.crash(rest.Load())
			p = l.open("t")
			l.f.assign(p, 1, 1)
			l.caughtUp(p, lg)
			l.equal(p, lg, l.pointer("t").EndOffset)
			if got, ok := p.log.EpochForOffset(0); !ok || got != 1 {
				t.Errorf("cut at operation %d: epoch of offset 0 is %d, %t", cut, got, ok)
			}
		}
	})
}

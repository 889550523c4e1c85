package replica

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

func TestIdlePartitionsCostOneSmallRequestPerWait(t *testing.T) {
	inLab(t, func(l *lab) {
		const n = 1000
		for i := range n {
			name := fmt.Sprint("t", i)
			l.topic(name)
			l.follow(name)
		}
		time.Sleep(10 * time.Second)
		before := len(l.leaders[1].requests())
		time.Sleep(10 * time.Second)
		reqs := l.leaders[1].requests()[before:]
		if len(reqs) < 18 || len(reqs) > 21 {
			t.Errorf("%d requests in 10 s with waits of 500 ms", len(reqs))
		}
		for _, r := range reqs {
			if r.named != 0 || r.forgot != 0 || r.epoch <= 0 || r.size > 200 {
				t.Fatalf("idle request %+v", r)
			}
		}
		// One busy partition among them names itself alone.
		before = len(l.leaders[1].requests())
		l.leaders[1].ledger(l.tip("t7")).append("a")
		time.Sleep(100 * time.Millisecond)
		for _, r := range l.leaders[1].requests()[before:] {
			if r.named > 1 || r.forgot > 0 {
				t.Errorf("request %+v for one busy partition", r)
			}
		}
	})
}

// TestNewPartitionsDoNotWaitForAnIdlePoll: a fail-over is over when the
// followers ask the new leader.
func TestNewPartitionsDoNotWaitForAnIdlePoll(t *testing.T) {
	inLab(t, func(l *lab) {
		l.topic("idle")
		l.follow("idle")
		var logs []*ledger
		for i := range 20 {
			logs = append(logs, l.topic(fmt.Sprint("t", i)))
			logs[i].append("a")
		}
		time.Sleep(10 * time.Second)
		before := len(l.leaders[1].requests())
		for i, lg := range logs {
			at := time.Now()
			p := l.follow(fmt.Sprint("t", i))
			for p.log.SyncedOffset() < lg.log.LogEnd() {
				time.Sleep(time.Millisecond)
				if took := time.Since(at); took > shortWait+20*time.Millisecond {
					t.Fatalf("partition %d was not fetched within %v", i, took)
				}
			}
		}
		full := 0
		for _, r := range l.leaders[1].requests()[before:] {
			if r.epoch == 0 {
				full++
			}
		}
		if full > 1 {
			t.Errorf("%d sessions were made for what came at once, want at most 1", full)
		}
	})
}

func TestPartitionsSpreadOverFetchers(t *testing.T) {
	count := map[int]int{}
	for i := range 30 {
		count[spread(metadata.TopicIDPartition{Topic: metadata.TopicID{7}, Partition: int32(i)}, 3)]++
	}
	if count[0] != 10 || count[1] != 10 || count[2] != 10 {
		t.Errorf("partitions of one topic by fetcher: %v", count)
	}
}

func TestFollowersGoOnAfterReconnects(t *testing.T) {
	for name, disturb := range map[string]func(l *lab){
		"reset": func(l *lab) { l.net.Reset("follower", "broker1") },
		"cut for a while": func(l *lab) {
			l.fault(wire.Fault{Cut: true}, "follower", "broker1", "broker1", "follower")
			time.Sleep(3 * time.Second)
			l.fault(wire.Fault{}, "follower", "broker1", "broker1", "follower")
		},
		"half open: answers are lost for a minute": func(l *lab) {
			l.fault(wire.Fault{Cut: true}, "broker1", "follower")
			time.Sleep(time.Minute)
			l.fault(wire.Fault{}, "broker1", "follower")
		},
		"half open: requests are lost for a minute": func(l *lab) {
			l.fault(wire.Fault{Cut: true}, "follower", "broker1")
			time.Sleep(time.Minute)
			l.fault(wire.Fault{}, "follower", "broker1")
		},
		"slow": func(l *lab) {
			l.fault(wire.Fault{Delay: 300 * time.Millisecond}, "follower", "broker1", "broker1", "follower")
		},
		"the leader forgets sessions": func(l *lab) { l.leaders[1].forget() },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				lg := l.topic("t")
				p := l.follow("t")
				for range 5 {
					lg.append("a", "b")
					l.caughtUp(p, lg)
					disturb(l)
					lg.append("c")
				}
				l.caughtUp(p, lg)
				l.equal(p, lg, 0)
			})
		})
	}
}

func (l *lab) fault(f wire.Fault, pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		l.net.SetFault(pairs[i], pairs[i+1], f)
	}
}

func (b *leaderBroker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.sessions)
}

// TestLeaderWithoutAddressIsTriedAgain: its lease ran out, or this broker hears
// of its leadership first.
func TestLeaderWithoutAddressIsTriedAgain(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		lg.append("a")
		l.options = func(o *Options) { o.InterBrokerListener = "NONE" }
		l.crash(l.disk)
		p := l.follow("t")
		time.Sleep(10 * time.Second)
		if n := strings.Count(l.logged.String(), "level=WARN msg=\"fetch from leader\""); n != 1 {
			t.Errorf("warned %d times", n)
		}
		l.options = nil
		l.crash(l.disk)
		p = l.follow("t")
		l.caughtUp(p, lg)
	})
}

func TestRequestsCarryTheBrokerEpoch(t *testing.T) {
	inLab(t, func(l *lab) {
		l.topic("t")
		session := l.leaders[3].session // any will do
		l.options = func(o *Options) { o.Session = func() *metadata.Session { return session } }
		l.crash(l.disk)
		l.follow("t")
		time.Sleep(time.Second)
		for _, r := range l.leaders[1].requests() {
			if r.broker != session.Epoch {
				t.Fatalf("request with broker epoch %d, want %d", r.broker, session.Epoch)
			}
		}
	})
}

// TestRemoveIsFinal: once it returned, the log is nobody's but the caller's; it
// waits for the operation under way, and for nothing else.
func TestRemoveIsFinal(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		p := l.follow("t")
		lg.append("a")
		l.caughtUp(p, lg)
		hold, held := make(chan struct{}), make(chan struct{}, 1)
		hook := func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Path, ".log") {
				held <- struct{}{}
				<-hold
			}
			return nil
		}
		l.onDisk.Store(&hook)
		lg.append("b")
		<-held
		var removed atomic.Bool
		go func() {
			l.f.remove(p)
			removed.Store(true)
		}()
		time.Sleep(time.Second)
		if removed.Load() {
			t.Error("remove returned while an append was under way")
		}
		l.onDisk.Store(nil)
		close(hold)
		synctest.Wait()
		if !removed.Load() {
			t.Fatal("remove does not return")
		}
		end := p.log.LogEnd()
		lg.append("c", "d")
		time.Sleep(2 * time.Second)
		if got := p.log.LogEnd(); got != end {
			t.Errorf("the log grew from %d to %d after remove", end, got)
		}
		// The network is not waited for.
		l.f.assign(p, 1, 1)
		l.caughtUp(p, lg)
		l.fault(wire.Fault{Cut: true}, "broker1", "follower")
		lg.append("e")
		time.Sleep(time.Second)
		at := time.Now()
		l.f.remove(p)
		if took := time.Since(at); took > 0 {
			t.Errorf("remove waited %v for the network", took)
		}
		l.until("no fetcher is left", func() bool {
			l.f.mu.Lock()
			defer l.f.mu.Unlock()
			return len(l.f.byKey) == 0
		})
	})
}

// TestAnswerToAFormerEpochIsDropped: what was asked before a change of leader
// is not taken after it, were it here already.
func TestAnswerToAFormerEpochIsDropped(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		p := l.follow("t")
		l.caughtUp(p, lg)
		l.f.mu.Lock()
		turn := p.turn
		l.f.mu.Unlock()
		turn.take()
		lg.append("a")
		time.Sleep(time.Second) // the answer is here
		l.f.assign(p, 3, 2)
		turn.give()
		time.Sleep(5 * time.Second)
		if got := p.log.LogEnd(); got != 0 {
			t.Errorf("log end %d, want 0", got)
		}
	})
}

func TestAStuckDiskStopsOnlyItsPartitions(t *testing.T) {
	inLab(t, func(l *lab) {
		stuck, good := l.topic("stuck"), l.topic("good")
		ps, pg := l.follow("stuck"), l.follow("good")
		hold := make(chan struct{})
		hook := func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.Contains(op.Path, "stuck") {
				<-hold
			}
			return nil
		}
		l.onDisk.Store(&hook)
		stuck.append("a")
		for range 20 {
			good.append("x")
			time.Sleep(200 * time.Millisecond)
		}
		l.caughtUp(pg, good)
		if ps.log.SyncedOffset() != 0 {
			t.Error("the stuck partition was synced")
		}
		l.onDisk.Store(nil)
		close(hold)
		l.caughtUp(ps, stuck)
	})
}

func TestAnOfflineDirectoryFailsItsPartitions(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		p := l.follow("t")
		hook := func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return errInjected
			}
			return nil
		}
		l.onDisk.Store(&hook)
		lg.append("a")
		l.until("failed", func() bool { return l.f.gauges().failed == 1 })
		time.Sleep(time.Minute)
		if n := strings.Count(l.logged.String(), "partition cannot be copied"); n != 1 {
			t.Errorf("reported %d times, want 1", n)
		}
		if p.log.SyncedOffset() != 0 {
			t.Error("reported as synced")
		}
	})
}

func TestThrottledFollowersKeepTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.options = func(o *Options) {
			o.FollowerThrottle = func() int64 { return 1000 }
			o.FetchBytes = 200
			o.TopicConfig = func(map[string]string) (TopicConfig, error) {
				return TopicConfig{Log: logConfig(), FollowerThrottled: func(_ int32, b metadata.BrokerID) bool { return b == 2 }}, nil
			}
		}
		l.start()
		lg := l.topic("t")
		lg.fill(100) // about 17 kB
		lg.commit(100)
		p := l.follow("t")
		time.Sleep(5 * time.Second)
		if got := p.log.LocalBytes(); got < 4000 || got > 7000 {
			t.Errorf("%d bytes in 5 s at 1000 bytes a second", got)
		}
		l.caughtUp(p, lg)
		// In sync, it is not held back although the rate is used up.
		lg.fill(1)
		lg.commit(101)
		time.Sleep(10 * time.Millisecond)
		if p.log.SyncedOffset() != lg.log.LogEnd() {
			t.Error("a follower in sync was throttled")
		}
	})
}

// TestAnswerAllocatesNothingPerRecord: what an answer costs does not depend on
// how much is in it.
func TestAnswerAllocatesNothingPerRecord(t *testing.T) {
	inLab(t, func(l *lab) {
		l.topic("t")
		p := l.open("t")
		cfg := logConfig()
		cfg.SegmentBytes = 1 << 30
		p.log.SetConfig(cfg)
		fo := newFollow(p, 1, 1)
		rep := report{log: l.m.log, backoff: time.Second}
		// The disk in memory allocates blocks: the same bytes each time.
		cost := func(records int) float64 {
			b := record.NewBuilder(record.BuilderOptions{LeaderEpoch: 1})
			for range records {
				b.Append(1_700_000_000_000, nil, make([]byte, 20_000/records))
			}
			batch := b.Build()
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.RecordBatches = batch
			return testing.AllocsPerRun(100, func() {
				at := p.log.LogEnd()
				batch.SetBaseOffset(at)
				rp.HighWatermark = at
				l.must(fo.answer(at, &rp, &rep))
			})
		}
		one, many := cost(1), cost(1000)
		if many > one+2 || one > 12 {
			t.Errorf("%v allocations for one record, %v for 1000", one, many)
		}
	})
}

// TestRequestAllocatesNothingWhenNothingChanged: nor does asking.
func TestRequestAllocatesNothingWhenNothingChanged(t *testing.T) {
	inLab(t, func(l *lab) {
		s := newFetchSession()
		var follows []*follow
		for i := range 100 {
			name := fmt.Sprint("t", i)
			l.topic(name)
			follows = append(follows, newFollow(l.open(name), 1, 1))
		}
		ask := func() {
			s.begin()
			for _, fo := range follows {
				s.want(fo, 1<<20)
			}
			s.finish()
		}
		ask()
		s.epoch = 1
		if got := testing.AllocsPerRun(10, ask); got > 0 {
			t.Errorf("%v allocations", got)
		}
	})
}

package replica

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

func TestFollowerCopiesTheLeader(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		lg.append("a", "b", "c")
		p := l.follow("t")
		l.caughtUp(p, lg)
		lg.append("d", "e")
		l.caughtUp(p, lg)
		l.equal(p, lg, 0)
	})
}

func TestFollowerReportsOnlyWhatIsSynced(t *testing.T) {
	inLab(t, func(l *lab) {
		var stuck atomic.Bool
		slow := func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				time.Sleep(7 * time.Millisecond)
				for stuck.Load() {
					time.Sleep(time.Second)
				}
			}
			return nil
		}
		l.onDisk.Store(&slow)
		lg := l.topic("t")
		p := l.follow("t")
		var reported atomic.Int64
		l.leaders[1].scripted(func(_ *ledger, q *kmsg.FetchRequestTopicPartition, _ *kmsg.FetchResponseTopicPartition) bool {
			reported.Store(max(reported.Load(), q.FetchOffset))
			return false
		})
		rng := rand.New(rand.NewSource(1))
		for i := range 30 {
			stuck.Store(i%6 == 0) // for longer than a fetcher waits for a sync
			lg.fill(1 + rng.Intn(5))
			time.Sleep(time.Duration(rng.Intn(30)) * time.Millisecond)
			if stuck.Load() {
				time.Sleep(2 * time.Second)
			}
			synctest.Wait()
			if i%3 != 0 {
				continue
			}
			// The power fails now: what was reported must be there.
			claimed, left := reported.Load(), l.disk.Crash(rng, []int{0, 50}[rng.Intn(2)])
			stuck.Store(false)
			l.crash(left)
			if p = l.open("t"); p.log.LogEnd() < claimed {
				t.Fatalf("the follower reported offset %d, after a power cut its log ends at %d", claimed, p.log.LogEnd())
			}
			l.f.assign(p, 1, 1)
		}
		l.caughtUp(p, lg)
		l.equal(p, lg, 0)
		if reported.Load() == 0 {
			t.Error("nothing was reported")
		}
	})
}

// lineage is a log in short: batches of one record, by epoch.
func lineage(epochs ...int32) [][]byte {
	var out [][]byte
	for i, e := range epochs {
		out = append(out, batches(int64(i), e, fmt.Sprintf("%d.%d", i, e)))
	}
	return out
}

func TestFollowerTruncatesToTheDivergingPoint(t *testing.T) {
	for name, c := range map[string]struct {
		leader, follower []int32
		epoch            int32 // of the leader now
		rounds           int   // of truncation
	}{
		"a tail that the leader does not have":          {leader: []int32{1, 1}, follower: []int32{1, 1, 1}, epoch: 2, rounds: 1},
		"KIP-101 scenario 1: the lagging one is behind": {leader: []int32{1, 1, 2}, follower: []int32{1, 1}, epoch: 2, rounds: 0},
		"KIP-101 scenario 2: both wrote offset 1":       {leader: []int32{1, 2, 2}, follower: []int32{1, 1}, epoch: 2, rounds: 1},
		"KIP-279: fast fail-over, an epoch unknown to the leader": {
			leader: []int32{1, 1, 3, 3}, follower: []int32{1, 1, 2, 2}, epoch: 3, rounds: 1,
		},
		"KIP-279: several rounds": {
			leader: []int32{1, 1, 1, 4, 4, 7}, follower: []int32{1, 1, 2, 3, 5, 5, 6}, epoch: 7, rounds: 2,
		},
		"nothing in common":              {leader: []int32{5, 5}, follower: []int32{1, 2, 3}, epoch: 5, rounds: 1},
		"the leader's log is empty":      {leader: nil, follower: []int32{1, 2, 3}, epoch: 5, rounds: 1},
		"the follower's log is empty":    {leader: []int32{1, 2, 3}, follower: nil, epoch: 5, rounds: 0},
		"the same":                       {leader: []int32{1, 2, 3}, follower: []int32{1, 2, 3}, epoch: 4, rounds: 0},
		"longer in the same last epoch":  {leader: []int32{1, 3}, follower: []int32{1, 3, 3, 3, 3}, epoch: 4, rounds: 1},
		"the leader's epochs lie higher": {leader: []int32{4, 4}, follower: []int32{1, 1, 2}, epoch: 6, rounds: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				lg := l.topic("t")
				l.must(replace(lg.log, lineage(c.leader...)...))
				l.leaders[1].lead(l.tip("t"), c.epoch)
				p := l.open("t")
				l.must(replace(p.log, lineage(c.follower...)...))
				l.f.assign(p, 1, c.epoch)
				l.caughtUp(p, lg)
				l.equal(p, lg, 0)
				// Epochs are compared by what they say of records.
				for o := range lg.log.LogEnd() {
					want, _ := lg.log.EpochForOffset(o)
					if got, _ := p.log.EpochForOffset(o); got != want {
						t.Errorf("epoch of offset %d: %d, leader has %d", o, got, want)
					}
				}
				if got := strings.Count(l.logged.String(), "truncate follower"); got != c.rounds {
					t.Errorf("truncated %d times, want %d", got, c.rounds)
				}
				lg.append("more")
				l.caughtUp(p, lg)
				l.equal(p, lg, 0)
			})
		})
	}
}

// TestFollowerForgetsEpochsWithoutRecords: a broker that led and wrote nothing
// asks about its last record's epoch, and takes records of an older epoch.
func TestFollowerForgetsEpochsWithoutRecords(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		l.must(replace(lg.log, lineage(1, 1, 2, 2)...))
		l.leaders[1].lead(l.tip("t"), 5)
		p := l.open("t")
		l.must(replace(p.log, lineage(1, 1)...))
		l.must(p.log.AssignEpoch(4, 2))
		l.f.assign(p, 1, 5)
		l.caughtUp(p, lg)
		l.equal(p, lg, 0)
		if got, _ := p.log.EpochForOffset(2); got != 2 {
			t.Errorf("offset 2 is of epoch %d, want 2", got)
		}
	})
}

func TestTruncationBelowTheHighWatermarkIsAnError(t *testing.T) {
	for _, c := range []struct {
		hw   int64
		want string
	}{{2, "level=INFO"}, {3, "level=ERROR"}} {
		inLab(t, func(l *lab) {
			lg := l.topic("t")
			l.must(replace(lg.log, lineage(1, 1, 3)...))
			l.leaders[1].lead(l.tip("t"), 3)
			p := l.open("t")
			l.must(replace(p.log, lineage(1, 1, 2, 2)...))
			p.log.SetHighWatermark(c.hw)
			l.f.assign(p, 1, 3)
			l.caughtUp(p, lg)
			for line := range strings.Lines(l.logged.String()) {
				if !strings.Contains(line, "truncate follower") {
					continue
				}
				for _, want := range []string{c.want, "partition=t-0", "offset=2", fmt.Sprintf("high_watermark=%d", c.hw), "log_end=4", "leader_epoch=3", "diverging_epoch=1"} {
					if !strings.Contains(line, want) {
						t.Errorf("high watermark %d: %s lacks in %s", c.hw, want, line)
					}
				}
			}
		})
	}
}

// TestFollowerTakesNoBatchOfALaterEpoch: the leader was deposed while it
// answered, and sends what it fetched itself.
func TestFollowerTakesNoBatchOfALaterEpoch(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		lg.append("a", "b")
		p := l.open("t")
		l.leaders[1].scripted(func(_ *ledger, q *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition) bool {
			if q.FetchOffset >= 2 {
				return false
			}
			rp.HighWatermark, rp.LogStartOffset = 0, 0
			rp.RecordBatches = slices.Concat(batches(0, 1, "a", "b"), batches(2, 2, "c"))
			return true
		})
		l.f.assign(p, 1, 1)
		l.until("two records", func() bool { return p.log.SyncedOffset() == 2 })
		time.Sleep(time.Second)
		if got := p.log.LogEnd(); got != 2 || strings.Contains(l.logged.String(), "truncate follower") {
			t.Errorf("the log ends at %d, want 2 and no more ever", got)
		}
	})
}

func TestFollowerTakesTheLeadersLogStartAndHighWatermark(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		lg.fill(50)
		p := l.follow("t")
		l.caughtUp(p, lg)
		wake := make(chan struct{}, 1)
		p.fetches.add(wake)
		l.must(lg.log.SetLogStart(30))
		l.leaders[1].changed.broadcast()
		l.until("log start", func() bool { return p.log.LogStart() == 30 })
		lg.append("x")
		l.caughtUp(p, lg)
		select {
		case <-wake:
		default:
			t.Error("a consumer that waits on the follower was not woken")
		}
	})
}

// TestFollowerHighWatermarkStaysWithinItsLog: invariant 3.
func TestFollowerHighWatermarkStaysWithinItsLog(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		lg.fill(100)
		lg.commit(100)
		l.options = func(o *Options) { o.FetchBytes = 300 }
		l.crash(l.disk)
		p := l.follow("t")
		for range 200 {
			synctest.Wait()
			if hw, end := p.log.HighWatermark(), p.log.LogEnd(); hw > end {
				t.Fatalf("high watermark %d, log end %d", hw, end)
			}
			time.Sleep(time.Millisecond)
		}
		l.caughtUp(p, lg)
	})
}

func TestFollowerBeginsWithinABatch(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		b := record.NewBuilder(record.BuilderOptions{BaseOffset: 0, LeaderEpoch: 1})
		for range 10 {
			b.Append(1_700_000_000_000, nil, []byte("x"))
		}
		l.must(replace(lg.log, b.Build()))
		l.leaders[1].lead(l.tip("t"), 1)
		lg.log.SetHighWatermark(10)
		l.must(lg.log.SetLogStart(5))
		p := l.follow("t")
		l.caughtUp(p, lg)
		if got := p.log.LogStart(); got != 5 {
			t.Errorf("log start %d, want 5", got)
		}
		lg.append("y")
		l.caughtUp(p, lg)
	})
}

func TestFollowerBehindTheLeadersStartBeginsThere(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		p := l.open("t")
		l.must(replace(p.log, lineage(1, 1, 1)...))
		lg.fill(100)
		lg.log.SetHighWatermark(100)
		l.must(lg.log.SetLogStart(60))
		l.f.assign(p, 1, 1)
		l.caughtUp(p, lg)
		if got := p.log.LogStart(); got != 60 {
			t.Errorf("log start %d, want 60", got)
		}
		l.equal(p, lg, 60)
	})
}

func TestFollowerBeyondTheLeadersEndTruncates(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		l.must(replace(lg.log, lineage(1, 1)...))
		l.leaders[1].lead(l.tip("t"), 1)
		p := l.open("t")
		l.must(replace(p.log, lineage(1, 1, 1, 1)...))
		l.leaders[1].scripted(func(lg *ledger, q *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition) bool {
			if q.FetchOffset <= lg.log.LogEnd() {
				return false
			}
			rp.ErrorCode = kerr.OffsetOutOfRange.Code
			return true
		})
		l.f.assign(p, 1, 1)
		l.caughtUp(p, lg)
		l.equal(p, lg, 0)
	})
}

func TestFollowerGoesOnWhenTheLeaderMoves(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		lg.append("a", "b", "c")
		p := l.follow("t")
		l.caughtUp(p, lg)
		// Broker 3 has two of the three, and writes others.
		l.leaders[3].lead(l.tip("t"), 0)
		next := l.leaders[3].ledger(l.tip("t"))
		l.must(replace(next.log, batches(0, 1, "a", "b")))
		l.elect("t", 3, 2)
		next.append("d", "e")
		l.f.assign(p, 3, 2)
		l.caughtUp(p, next)
		l.equal(p, next, 0)
		l.until("nobody asks the former leader", func() bool {
			l.f.mu.Lock()
			defer l.f.mu.Unlock()
			return len(l.f.byKey) == 1
		})
	})
}

func TestErrorsOfTheLeaderAreGotOver(t *testing.T) {
	for _, code := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.KafkaStorageError, kerr.UnknownTopicID,
		kerr.UnknownTopicOrPartition, kerr.UnknownServerError,
	} {
		t.Run(code.Message, func(t *testing.T) {
			inLab(t, func(l *lab) {
				bad, good := l.topic("bad"), l.topic("good")
				bad.append("a")
				var refused atomic.Int64
				l.leaders[1].scripted(func(lg *ledger, _ *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition) bool {
					if lg == bad {
						refused.Add(1)
						rp.ErrorCode = code.Code
					}
					return lg == bad
				})
				pb, pg := l.follow("bad"), l.follow("good")
				for range 50 {
					good.append("x")
					time.Sleep(100 * time.Millisecond)
				}
				l.caughtUp(pg, good)
				if n := refused.Load(); n > 20 {
					t.Errorf("asked %d times in 5 s for what is refused", n)
				}
				if g := l.f.gauges(); g.failed != 1 || g.followed != 2 {
					t.Errorf("gauges %+v, want one of two failed", g)
				}
				l.leaders[1].scripted(nil)
				l.caughtUp(pb, bad)
				if g := l.f.gauges(); g.failed != 0 || g.maxLag != 0 {
					t.Errorf("gauges %+v, want none failed", g)
				}
			})
		})
	}
}

func TestErrorCodesAreKafkas(t *testing.T) {
	for code, want := range map[int16]*kerr.Error{
		codeOffsetOutOfRange: kerr.OffsetOutOfRange, codeUnknownPartition: kerr.UnknownTopicOrPartition, codeNotLeader: kerr.NotLeaderForPartition,
		codeStorageError: kerr.KafkaStorageError, codeSessionIDNotFound: kerr.FetchSessionIDNotFound, codeInvalidSession: kerr.InvalidFetchSessionEpoch,
		codeFencedLeaderEpoch: kerr.FencedLeaderEpoch, codeUnknownLeaderEpoch: kerr.UnknownLeaderEpoch, codeUnknownTopicID: kerr.UnknownTopicID,
		codeSessionTopicID: kerr.FetchSessionTopicIDError, codeMovedToTier: kerr.OffsetMovedToTieredStorage,
	} {
		if code != want.Code {
			t.Errorf("%s is %d, not %d", want.Message, want.Code, code)
		}
	}
}

func TestCorruptDataIsFetchedAgainThenReported(t *testing.T) {
	inLab(t, func(l *lab) {
		bad, good := l.topic("bad"), l.topic("good")
		bad.append("a")
		broken := 1
		l.leaders[1].scripted(func(lg *ledger, _ *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition) bool {
			if lg != bad || broken == 0 {
				return false
			}
			broken--
			rp.RecordBatches = batches(0, 1, "a")
			rp.RecordBatches[len(rp.RecordBatches)-1] ^= 1
			return true
		})
		pb, pg := l.follow("bad"), l.follow("good")
		good.append("x")
		l.caughtUp(pb, bad)
		if strings.Contains(l.logged.String(), "ERROR") {
			t.Error("reported at once")
		}
		broken = 3
		bad.append("b")
		l.caughtUp(pb, bad)
		l.caughtUp(pg, good)
		if !strings.Contains(l.logged.String(), "level=ERROR msg=\"partition cannot be copied") {
			t.Error("corrupt data was not reported")
		}
		l.equal(pb, bad, 0)
	})
}

package replica

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

const (
	recoveryPoints = "/data/recovery-point-offset-checkpoint"
	logStarts      = "/data/log-start-offset-checkpoint"
)

// diverged makes n topics whose followers have a tail that their leader has not,
// below the recovery points on disk.
func (l *lab) diverged(n int) (leads []*ledger, follows []*Partition) {
	l.t.Helper()
	for i := range n {
		name := fmt.Sprint("diverged", i)
		lg := l.topic(name)
		l.must(replace(lg.log, lineage(1, 2, 2)...))
		l.leaders[1].lead(l.tip(name), 2)
		p := l.open(name)
		l.must(replace(p.log, lineage(1, 1, 1)...))
		leads, follows = append(leads, lg), append(follows, p)
	}
	l.must(l.dir.Checkpoint())
	return leads, follows
}

// rewrites counts the writes of a checkpoint, each of which takes a while.
func (l *lab) rewrites(file string, n *atomic.Int64) {
	hook := func(op vfs.Op) error {
		if op.Kind == vfs.OpRename && op.Path == file {
			n.Add(1)
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}
	l.onDisk.Store(&hook)
}

// held makes writes of a checkpoint wait until release.
func (l *lab) held(file string) (release func()) {
	hold := make(chan struct{})
	hook := func(op vfs.Op) error {
		if op.Kind == vfs.OpRename && op.Path == file {
			<-hold
		}
		return nil
	}
	l.onDisk.Store(&hook)
	return func() {
		l.onDisk.Store(nil)
		close(hold)
	}
}

// TestManyDivergedLogsShareCheckpoints: after a failover all of a broker's logs may
// have to be truncated, and the recovery points of many are lowered by one write.
func TestManyDivergedLogsShareCheckpoints(t *testing.T) {
	inLab(t, func(l *lab) {
		const n = 300
		leads, follows := l.diverged(n)
		var count atomic.Int64
		l.rewrites(recoveryPoints, &count)
		for _, p := range follows {
			l.f.assign(p, 1, 2)
		}
		for i, p := range follows {
			l.caughtUp(p, leads[i])
		}
		l.equal(follows[n-1], leads[n-1], 0)
		if got := count.Load(); got > n/10 {
			t.Errorf("%d truncations rewrote the recovery points %d times", n, got)
		}
	})
}

// TestTruncationHoldsNoOtherPartition that is fetched from the same leader.
func TestTruncationHoldsNoOtherPartition(t *testing.T) {
	inLab(t, func(l *lab) {
		good := l.topic("good")
		leads, follows := l.diverged(1)
		release := l.held(recoveryPoints)
		pg := l.follow("good")
		l.f.assign(follows[0], 1, 2)
		for range 10 {
			good.append("x")
			l.caughtUp(pg, good)
		}
		if got := follows[0].log.LogEnd(); got != 3 {
			t.Errorf("truncated to %d before the recovery point was on disk", got)
		}
		release()
		l.caughtUp(follows[0], leads[0])
		l.equal(follows[0], leads[0], 0)
	})
}

// TestLogStartHoldsNoFetch, not even of its own partition, and many are written at once.
func TestLogStartHoldsNoFetch(t *testing.T) {
	inLab(t, func(l *lab) {
		const n = 200
		var leads []*ledger
		var follows []*Partition
		for i := range n {
			name := fmt.Sprint("t", i)
			leads = append(leads, l.topic(name))
			leads[i].fill(3)
			follows = append(follows, l.follow(name))
		}
		for i := range n {
			l.caughtUp(follows[i], leads[i])
		}
		release := l.held(logStarts)
		for _, lg := range leads {
			l.must(lg.log.SetLogStart(2))
			lg.append("x")
		}
		for i := range n {
			l.caughtUp(follows[i], leads[i])
		}
		release()
		var count atomic.Int64
		l.rewrites(logStarts, &count)
		for _, lg := range leads {
			l.must(lg.log.SetLogStart(3))
			lg.append("y")
		}
		l.until("all start there", func() bool {
			for _, p := range follows {
				if p.log.LogStart() != 3 {
					return false
				}
			}
			return true
		})
		if got := count.Load(); got > n/10 {
			t.Errorf("%d log starts were written in %d writes", n, got)
		}
	})
}

// TestLogStartThatCannotBeWrittenIsTriedAgain while the partition is fetched on.
func TestLogStartThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	inLab(t, func(l *lab) {
		lg := l.topic("t")
		p := l.follow("t")
		for range 10 { // segments
			lg.fill(5)
			l.caughtUp(p, lg)
		}
		l.must(l.dir.Checkpoint()) // they are sealed
		segments := p.log.Segments()
		full := func(op vfs.Op) error {
			if op.Kind == vfs.OpRename && op.Path == logStarts {
				return syscall.ENOSPC
			}
			return nil
		}
		l.onDisk.Store(&full)
		l.must(lg.log.SetLogStart(40))
		for range 20 {
			lg.append("x")
			l.caughtUp(p, lg)
		}
		synctest.Wait()
		if got := p.log.Segments(); got < segments {
			t.Errorf("segments were removed before the log start was on disk: %d of %d are left", got, segments)
		}
		l.onDisk.Store(nil)
		l.until("what lies below is removed", func() bool { return p.log.Segments() < segments })
		if n := strings.Count(l.logged.String(), "log start of a follower does not move"); n < 1 || n > 2 {
			t.Errorf("reported %d times", n)
		}
	})
}

// TestLeaderIsAskedOnceForManyOffsets: logs that end beyond their leader's do not wait
// for each other's answers.
func TestLeaderIsAskedOnceForManyOffsets(t *testing.T) {
	inLab(t, func(l *lab) {
		const n = 100
		var leads []*ledger
		var follows []*Partition
		for i := range n {
			name := fmt.Sprint("t", i)
			lg, p := l.topic(name), l.open(name)
			l.must(replace(lg.log, lineage(1, 1)...))
			l.leaders[1].lead(l.tip(name), 1)
			l.must(replace(p.log, lineage(1, 1, 1, 1)...))
			leads, follows = append(leads, lg), append(follows, p)
		}
		l.leaders[1].scripted(func(lg *ledger, q *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition) bool {
			if q.FetchOffset <= lg.log.LogEnd() {
				return false
			}
			rp.ErrorCode = kerr.OffsetOutOfRange.Code
			return true
		})
		for _, p := range follows {
			l.f.assign(p, 1, 1)
		}
		for i, p := range follows {
			l.until("truncated", func() bool { return p.log.LogEnd() == leads[i].log.LogEnd() })
		}
		if got := l.leaders[1].listed; got > 5 {
			t.Errorf("%d requests for the ends of %d logs", got, n)
		}
	})
}

package replica

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// turn is the right to change a log that this broker does not lead. It is held
// while the disk works, never across the network or the tier, so it is a channel.
type turn chan struct{}

func (t turn) take()       { t <- struct{}{} }
func (t turn) give()       { <-t }
func (t turn) taken() bool { return len(t) > 0 }

// pass returns when whoever has the turn now has given it back.
func (t turn) pass() {
	t.take()
	t.give()
}

// errOver means that a partition is not followed like this any more.
var errOver = errors.New("not followed any more")

// follow is one partition that follows one leader in one epoch.
type follow struct {
	p       *Partition
	leader  metadata.BrokerID
	epoch   int32
	turn    turn          // of p
	over    chan struct{} // closed when it is replaced or removed, before the turn is taken to be sure
	fetcher *fetcher      // nil when there is no leader to ask

	aside    atomic.Bool  // the disk or the tier works for it, and it is not fetched
	trimming atomic.Bool  // the log start is moved
	start    atomic.Int64 // of the log, as the leader said last
	failed   atomic.Bool  // in trouble for long, or for good
	lag      atomic.Int64 // records behind the leader's high watermark; -1 = not known

	// Owned by the fetcher, or by who works for it aside.
	begun     bool      // see begin
	due       *cut      // to be made before the next request
	tierKnown bool      // that an empty log has nothing to take from the tier
	notBefore time.Time // no request before
	faults    int       // in a row
	trouble   string    // what was logged last
}

func newFollow(p *Partition, leader metadata.BrokerID, epoch int32) *follow {
	fo := &follow{p: p, leader: leader, epoch: epoch, turn: p.turn, over: make(chan struct{})}
	fo.lag.Store(-1)
	return fo
}

func (fo *follow) isOver() bool {
	select {
	case <-fo.over:
		return true
	default:
		return false
	}
}

// locked calls fn with the turn, unless the partition is not followed any more.
func (fo *follow) locked(fn func() error) error {
	fo.turn.take()
	defer fo.turn.give()
	if fo.isOver() {
		return errOver
	}
	return fn()
}

// empty says whether the local disk has no records.
func (fo *follow) empty() bool { return fo.p.log.LocalLogStart() == fo.p.log.LogEnd() }

// begin drops epochs from the lineage that have no records: those of a time when
// this broker led and wrote nothing. The leader need not know them.
func (fo *follow) begin() error {
	err := fo.locked(func() error { return fo.p.log.TruncateTo(fo.p.log.LogEnd()) })
	fo.begun = err == nil
	return err
}

// answer takes one partition's answer to a fetch from offset. Where it says that the
// log diverges there is nothing to take, and a cut due.
func (fo *follow) answer(offset int64, rp *kmsg.FetchResponseTopicPartition, report *report) error {
	return fo.locked(func() (err error) {
		if fo.p.log.LogEnd() != offset {
			return nil // not the log that asked
		}
		if d := &rp.DivergingEpoch; d.Epoch >= 0 && d.EndOffset >= 0 {
			fo.due, err = fo.diverged(d.Epoch, d.EndOffset)
			return err
		}
		n, err := fo.append(rp.RecordBatches)
		report.bytes += n
		if err != nil {
			return err
		}
		fo.advance(rp.HighWatermark, rp.LogStartOffset)
		return nil
	})
}

// append writes what the leader sent, in place, and returns how many bytes.
func (fo *follow) append(batches []byte) (int, error) {
	if len(batches) == 0 {
		return 0, nil
	}
	info, err := fo.p.log.AppendAsFollower(batches, fo.epoch)
	if err == nil && info.Bytes == 0 {
		err = fmt.Errorf("%w: no whole batch in %d bytes", segment.ErrCorrupt, len(batches))
	}
	return info.Bytes, err
}

// advance takes the leader's high watermark, as far as our log reaches, and wakes
// who waits for it. It notes where the log is to start: see trim.
func (fo *follow) advance(hw, logStart int64) {
	log := fo.p.log
	fo.lag.Store(max(0, hw-log.LogEnd()))
	was := log.HighWatermark()
	log.SetHighWatermark(hw)
	now := log.HighWatermark()
	fo.start.Store(min(logStart, now))
	if now > was {
		fo.p.moved.broadcast()
		fo.p.fetches.wake()
	}
}

// cut is a truncation to be made, of a log that ends at from, and why.
type cut struct {
	to, from int64
	why      string
	epoch    int32
	end      int64
}

// diverged has the log truncated where the leader says that our last epoch ended in its
// log: AbstractFetcherThread.getOffsetTruncationState. Where we do not know the
// epoch that the leader names, the next fetch asks about the one before.
func (fo *follow) diverged(epoch int32, end int64) (*cut, error) {
	log := fo.p.log
	to := min(end, log.LogEnd())
	if found, ours := log.EndOffsetForEpoch(epoch); found == epoch {
		to = min(to, ours)
	} else if found != segment.NoEpoch {
		to = min(ours, log.LogEnd())
	}
	if to >= log.LogEnd() {
		return nil, fmt.Errorf("%w: leader's epoch %d ends at %d, ours are %v and end at %d", errNoCommonPoint, epoch, end, log.LeaderEpochs(), log.LogEnd())
	}
	return &cut{to, log.LogEnd(), "leader's epoch ended", epoch, end}, nil
}

// errNoCommonPoint means that a leader says that our log diverges from its own
// and names a point that is not in ours.
var errNoCommonPoint = errors.New("diverging epoch names no offset to truncate to")

// truncate makes a cut. The turn is held.
func (fo *follow) truncate(c *cut, report *report) error {
	log, p := fo.p.log, fo.p
	if log.LogEnd() != c.from {
		return nil // not the log that asked
	}
	level, hw := report.log.Info, log.HighWatermark()
	if c.to < hw {
		// Committed records go: only an unclean election can bring that about.
		level = report.log.Error
	}
	level("truncate follower", "partition", p.tp, "offset", c.to, "high_watermark", hw, "log_end", log.LogEnd(), "epoch", log.LatestEpoch(),
		"reason", c.why, "leader", fo.leader, "leader_epoch", fo.epoch, "diverging_epoch", c.epoch, "diverging_end", c.end)
	fo.tierKnown = false
	if err := log.TruncateTo(c.to); err != nil {
		return err
	}
	p.moved.broadcast()
	return nil
}

// Backoff of a partition, or a leader, in trouble: it doubles from the first to
// Options.FetchBackoff. A failover is over in less than the first few.
const firstBackoff = 20 * time.Millisecond

// backoff is the pause after the n-th fault in a row, with jitter.
func backoff(faults int, most time.Duration) time.Duration {
	d := most
	if faults < 16 {
		d = min(most, firstBackoff<<max(faults-1, 0))
	}
	return d/2 + rand.N(d/2+1)
}

// noisy is how many faults in a row are somebody's business; until then they may
// be a failover, of which each broker hears at its own time.
const noisy = 6

// fault notes that a request or its answer failed for this partition alone.
func (fo *follow) fault(err error, now time.Time, report *report) {
	fo.faults++
	fo.notBefore = now.Add(backoff(fo.faults, report.backoff))
	lasting := errors.Is(err, segment.ErrOffline) || errors.Is(err, segment.ErrClosed)
	if lasting {
		fo.notBefore = now.Add(report.backoff)
	}
	corrupt := fo.faults > 1 && (errors.Is(err, segment.ErrCorrupt) || errors.Is(err, segment.ErrInvalidBatch))
	if fo.faults < noisy && !lasting && !corrupt {
		report.log.Debug("fetch partition", "partition", fo.p.tp, "leader", fo.leader, "epoch", fo.epoch, "err", err)
		return
	}
	fo.failed.Store(true)
	if text := err.Error(); text != fo.trouble {
		fo.trouble = text
		report.log.Error("partition cannot be copied from its leader, trying on", "partition", fo.p.tp, "leader", fo.leader,
			"epoch", fo.epoch, "offset", fo.p.log.LogEnd(), "err", err)
	}
}

// fine notes that the partition made its way again.
func (fo *follow) fine(report *report) {
	if fo.faults == 0 {
		return
	}
	if fo.trouble != "" {
		report.log.Info("partition is copied again", "partition", fo.p.tp, "leader", fo.leader, "epoch", fo.epoch)
	}
	fo.faults, fo.trouble, fo.notBefore = 0, "", time.Time{}
	fo.failed.Store(false)
}

package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// auxTimeout bounds one attempt to read from the tier where to begin.
const auxTimeout = 30 * time.Second

// noTierStart stands for a start that is at the tier's end or not at all.
const noTierStart = -1

// tierHasMore says whether the tier, as the Image shows it, reaches beyond a
// local log without records: such a replica begins where the tier ends
// (KIP-1023). At the tier's very end it does so only for the lineage's sake.
func (w *fetcher) tierHasMore(fo *follow) bool {
	log := fo.p.log
	pointer, ok := w.f.m.o.Metadata.Image().RemotePointer(fo.p.tip)
	if !ok || pointer.EndOffset <= pointer.StartOffset || !fo.p.state.Load().remote {
		fo.tierKnown = true
		return false
	}
	if end := log.LogEnd(); pointer.EndOffset > end || pointer.EndOffset == end && log.LatestEpoch() == segment.NoEpoch {
		return true
	}
	fo.tierKnown = true
	return false
}

// startFromTier has a partition begin at the end of the tier, or at leaderStart
// if that is beyond. Reading from the tier may take long; the other partitions
// go on meanwhile.
func (w *fetcher) startFromTier(ctx context.Context, fo *follow, leaderStart int64) {
	w.aside(fo, func() {
		for faults := 1; ; faults++ {
			err := w.f.buildFromTier(ctx, fo, leaderStart)
			if err == nil || errors.Is(err, errOver) || ctx.Err() != nil {
				return
			}
			w.f.metrics.auxFailed(ctx)
			if faults == 1 || faults == noisy {
				w.f.m.log.Warn("start of a follower from the tier, trying on", "partition", fo.p.tp, "epoch", fo.epoch, "err", err)
			}
			fo.failed.Store(faults >= noisy)
			pause(ctx, backoff(faults, w.f.m.o.FetchBackoff), fo.over)
		}
	})
}

// buildFromTier is TierStateMachine.start: epochs and producers of what lies in
// the tier, and an empty log behind it.
func (f *fetchers) buildFromTier(ctx context.Context, fo *follow, leaderStart int64) error {
	select {
	case f.tier <- struct{}{}:
	case <-fo.over:
		return errOver
	case <-ctx.Done():
		return ctx.Err()
	}
	attempt, cancel := context.WithTimeout(ctx, auxTimeout)
	aux, ok, err := f.m.o.Remote.AuxState(attempt, fo.p.tip)
	cancel()
	<-f.tier
	if err != nil {
		return fmt.Errorf("state at the tier's end: %w", err)
	}
	return fo.locked(func() error {
		log := fo.p.log
		end := log.LogEnd()
		switch {
		case ok && aux.EndOffset >= max(end, leaderStart):
			fo.tierKnown = true
			if err := fo.p.restore(aux); err != nil {
				return err
			}
			f.metrics.auxBuilt(ctx)
			f.m.log.Info("follower starts at the end of the tier", "partition", fo.p.tp, "epoch", fo.epoch,
				"log_end", end, "log_start", aux.LogStart, "offset", aux.EndOffset)
			return nil
		case leaderStart > end:
			fo.tierKnown = true
			f.m.log.Warn("follower starts at the leader's log start", "partition", fo.p.tp, "epoch", fo.epoch, "log_end", end, "offset", leaderStart)
			return log.TruncateFullyAndStartAt(leaderStart, leaderStart)
		case fo.empty():
			fo.tierKnown = true // the Image is behind: the tier has less than it shows
			return nil
		}
		return fmt.Errorf("leader has offset %d in the tier only, and the tier ends at %d (known: %t)", end, aux.EndOffset, ok)
	})
}

// restore makes the log begin at the end of the tier.
func (p *Partition) restore(aux segment.AuxState) error {
	at := behind(aux)
	if err := p.log.TruncateFullyAndStartAt(at, min(aux.LogStart, at)); err != nil {
		return err
	}
	if err := p.log.RestoreFromRemote(at, aux.Epochs, aux.ProducerSnapshot); err != nil {
		return err
	}
	p.moved.broadcast()
	p.fetches.wake()
	return nil
}

// behind is where a log goes on behind the tier: at its end, or at the log start
// if records were deleted beyond that.
func behind(aux segment.AuxState) int64 { return max(aux.EndOffset, aux.LogStart) }

// findWay handles offsets that the leader does not have, as
// AbstractFetcherThread.fetchOffsetAndApplyTruncateAndBuild: the leader's log ends
// before ours, or begins behind it. It asks once for all of them.
func (w *fetcher) findWay(ctx context.Context, astray []*follow, now time.Time) {
	var short []*follow // the leader's logs do not end before ours
	latest := make(map[*follow]int64, len(astray))
	w.leaderOffsets(ctx, astray, Latest, func(fo *follow, offset int64, err error) {
		switch end := fo.p.log.LogEnd(); {
		case err != nil:
			fo.fault(err, now, &w.report)
		case offset < end:
			fo.due = &cut{offset, end, "leader's log ends", fo.epoch, offset}
			w.startCut(ctx, fo)
		default:
			latest[fo], short = offset, append(short, fo)
		}
	})
	if len(short) == 0 {
		return
	}
	w.leaderOffsets(ctx, short, Earliest, func(fo *follow, offset int64, err error) {
		if end := fo.p.log.LogEnd(); err == nil && offset <= end {
			err = fmt.Errorf("%w: %d, although the leader has %d to %d", segment.ErrOffsetOutOfRange, end, offset, latest[fo])
		}
		if err != nil {
			fo.fault(err, now, &w.report)
			return
		}
		w.startFromTier(ctx, fo, offset)
	})
}

// leaderOffsets asks ListOffsets for an end of the leader's logs, and tells for each
// what it was answered.
func (w *fetcher) leaderOffsets(ctx context.Context, follows []*follow, timestamp int64, tell func(fo *follow, offset int64, err error)) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 7, int32(w.f.m.o.Broker)
	topics := make(map[string]int, len(follows))
	for _, fo := range follows {
		at, ok := topics[fo.p.tp.Topic]
		if !ok {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic, at = fo.p.tp.Topic, len(req.Topics)
			topics[t.Topic], req.Topics = at, append(req.Topics, t)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.Timestamp = fo.p.tp.Partition, fo.epoch, timestamp
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, p)
	}
	answers := make(map[metadata.TopicPartition]*kmsg.ListOffsetsResponseTopicPartition, len(follows))
	resp, failed := w.do(ctx, req, false, answerTimeout)
	if failed != nil {
		w.session.lost()
	} else {
		for _, t := range resp.(*kmsg.ListOffsetsResponse).Topics {
			for i := range t.Partitions {
				answers[metadata.TopicPartition{Topic: t.Topic, Partition: t.Partitions[i].Partition}] = &t.Partitions[i]
			}
		}
	}
	for _, fo := range follows {
		rp, err := answers[fo.p.tp], failed
		switch {
		case err != nil:
		case rp == nil:
			err = fmt.Errorf("%w: no offset for a partition", errLeader)
		case rp.ErrorCode != 0:
			err = errorOf(rp.ErrorCode)
		case rp.Offset < 0:
			err = fmt.Errorf("%w: offset %d for timestamp %d", errLeader, rp.Offset, timestamp)
		}
		if err != nil {
			rp = &kmsg.ListOffsetsResponseTopicPartition{Offset: -1}
		}
		tell(fo, rp.Offset, err)
	}
}

package controller

import (
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// Why Elect elects nobody.
var (
	ErrElectionNotNeeded     = errors.New("election not needed")
	ErrPreferredNotAvailable = errors.New("preferred leader not available")
	ErrNoEligibleLeader      = errors.New("no eligible leader")
)

// Elect returns the change that somebody asked for: the preferred leader leads
// again, or, with unclean, a partition without a leader gets one, from the
// replicas that are not in sync if need be (KIP-460).
// Errors: metadata.ErrUnknownPartition, ErrElectionNotNeeded,
// ErrPreferredNotAvailable, ErrNoEligibleLeader.
func Elect(im *metadata.Image, t *metadata.Topic, partition int32, unclean bool) (metadata.PartitionChange, error) {
	p, err := partitionOf(t, partition)
	if err != nil {
		return metadata.PartitionChange{}, err
	}
	if len(p.Replicas) == 0 {
		return metadata.PartitionChange{}, electError(t, partition, ErrNoEligibleLeader)
	}
	d := decider{im: im, created: t.Created}
	to := d.decide(p, p)
	if !unclean {
		if to, err = d.electPreferred(p, to); err != nil {
			return metadata.PartitionChange{}, electError(t, partition, err)
		}
		return change(t, int(partition), to), nil
	}
	if to.Leader == metadata.NoBroker {
		newest := p.LeaderEpoch
		for _, f := range p.Found {
			newest = max(newest, f.LeaderEpoch)
		}
		if !d.electUnclean(&to) {
			return metadata.PartitionChange{}, electError(t, partition, ErrNoEligibleLeader)
		}
		to.LeaderEpoch = newest + 1
	}
	if to.Leader == p.Leader && to.LeaderBrokerEpoch == p.LeaderBrokerEpoch {
		return metadata.PartitionChange{}, electError(t, partition, ErrElectionNotNeeded)
	}
	return d.election(t, int(partition), to), nil
}

// electPreferred makes the preferred leader lead, where to is what is to become
// of p without it.
func (d decider) electPreferred(p, to metadata.Partition) (metadata.Partition, error) {
	id := to.Replicas[0]
	switch {
	case to.Leader == id && p.Leader == id && to.LeaderBrokerEpoch == p.LeaderBrokerEpoch:
		return p, ErrElectionNotNeeded
	case to.Leader == id:
		return to, nil
	case !d.isActive(id) || !slices.Contains(to.ISR, id):
		return p, fmt.Errorf("%w: broker %d does not live, is draining or is not in sync", ErrPreferredNotAvailable, id)
	case slices.Contains(to.Offline, id):
		return p, fmt.Errorf("%w: broker %d cannot use its log", ErrPreferredNotAvailable, id)
	}
	b, _ := d.live(id)
	to.Leader, to.LeaderBrokerEpoch, to.LeaderEpoch = id, b.Epoch, p.LeaderEpoch+1
	return to, nil
}

func partitionOf(t *metadata.Topic, n int32) (metadata.Partition, error) {
	if n < 0 || int(n) >= len(t.Partitions) {
		return metadata.Partition{}, fmt.Errorf("%s-%d: %w", t.Name, n, metadata.ErrUnknownPartition)
	}
	return t.Partitions[n], nil
}

func electError(t *metadata.Topic, partition int32, err error) error {
	return fmt.Errorf("elect leader of %s-%d: %w", t.Name, partition, err)
}

// imbalancePercent is Kafka's leader.imbalance.per.broker.percentage: a broker
// gets its leaderships back when it lacks more than this part of them.
const imbalancePercent = 10

// Prefer returns the elections that give leadership back to the partitions'
// preferred leaders, for those brokers that lack more than a tenth of theirs.
// Partitions that are being reassigned wait for the end of that.
func Prefer(im *metadata.Image) []metadata.PartitionChange {
	type share struct {
		preferred int
		changes   []metadata.PartitionChange
	}
	shares := map[metadata.BrokerID]*share{}
	d := decider{im: im}
	for _, t := range im.Topics() {
		for n, p := range t.Partitions {
			if len(p.Replicas) == 0 || p.Reassigning() {
				continue
			}
			id := p.Replicas[0]
			s := shares[id]
			if s == nil {
				s = &share{}
				shares[id] = s
			}
			s.preferred++
			if p.Leader == metadata.NoBroker {
				continue // Plan's
			}
			if to, err := d.electPreferred(p, p); err == nil && to.Leader != p.Leader {
				s.changes = append(s.changes, change(t, n, to))
			}
		}
	}
	var out []metadata.PartitionChange
	for _, b := range im.Brokers() { // in order of ids, so that a plan is reproducible
		if s := shares[b.ID]; s != nil && len(s.changes)*100 > s.preferred*imbalancePercent {
			out = append(out, s.changes...)
		}
	}
	return out
}

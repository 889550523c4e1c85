package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// decision is a change of one partition that a client asks for, and what became
// of it.
type decision struct {
	tp metadata.TopicPartition
	// plan is a pure function of the image, such as [controller.Elect].
	plan func(im *metadata.Image, t *metadata.Topic) (metadata.PartitionChange, error)
	err  error
}

// decideAttempts is how often a decision is made anew when somebody else, a
// leader or the controller, was faster.
const decideAttempts = 5

// maxDecisions is how many partitions a request may name that are to be changed:
// ReplicationControlManager's MAX_RECORDS_PER_USER_OP.
const maxDecisions = 10_000

var errDuplicatePartition = errors.New("partition is named more than once in the request")

// decide makes the changes, all of an attempt in one call of the store. Any
// broker may: each change holds only if the partition is as the image shows it.
func (a *API) decide(ctx context.Context, asked []decision) {
	open := unique(asked)
	for range decideAttempts {
		img := a.o.Metadata.Image()
		changes := make([]metadata.PartitionChange, 0, len(open))
		whose := make([]*decision, 0, len(open))
		for _, d := range open {
			change, err := d.planned(img)
			if d.err = err; err == nil && !idle(change) {
				changes, whose = append(changes, change), append(whose, d)
			}
		}
		if len(changes) == 0 {
			return
		}
		open = open[:0]
		for i, err := range a.o.Metadata.AlterPartitions(ctx, changes) {
			if whose[i].err = err; errors.Is(err, metadata.ErrConflict) {
				open = append(open, whose[i])
			}
		}
		if len(open) == 0 || a.newerImage(ctx, img) != nil {
			return
		}
	}
}

// unique refuses all decisions about a partition that is named again: it cannot
// be changed in two ways at once.
func unique(asked []decision) []*decision {
	named := make(map[metadata.TopicPartition]int, len(asked))
	for i := range asked {
		named[asked[i].tp]++
	}
	open := make([]*decision, 0, len(asked))
	for i := range asked {
		if named[asked[i].tp] > 1 {
			asked[i].err = errDuplicatePartition
			continue
		}
		open = append(open, &asked[i])
	}
	return open
}

func (d *decision) planned(img *metadata.Image) (metadata.PartitionChange, error) {
	t, ok := img.Topic(d.tp.Topic)
	if !ok {
		return metadata.PartitionChange{}, fmt.Errorf("topic %q: %w", d.tp.Topic, metadata.ErrUnknownTopic)
	}
	if n := d.tp.Partition; n < 0 || int(n) >= len(t.Partitions) {
		return metadata.PartitionChange{}, fmt.Errorf("partition %d of topic %q: %w", n, t.Name, metadata.ErrUnknownPartition)
	}
	return d.plan(img, t)
}

// idle says whether a change changes nothing: its partition is as it was asked to be.
func idle(c metadata.PartitionChange) bool {
	from, to := &c.From, &c.To
	return from.Leader == to.Leader && from.LeaderEpoch == to.LeaderEpoch && from.LeaderBrokerEpoch == to.LeaderBrokerEpoch &&
		from.Recovering == to.Recovering && slices.Equal(from.Replicas, to.Replicas) && slices.Equal(from.ISR, to.ISR) &&
		slices.Equal(from.Offline, to.Offline) && slices.Equal(from.Found, to.Found) &&
		slices.Equal(from.Adding, to.Adding) && slices.Equal(from.Removing, to.Removing)
}

// newerImage waits until the Store shows another image than the one given.
func (a *API) newerImage(ctx context.Context, than *metadata.Image) error {
	changed, stop := a.o.Metadata.Watch()
	defer stop()
	for a.o.Metadata.Image() == than {
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

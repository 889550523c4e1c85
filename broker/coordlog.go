package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
)

// topicLog is an internal topic as the coordinator runtime sees it:
// [coordinator.Log] over the replica manager.
type topicLog struct {
	topic    string
	replicas func() *replica.Manager // made after the coordinator
}

func (l topicLog) partition(n int32) (*replica.Partition, error) {
	p, err := l.replicas().Partition(metadata.TopicPartition{Topic: l.topic, Partition: n})
	if err != nil || !p.Leading() {
		return nil, coordinator.ErrNotCoordinator
	}
	return p, nil
}

// notCoordinator gives a lost leadership the coordinator's word.
func notCoordinator(err error) error {
	if errors.Is(err, replica.ErrNotLeader) || errors.Is(err, replica.ErrUnknownPartition) || errors.Is(err, segment.ErrFenced) {
		return fmt.Errorf("%w: %w", coordinator.ErrNotCoordinator, err)
	}
	return err
}

func (l topicLog) Append(_ context.Context, n int32, batch []byte) (int64, error) {
	p, err := l.partition(n)
	if err != nil {
		return -1, err
	}
	if epoch := record.Batch(batch).LeaderEpoch(); epoch != p.LeaderEpoch() {
		return -1, fmt.Errorf("%w: batch of epoch %d, leader epoch %d", coordinator.ErrNotCoordinator, epoch, p.LeaderEpoch())
	}
	a, err := l.replicas().AppendTo(p, batch, replica.AcksAll, segment.Coordinator, time.Now())
	if err != nil {
		return -1, notCoordinator(err)
	}
	return a.LastOffset, nil
}

func (l topicLog) WaitCommitted(ctx context.Context, n int32, offset int64) error {
	p, err := l.partition(n)
	if err != nil {
		return err
	}
	return notCoordinator(p.WaitCommitted(ctx, offset))
}

func (l topicLog) Read(_ context.Context, n int32, from int64, maxBytes int) (batches []byte, next, end int64, err error) {
	p, err := l.partition(n)
	if err != nil {
		return nil, from, from, err
	}
	end = p.Log().LogEnd()
	chunk, err := p.Log().Read(from, segment.ReadOptions{UpTo: end, MaxBytes: maxBytes, MinOne: true})
	if err != nil {
		return nil, from, end, err
	}
	defer chunk.Release()
	if chunk.Len() == 0 {
		return nil, from, end, nil
	}
	batches, err = chunk.AppendTo(nil)
	return batches, chunk.NextOffset(), end, err
}

func (l topicLog) LogStart(_ context.Context, n int32) (int64, error) {
	p, err := l.partition(n)
	if err != nil {
		return -1, err
	}
	return p.Log().LocalLogStart(), nil
}

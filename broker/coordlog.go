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
)

// topicLog is an internal topic as the coordinator runtime sees it:
// [coordinator.Log] over the replica manager.
type topicLog struct {
	topic    string
	replicas func() *replica.Manager // made after the coordinator
	session  func() *metadata.Session
}

// led finds the partition that this broker leads in the term.
func (l topicLog) led(t coordinator.Term) (*replica.Partition, error) {
	p, err := l.replicas().Partition(metadata.TopicPartition{Topic: l.topic, Partition: t.Partition})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", coordinator.ErrNotCoordinator, err)
	}
	return p, leads(p, t)
}

// leads is asked again after what must have happened in the term: epochs never go back.
func leads(p *replica.Partition, t coordinator.Term) error {
	if epoch := p.LeaderEpoch(); !p.Leading() || epoch != t.Epoch {
		return fmt.Errorf("%w: leader epoch %d, want to lead at %d", coordinator.ErrNotCoordinator, epoch, t.Epoch)
	}
	return nil
}

// notCoordinator gives a lost leadership the coordinator's word.
func notCoordinator(err error) error {
	if errors.Is(err, replica.ErrNotLeader) || errors.Is(err, replica.ErrUnknownPartition) || errors.Is(err, segment.ErrFenced) {
		return fmt.Errorf("%w: %w", coordinator.ErrNotCoordinator, err)
	}
	return err
}

func (l topicLog) Append(_ context.Context, t coordinator.Term, batch []byte) (int64, error) {
	p, err := l.led(t)
	if err != nil {
		return -1, err
	}
	a, err := l.replicas().AppendTo(p, batch, replica.AcksAll, segment.Coordinator, time.Now())
	if err != nil {
		return -1, notCoordinator(err)
	}
	return a.LastOffset, nil
}

func (l topicLog) WaitCommitted(ctx context.Context, t coordinator.Term, offset int64) error {
	p, err := l.led(t)
	if err != nil {
		return err
	}
	if err := p.WaitCommitted(ctx, offset); err != nil {
		return notCoordinator(err)
	}
	if offset < 0 { // nothing was written that only a leader can commit
		if err := p.Confirm(ctx); err != nil {
			return notCoordinator(err)
		}
	}
	return leads(p, t)
}

// Leased is true while no other broker was told that this one is gone.
func (l topicLog) Leased() bool {
	s := l.session()
	if s == nil {
		return false
	}
	at, ttl := s.Confirmed()
	return time.Since(at) < ttl
}

func (l topicLog) Read(_ context.Context, t coordinator.Term, from int64, maxBytes int) (batches []byte, next, end int64, err error) {
	p, err := l.led(t)
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
	if batches, err = chunk.AppendTo(nil); err != nil {
		return nil, from, end, err
	}
	return batches, chunk.NextOffset(), end, leads(p, t)
}

func (l topicLog) LogStart(_ context.Context, t coordinator.Term) (int64, error) {
	p, err := l.led(t)
	if err != nil {
		return -1, err
	}
	return p.Log().LocalLogStart(), nil
}

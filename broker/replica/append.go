package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// Acks says when an append is acknowledged (Kafka's acks).
type Acks int16

// The three values of acks.
const (
	AcksAll  Acks = -1 // committed: synced on every in-sync replica
	AcksNone Acks = 0  // at once
	Acks1    Acks = 1  // synced on the leader
)

// Appended is an append that is in the log but maybe not yet acknowledged.
type Appended struct {
	segment.AppendInfo
	partition *Partition
	epoch     int32
	acks      Acks
}

// Append writes one or more record batches to the partition this broker leads.
// It returns as soon as they are in the log, in the order of the calls; wait
// for the acknowledgement with [Appended.Wait]. batches is changed in place
// and not kept. now is the LogAppendTime.
func (m *Manager) Append(tp metadata.TopicPartition, batches []byte, acks Acks, origin segment.Origin, now time.Time) (Appended, error) {
	p, err := m.Partition(tp)
	if err != nil {
		return Appended{}, err
	}
	return m.AppendTo(p, batches, acks, origin, now)
}

// AppendTo is Append for a partition already found.
func (m *Manager) AppendTo(p *Partition, batches []byte, acks Acks, origin segment.Origin, now time.Time) (Appended, error) {
	s, err := p.leaderState(-1)
	if err != nil {
		return Appended{}, err
	}
	if acks == AcksAll && len(s.ISR) < s.minInSync {
		return Appended{}, fmt.Errorf("%w: %d in sync, min.insync.replicas=%d", ErrNotEnoughReplicas, len(s.ISR), s.minInSync)
	}
	info, err := p.log.AppendAsLeader(batches, segment.AppendOptions{LeaderEpoch: s.LeaderEpoch, Origin: origin, Now: now})
	if err != nil {
		return Appended{}, err
	}
	return Appended{AppendInfo: info, partition: p, epoch: s.LeaderEpoch, acks: acks}, nil
}

// Wait returns when the append is acknowledged as its acks asked: synced on
// the leader for 1, committed for all. A lost leadership is ErrNotLeader: the
// records may or may not survive, as in Kafka.
func (a Appended) Wait(ctx context.Context) error {
	p := a.partition
	for {
		moved := p.moved.next()
		if a.Done() {
			return nil
		}
		if s := p.state.Load(); !s.leading || s.LeaderEpoch != a.epoch {
			return ErrNotLeader
		}
		if err := p.dir.Offline(); err != nil {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for acks of %s at offset %d: %w", p.tp, a.LastOffset, ctx.Err())
		}
	}
}

// Done says whether Wait would return nil at once.
func (a Appended) Done() bool {
	switch a.acks {
	case AcksNone:
		return true
	case Acks1:
		return a.partition.log.SyncedOffset() > a.LastOffset
	default:
		return a.partition.log.HighWatermark() > a.LastOffset
	}
}

// WaitCommitted returns when the high watermark is above offset, or with an
// error once this broker does not lead the partition any more.
func (p *Partition) WaitCommitted(ctx context.Context, offset int64) error {
	return Appended{AppendInfo: segment.AppendInfo{LastOffset: offset}, partition: p, epoch: p.LeaderEpoch(), acks: AcksAll}.Wait(ctx)
}

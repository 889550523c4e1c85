package replica

import (
	"context"
	"errors"
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
	fresh     bool // a fresh Image has just shown who leads
}

// Append writes one or more record batches to the partition this broker leads.
// It returns as soon as they are in the log, in the order of the calls; wait
// for the acknowledgement with [Appended.Wait]. batches is changed in place
// and not kept. now is the LogAppendTime.
func (m *Manager) Append(tp metadata.TopicPartition, batches []byte, acks Acks, origin segment.Origin, now time.Time) (Appended, error) {
	p, err := m.Partition(tp)
	if err != nil {
		return notAppended(-1), err
	}
	return m.AppendTo(p, batches, acks, origin, now)
}

// AppendTo is Append for a partition already found. After an error only LogStart
// of the result means something, -1 where even that is not known. ErrTimedOut
// means that nothing was appended and the tier is asked whether it was before.
func (m *Manager) AppendTo(p *Partition, batches []byte, acks Acks, origin segment.Origin, now time.Time) (Appended, error) {
	s, err := p.leaderState(-1)
	if err != nil {
		return notAppended(-1), err
	}
	if acks == AcksAll && !s.enoughInSync() {
		return notAppended(-1), fmt.Errorf("%w: %d in sync, min.insync.replicas=%d", ErrNotEnoughReplicas, len(s.ISR), s.minInSync)
	}
	info, err := p.log.AppendAsLeader(batches, segment.AppendOptions{
		LeaderEpoch: s.LeaderEpoch, Origin: origin, Now: now,
		// A transaction that no coordinator knows of is one that nobody can end:
		// the last stable offset would stop at it, and uploads with it.
		MustVerify: origin == segment.Client,
	})
	switch {
	case errors.Is(err, segment.ErrFenced):
		err = ErrNotLeader // deposed since
	case errors.Is(err, segment.ErrForgotten):
		m.forgot.want(p)
		err = fmt.Errorf("%w: %w", ErrTimedOut, err) // the client sends it again
	}
	if err != nil {
		return notAppended(p.log.LogStart()), err
	}
	p.followers.wake()
	return Appended{AppendInfo: info, partition: p, epoch: s.LeaderEpoch, acks: acks}, nil
}

// NotAppended is an append that did not happen.
func NotAppended() Appended { return notAppended(-1) }

func notAppended(logStart int64) Appended {
	return Appended{AppendInfo: segment.AppendInfo{FirstOffset: -1, LastOffset: -1, LogAppendTime: -1, LogStart: logStart}}
}

// Wait returns when the append is acknowledged as its acks asked: synced on
// the leader for 1, committed for all, or for 1 while this broker cannot know
// whether it still leads. A lost leadership is ErrNotLeader: the
// records may or may not survive, as in Kafka.
func (a Appended) Wait(ctx context.Context) error { return a.WaitOr(ctx, nil) }

// WaitOr is Wait that gives up with ErrTimedOut when expired delivers. It costs
// less than a context of its own for each of many appends.
func (a Appended) WaitOr(ctx context.Context, expired <-chan time.Time) error {
	return a.await(ctx, expired, Appended.settled)
}

// WaitSynced returns when nothing but followers can be waited for: the records
// are on this broker's disk, or the append is settled. An error says that the
// append will never be acknowledged.
func (a Appended) WaitSynced(ctx context.Context) error {
	return a.await(ctx, nil, func(a Appended) (bool, error) {
		done, err := a.settled()
		return done || a.partition.log.SyncedOffset() > a.LastOffset, err
	})
}

// await looks again whenever something of the partition moved, or, for acks=1, when
// it is known who leads.
func (a Appended) await(ctx context.Context, expired <-chan time.Time, done func(Appended) (bool, error)) error {
	if ok, err := done(a); ok || err != nil {
		return err
	}
	p := a.partition
	var fresh <-chan struct{}
	for asked := false; ; {
		moved := p.moved.next()
		if ok, err := done(a); ok || err != nil {
			return err
		}
		a.fresh = false
		if a.acks == Acks1 && !asked && p.log.SyncedOffset() > a.LastOffset {
			fresh, asked = p.m.o.Metadata.Confirm(), true
		}
		select {
		case <-moved:
		case <-fresh:
			a.fresh, fresh = true, nil
		case <-expired:
			return fmt.Errorf("%w: acks of %s at offset %d", ErrTimedOut, p.tp, a.LastOffset)
		case <-ctx.Done():
			return fmt.Errorf("wait for acks of %s at offset %d: %w", p.tp, a.LastOffset, ctx.Err())
		}
	}
}

// Done says whether Wait would return at once, without an error.
func (a Appended) Done() bool {
	done, err := a.settled()
	return done && err == nil
}

// settled says whether the append is acknowledged, or why it will never be.
func (a Appended) settled() (bool, error) {
	if a.acks == AcksNone {
		return true, nil
	}
	// The ends first, then the state: what another leader made of the offsets
	// comes with another state.
	log := a.partition.log
	synced, committed := log.SyncedOffset() > a.LastOffset, log.HighWatermark() > a.LastOffset
	s := a.partition.state.Load()
	switch {
	case !s.leading || s.LeaderEpoch != a.epoch:
		return false, ErrNotLeader
	case a.acks == AcksAll && synced && !s.enoughInSync():
		// The high watermark does not move for them any more (KIP-966).
		return false, fmt.Errorf("%w: %d in sync, min.insync.replicas=%d", ErrNotEnoughReplicasAfterAppend, len(s.ISR), s.minInSync)
	case committed:
		return true, nil
	case a.acks == Acks1 && synced && a.partition.leads(s, a.fresh):
		// Another broker may have been elected else that does not have them: then
		// only the in-sync replicas can tell.
		return true, nil
	}
	return false, a.partition.dir.Offline()
}

// WaitCommitted returns when the high watermark is above offset, or with an
// error once this broker does not lead the partition any more. That too few
// replicas are in sync is no end of the wait: the high watermark stays where it
// is until there are enough of them.
func (p *Partition) WaitCommitted(ctx context.Context, offset int64) error {
	a := Appended{AppendInfo: segment.AppendInfo{LastOffset: offset}, partition: p, epoch: p.LeaderEpoch()}
	return a.await(ctx, nil, Appended.committed)
}

// committed says whether the high watermark is above the append, or why this
// broker will never know.
func (a Appended) committed() (bool, error) {
	// The end first, then the state: what another leader made of the offsets
	// comes with another state.
	committed := a.partition.log.HighWatermark() > a.LastOffset
	if s := a.partition.state.Load(); !s.leading || s.LeaderEpoch != a.epoch {
		return false, ErrNotLeader
	}
	if committed {
		return true, nil
	}
	return false, a.partition.dir.Offline()
}

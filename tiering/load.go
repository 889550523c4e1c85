package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// loadView reads the pointer and the root under a new leadership, and checks that the log continues the tier. Before it
// has nothing is copied and nothing expires or is deleted.
func (m *Manager) loadView(ctx context.Context, p *partition, l *leadership) error {
	pointer, err := m.readPointer(ctx, p)
	if err != nil {
		return err
	}
	man, err := m.bucket.Open(ctx, p.tip, pointer)
	if l.tiered && (err == nil || errors.Is(err, manifest.ErrMissing)) {
		man, err = m.newest(ctx, p, l, pointer, man, err)
		if l.unseen = nil; err != nil && pointer.Manifest == "" && !bucket.IsDamage(err) && !decided(err) {
			// A store that is away keeps no local log from its retention: there is nothing in the tier, or nothing yet
			// known of it. Whether there is something is found out before the first copy.
			l.unseen, err = err, nil
		}
	}
	if err != nil {
		return err
	}
	if man.Root != nil {
		if l.tiered { // what is given up need not fit
			if err := l.Continues(man.Root); err != nil {
				return err
			}
		}
		// What retention has removed under an earlier leader stays removed, as far as this log reaches.
		if _, err := l.startAt(min(max(man.Root.StartOffset, man.Root.LogStartOffset), l.Log.HighWatermark())); err != nil {
			return err
		}
		if err := m.skipHole(l, man.Root); err != nil {
			return err
		}
	}
	p.publish(l, man)
	return nil
}

// decided says whether an error is a finding about the tier, rather than about asking for it.
func decided(err error) bool {
	return errors.Is(err, manifest.ErrDiverged) || errors.Is(err, manifest.ErrVersion) || errors.Is(err, ErrNotLeader) || errors.Is(err, metadata.ErrFenced) || errors.Is(err, metadata.ErrConflict)
}

// newest is the manifest of the newest root in the bucket, where that is not the pointer's. Roots behind the pointer are
// left by a commit that did not come to count, or by an etcd that was set back to an earlier state of itself. In both
// cases they were written by the partition's leader and name committed records only, which are the same in every replica:
// one that is whole and that both the pointer's root and the local log agree with is true, and is committed
// again. What disagrees waits for an operator. man and cause are what became of opening the pointer's own root.
func (m *Manager) newest(ctx context.Context, p *partition, l *leadership, pointer metadata.RemotePointer, man bucket.Manifest, cause error) (bucket.Manifest, error) {
	dir := l.Dir()
	if pointer.Manifest != "" {
		var err error
		if dir, err = manifest.DirOf(pointer.Manifest); err != nil {
			return man, err
		}
	}
	names, err := m.bucket.Newer(ctx, dir, pointer)
	if err != nil || len(names) == 0 {
		return man, errors.Join(cause, err)
	}
	if m.keepsLog(p, l) {
		return m.passOver(ctx, p, l, man, names, cause)
	}
	var unusable error
	for _, n := range names {
		next, err := m.bucket.OpenNamed(ctx, p.tip, dir, n.Name)
		if err == nil {
			err = m.gc.Whole(ctx, next, pointer.EndOffset)
		}
		switch {
		case err == nil:
			return m.follow(ctx, p, l, pointer, man, next)
		case !bucket.IsDamage(err):
			return man, errors.Join(cause, err)
		}
		unusable = errors.Join(unusable, err)
	}
	if cause != nil || l.Log.LocalLogStart() > pointer.EndOffset {
		return man, errors.Join(cause, fmt.Errorf("the bucket has manifests newer than etcd's %q, none can be used: %w: %w", pointer.Manifest, manifest.ErrDiverged, unusable))
	}
	// The local log has all that they can name, and goes on from the pointer's.
	m.log.Warn("manifests newer than etcd's cannot be used, passed over", "topic", l.Topic, "partition", p.tip.Partition, "epoch", l.Epoch, "err", unusable)
	return man, nil
}

// follow makes the pointer name a root that is newer than its own.
func (m *Manager) follow(ctx context.Context, p *partition, l *leadership, pointer metadata.RemotePointer, man, next bucket.Manifest) (bucket.Manifest, error) {
	if err := extends(pointer, man.Root, next.Root); err != nil {
		return man, err
	}
	if err := l.Continues(next.Root); err != nil {
		return man, err
	}
	if end := l.Log.LogEnd(); end < next.Root.EndOffset && next.Root.Segments > 0 {
		return man, fmt.Errorf("the log ends at %d and the bucket's manifest %s, which etcd does not know, at %d: %w", end, next.Pointer.Manifest, next.Root.EndOffset, manifest.ErrDiverged)
	}
	if next.Root.LeaderEpoch > l.Epoch {
		return man, m.raiseEpoch(ctx, p, l, next.Root.LeaderEpoch)
	}
	// Its list of deletions is as old as the root, and until this moment the pointer named what is on it.
	e := manifest.NewEdit(next.Root, next.Load, time.Now(), m.o.Grace)
	e.Delay()
	l.tried = max(l.tried, next.Root.Sequence)
	if err := m.commit(ctx, p, l, bucket.Manifest{Tree: next.Tree, Pointer: pointer, Dir: next.Dir}, e); err != nil {
		return man, err
	}
	m.log.Warn("the bucket has a newer manifest than etcd, it is taken: etcd was set back, or a commit was broken off", "topic", l.Topic,
		"partition", p.tip.Partition, "epoch", l.Epoch, "object", next.Pointer.Manifest, "from", pointer.EndOffset, "offset", next.Pointer.EndOffset)
	return m.current(ctx, p, false)
}

// extends refuses a root that is not of the same history as the one that the pointer names; r is that, nil if it is gone.
func extends(pointer metadata.RemotePointer, r, next *manifest.Root) error {
	if next.EndOffset < pointer.EndOffset || next.StartOffset < pointer.StartOffset {
		return fmt.Errorf("manifest %d of epoch %d has offsets %d to %d, etcd's older one %d to %d: %w", next.Sequence, next.LeaderEpoch,
			next.StartOffset, next.EndOffset, pointer.StartOffset, pointer.EndOffset, manifest.ErrDiverged)
	}
	if r == nil || r.Segments == 0 || next.Segments == 0 || r.HighestOffset() < next.StartOffset {
		return nil
	}
	was, _ := r.Epochs.At(r.HighestOffset())
	is, _ := next.Epochs.At(r.HighestOffset())
	if was != is {
		return fmt.Errorf("offset %d has leader epoch %d in etcd's manifest and %d in manifest %d of epoch %d, which is newer: %w", r.HighestOffset(), was, is, next.Sequence, next.LeaderEpoch, manifest.ErrDiverged)
	}
	return nil
}

// raiseEpoch has the partition led in an epoch above all that the bucket has seen. An etcd that was set back begins
// them again where it was, and epochs that were used must not be used for other records. This leadership ends with it.
func (m *Manager) raiseEpoch(ctx context.Context, p *partition, l *leadership, seen int32) error {
	from, ok := m.o.Metadata.Image().PartitionByID(p.tip)
	if !ok || from.LeaderEpoch != l.Epoch {
		return fmt.Errorf("leader epoch %d: %w", l.Epoch, ErrNotLeader)
	}
	to := from
	to.Replicas, to.ISR = slices.Clone(from.Replicas), slices.Clone(from.ISR)
	to.LeaderEpoch = max(seen, l.Log.LatestEpoch()) + 1
	ctx, cancel := context.WithTimeout(ctx, etcdLimit)
	defer cancel()
	if errs := m.o.Metadata.AlterPartitions(ctx, []metadata.PartitionChange{{TopicIDPartition: p.tip, From: from, To: to}}); errs[0] != nil {
		return fmt.Errorf("raise the leader epoch from %d to %d: %w", l.Epoch, to.LeaderEpoch, errs[0])
	}
	m.log.Warn("the bucket has manifests of later leader epochs than etcd: etcd was set back, the leader epoch is raised", "topic", l.Topic,
		"partition", p.tip.Partition, "epoch", to.LeaderEpoch, "from", l.Epoch)
	return fmt.Errorf("leader epoch %d ended: %w", l.Epoch, ErrNotLeader)
}

// KeepLog has a partition that waits because the bucket has manifests that disagree with its log go on with the log. It
// holds while this leadership lasts. What those manifests name beside the log is no longer readable, and its objects go
// as orphans do. False means that this broker does not lead the partition, or that it does not wait.
func (m *Manager) KeepLog(tip metadata.TopicIDPartition) bool {
	p := m.known(tip)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == nil || p.held == "" {
		return false
	}
	p.leader.keepLog, p.notBefore = true, time.Time{}
	m.nudge()
	return true
}

func (m *Manager) keepsLog(p *partition, l *leadership) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.keepLog
}

// passOver commits the manifest that the log continues under a sequence above those of newer ones, so that no leader
// looks at them again.
func (m *Manager) passOver(ctx context.Context, p *partition, l *leadership, man bucket.Manifest, newer []manifest.ObjectName, cause error) (bucket.Manifest, error) {
	if cause != nil {
		return man, cause
	}
	l.tried = max(l.tried, newer[0].Sequence)
	m.log.Warn("manifests in the bucket that disagree with the log are given up, as was asked for", "topic", l.Topic,
		"partition", p.tip.Partition, "epoch", l.Epoch, "object", newer[0].Name, "offset", man.End())
	if man.Root == nil {
		return man, nil // the first commit comes behind them
	}
	if err := m.commit(ctx, p, l, man, manifest.NewEdit(man.Root, man.Load, time.Now(), m.o.Grace)); err != nil {
		return man, err
	}
	return m.current(ctx, p, false)
}

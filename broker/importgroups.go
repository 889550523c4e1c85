package broker

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/bucket"
)

// importBatchBytes bounds a batch of imported offsets, below any
// max.message.bytes that the topic may have been given.
const importBatchBytes = 64 << 10

// importingLog is the log of __consumer_offsets in a cluster that may have been
// restored: before a partition is loaded, the offsets that the restore found are
// at its beginning. Until then its groups have no coordinator, so that no
// consumer finds its offsets missing and begins elsewhere.
//
// What is imported of a partition is the same whoever does it, record by record,
// and nothing else comes before it; so the end of the log says how much of it is
// there, after a crash and under another leader, too.
type importingLog struct {
	topicLog
	metadata *metadata.Store
	snapshot *restoredSnapshot
	now      func() time.Time
}

// restoredSnapshot reads a snapshot once for all partitions.
type restoredSnapshot struct {
	bucket func() *bucket.Bucket
	turn   chan struct{} // of capacity 1
	key    string        // needs the turn
	read   atomic.Pointer[bucket.Snapshot]
}

func newRestoredSnapshot(bucket func() *bucket.Bucket) *restoredSnapshot {
	return &restoredSnapshot{bucket: bucket, turn: make(chan struct{}, 1)}
}

func (r *restoredSnapshot) get(ctx context.Context, cluster, key string) (*bucket.Snapshot, error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-r.turn }()
	if s := r.read.Load(); s != nil && r.key == key {
		return s, nil
	}
	s, err := r.bucket().Snapshot(ctx, cluster, key)
	if err != nil {
		return nil, fmt.Errorf("snapshot with the groups' offsets: %w", err)
	}
	r.key = key
	r.read.Store(s)
	return s, nil
}

// LogStart is asked for before anything else is read.
func (l importingLog) LogStart(ctx context.Context, t coordinator.Term) (int64, error) {
	if err := l.importGroups(ctx, t); err != nil {
		return -1, err
	}
	return l.topicLog.LogStart(ctx, t)
}

func (l importingLog) importGroups(ctx context.Context, t coordinator.Term) error {
	img := l.metadata.Image()
	pending, ok := img.PendingGroups()
	if !ok {
		l.snapshot.read.Store(nil)
		return nil
	}
	p, err := l.led(t)
	if err != nil {
		return err
	}
	// A log that is older than the restore has outlived it, and knows better.
	if epochs := p.Log().LeaderEpochs(); len(epochs) > 0 && epochs[0].Epoch < pending.Epoch {
		return nil
	}
	topic, ok := img.Topic(l.topic)
	if !ok {
		return coordinator.ErrNotCoordinator
	}
	snap, err := l.snapshot.get(ctx, img.ClusterID(), pending.Snapshot)
	if err != nil {
		return err
	}
	offsets := importedOffsets(snap, t.Partition, int32(len(topic.Partitions)))
	for from := p.Log().LogEnd(); from < int64(len(offsets)); {
		batch, n := importBatch(offsets[from:], l.now())
		if _, err := l.Append(ctx, t, batch); err != nil {
			return fmt.Errorf("import offsets: %w", err)
		}
		from += int64(n)
	}
	return nil
}

// importedOffsets are those of the groups of one partition, always in the same order.
func importedOffsets(snap *bucket.Snapshot, partition, partitions int32) []group.Imported {
	var out []group.Imported
	for _, g := range snap.Groups {
		if group.PartitionIn(g.Group, partitions) != partition {
			continue
		}
		for _, t := range g.Topics {
			for _, o := range t.Partitions {
				out = append(out, group.Imported{
					Group: g.Group, Topic: t.Topic, Partition: o.Partition, Offset: o.Offset, LeaderEpoch: o.LeaderEpoch - 1, Metadata: o.Metadata,
				})
			}
		}
	}
	return out
}

// importBatch makes one batch of the first n offsets.
func importBatch(offsets []group.Imported, at time.Time) (batch []byte, n int) {
	b := record.NewBuilder(record.BuilderOptions{})
	for n < len(offsets) && b.Size() < importBatchBytes {
		offsets[n].AppendTo(b, at)
		n++
	}
	return slices.Clone(b.Build()), n
}

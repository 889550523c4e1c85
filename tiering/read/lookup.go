package read

import (
	"context"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// lookup runs fn with the manifest, unless nothing was ever copied. When fn misses an object it is run again with a
// newer manifest: this one may have been replaced longer than the grace period ago without us knowing.
func (r *Reader) lookup(ctx context.Context, tip metadata.TopicIDPartition, fn func(man bucket.Manifest) error) error {
	man, err := r.manifests.Current(ctx, tip, false)
	if err == nil && man.Root != nil {
		err = fn(man)
	}
	if err == nil || !vanished(err) {
		return ForLog(err)
	}
	again, ferr := r.manifests.Current(ctx, tip, true)
	switch {
	case ferr != nil || again.Pointer.Manifest == man.Pointer.Manifest:
		return ForLog(err)
	case again.Root == nil:
		return nil
	}
	return ForLog(fn(again))
}

// EpochForOffset returns the leader epoch that wrote an offset of the tier.
func (r *Reader) EpochForOffset(ctx context.Context, tip metadata.TopicIDPartition, offset int64) (epoch int32, ok bool, err error) {
	epoch = -1
	err = r.lookup(ctx, tip, func(man bucket.Manifest) error {
		if offset >= man.Root.StartOffset && offset < man.Root.EndOffset {
			epoch, ok = man.Root.Epochs.At(offset)
		}
		return nil
	})
	return epoch, ok, err
}

// EndOffsetForEpoch is OffsetForLeaderEpoch within the tier: the largest epoch at or below the given one and where
// it ended there; -1, -1 when it is older than the tier.
func (r *Reader) EndOffsetForEpoch(ctx context.Context, tip metadata.TopicIDPartition, epoch int32) (found int32, end int64, err error) {
	found, end = -1, -1
	err = r.lookup(ctx, tip, func(man bucket.Manifest) error {
		found, end = man.Root.Epochs.EndOf(epoch, man.Root.EndOffset)
		return nil
	})
	return found, end, err
}

// AuxState reads the state at the end of the tier from the last segment's index object; false where nothing was ever
// copied. A tier that retention has emptied still says where it ended: offsets below are not given out again. LogStart
// lies beyond EndOffset where retention or DeleteRecords removed more than was ever copied.
func (r *Reader) AuxState(ctx context.Context, tip metadata.TopicIDPartition) (segment.AuxState, bool, error) {
	r.metrics.auxRequests.Add(ctx, 1)
	state, ok, err := r.auxState(ctx, tip)
	if err != nil {
		r.metrics.auxErrors.Add(ctx, 1)
	}
	return state, ok, ForLog(err)
}

// logEpochs is a lineage of the manifest in the words of the log.
func logEpochs(l manifest.Lineage) []segment.EpochEntry {
	out := make([]segment.EpochEntry, len(l))
	for i, e := range l {
		out[i] = segment.EpochEntry(e)
	}
	return out
}

func (r *Reader) auxState(ctx context.Context, tip metadata.TopicIDPartition) (segment.AuxState, bool, error) {
	man, err := r.manifests.Current(ctx, tip, true)
	if err != nil || man.Root == nil {
		return segment.AuxState{}, false, err
	}
	if man.Root.Segments == 0 { // the producers of what is gone are not known
		return segment.AuxState{
			LogStart: max(man.Root.EndOffset, man.Root.LogStartOffset), EndOffset: man.Root.EndOffset, Epochs: logEpochs(man.Root.Epochs),
		}, true, nil
	}
	entry, err := man.Find(ctx, man.Root.HighestOffset())
	if err != nil {
		return segment.AuxState{}, false, err
	}
	seg, err := r.segment(ctx, man.Dir, entry)
	if err != nil {
		return segment.AuxState{}, false, err
	}
	snapshot, err := r.bucket.Section(ctx, man.Dir, seg, index.SectionSnapshot)
	if err != nil {
		return segment.AuxState{}, false, err
	}
	return segment.AuxState{
		LogStart: max(man.Root.StartOffset, man.Root.LogStartOffset), EndOffset: man.Root.EndOffset,
		Epochs: logEpochs(seg.Head.Epochs), ProducerSnapshot: snapshot,
	}, true, nil
}

// Describe fills the parts of a view that the manifest knows.
func Describe(v *segment.RemoteView, man bucket.Manifest) {
	if r := man.Root; r != nil {
		v.HighestOffset, v.HighestEpoch = r.HighestOffset(), r.HighestEpoch()
		v.StartOffset = max(r.StartOffset, r.LogStartOffset)
		v.Bytes, v.Segments = r.Bytes, r.Segments
	} else {
		v.HighestOffset, v.HighestEpoch, v.StartOffset, v.Bytes, v.Segments = -1, -1, -1, 0, 0
	}
}

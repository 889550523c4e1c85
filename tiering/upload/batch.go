package upload

import (
	"context"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// batchSegments and batchBytes bound what one commit may wait for.
const (
	batchSegments = 16
	batchBytes    = 64 << 20
)

// Batch is what was copied of a partition under one leadership and is not committed. It belongs to the pass that runs.
type Batch struct {
	entries []manifest.Entry
	named   bool // a root that may be in the bucket names them
}

// Empty says whether there is nothing to commit.
func (b *Batch) Empty() bool { return len(b.entries) == 0 }

// Holds says whether an object is of the batch.
func (b *Batch) Holds(stem string) bool {
	return slices.ContainsFunc(b.entries, func(e manifest.Entry) bool { return e.Object == stem })
}

// Named notes that a root is about to be stored that names the batch: from then on the objects are the collector's,
// which deletes them after that root.
func (b *Batch) Named() { b.named = b.named || len(b.entries) > 0 }

// Reuse keeps entries of an earlier pass whose commit failed when they still continue the manifest, so that their
// bytes need not be copied again. It returns where the next copy starts.
func (u *Uploader) Reuse(ctx context.Context, l *Leader, b *Batch, man bucket.Manifest) int64 {
	end := man.End()
	if len(b.entries) > 0 {
		gap := b.entries[0].BaseOffset - end
		// A gap is allowed where Edit starts the manifest again: everything before is expired.
		if gap < 0 || gap > 0 && man.Root != nil && l.Log.LogStart() < end || b.entries[len(b.entries)-1].LastOffset < l.Log.LogStart() {
			u.Drop(ctx, l, b)
		}
	}
	if n := len(b.entries); n > 0 {
		return b.entries[n-1].LastOffset + 1
	}
	return end
}

// Fill copies sealed segments from offset end on, as many as one commit may wait for. What was copied stays in the batch
// also when a later one fails.
func (u *Uploader) Fill(ctx context.Context, l *Leader, b *Batch, sealed []segment.Sealed, end int64) error {
	var bytes int64
	for _, s := range sealed {
		if len(b.entries) >= batchSegments || bytes >= batchBytes {
			break
		}
		entry, err := u.Copy(ctx, l, s, max(end, s.BaseOffset))
		if err != nil {
			return err
		}
		b.entries = append(b.entries, entry)
		end = entry.LastOffset + 1
		bytes += entry.Bytes
	}
	return nil
}

// Edit appends the batch to the manifest.
func (b *Batch) Edit(ctx context.Context, l *Leader, man bucket.Manifest, swept int64, now time.Time, grace time.Duration) (*manifest.Edit, error) {
	root := man.Root
	if root == nil {
		root = manifest.NewRoot(l.Topic, l.TIP, b.entries[0].BaseOffset)
	}
	e := manifest.NewEdit(root, man.Load, now, grace)
	e.Forget(manifest.SweptItems(root.Garbage, swept))
	if b.entries[0].BaseOffset > e.Next.EndOffset && e.Next.Segments > 0 {
		// The log start has passed the tier's end (DeleteRecords, or total retention while the store was away):
		// everything there is expired, and the manifest starts again.
		if _, err := e.DropBefore(ctx, b.entries[0].BaseOffset); err != nil {
			return nil, err
		}
	}
	for _, entry := range b.entries {
		if err := e.Add(ctx, entry); err != nil {
			return nil, err
		}
	}
	e.Next.LogStartOffset = max(e.Next.LogStartOffset, l.Log.LogStart())
	return e, nil
}

// Committed empties the batch, which a manifest names now.
func (u *Uploader) Committed(l *Leader, b *Batch) {
	for i := range b.entries {
		e := &b.entries[i]
		u.log.Info("COPY_SEGMENT_FINISHED", "topic", l.Topic, "partition", l.TIP.Partition, "epoch", l.Epoch,
			"offset", e.BaseOffset, "last", e.LastOffset, "bytes", e.Bytes, "object", e.Object)
	}
	*b = Batch{}
}

// Drop deletes copies that will never be committed, best effort; when a root may name them they are left to the
// collector of orphans.
func (u *Uploader) Drop(ctx context.Context, l *Leader, b *Batch) {
	entries, named := b.entries, b.named
	*b = Batch{}
	if named || len(entries) == 0 {
		return
	}
	stems := make([]string, len(entries))
	for i := range entries {
		stems[i] = entries[i].Object
	}
	u.Discard(ctx, l.Dir(), stems)
}

package upload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Manifest stores what an edit of a manifest made: new nodes, then the root under a name never used before. It returns
// the pointer to the root, which is not the manifest before the pointer was swapped, and the size of its object. tried is
// the highest sequence that this leader has tried, which it raises.
func (u *Uploader) Manifest(ctx context.Context, l *Leader, tried *int64, man bucket.Manifest, e *manifest.Edit) (metadata.RemotePointer, int, error) {
	dir := l.Dir()
	for _, n := range e.Nodes {
		if err := u.Put(ctx, manifest.NodeKey(dir, n.Name), object.Bytes(n.Body), bucket.Checksum(n.Body)); err != nil {
			return metadata.RemotePointer{}, 0, err
		}
	}
	r := &e.Next
	r.LeaderEpoch = l.Epoch
	r.Sequence = max(*tried, man.Pointer.Sequence)
	r.Previous = ""
	if man.Root != nil {
		r.Previous = manifest.RootName(man.Root.LeaderEpoch, man.Root.Sequence)
	}
	return u.putRoot(ctx, dir, tried, man, e)
}

// putRoot stores the root under the next free sequence and returns the pointer to it.
func (u *Uploader) putRoot(ctx context.Context, dir string, tried *int64, man bucket.Manifest, e *manifest.Edit) (metadata.RemotePointer, int, error) {
	r, garbage := &e.Next, e.Next.Garbage
	for range bucket.MaxRenames {
		r.Sequence++
		r.Garbage = slices.Clone(garbage)
		e.BuryFormer(man.Pointer)
		b, err := r.Encode()
		if err != nil {
			return metadata.RemotePointer{}, 0, err
		}
		key := manifest.NodeKey(dir, manifest.RootName(r.LeaderEpoch, r.Sequence))
		*tried = r.Sequence
		err = u.bucket.Retry(ctx, func(ctx context.Context) error {
			_, err := u.bucket.Store.Put(ctx, u.bucket.Prefix+key, object.Bytes(b), object.PutOptions{IfAbsent: true, CRC32C: bucket.Checksum(b), HasCRC: true})
			return err
		})
		if errors.Is(err, object.ErrExists) {
			continue
		}
		return metadata.RemotePointer{
			Manifest: key, Sequence: r.Sequence, LeaderEpoch: r.LeaderEpoch, StartOffset: r.StartOffset, EndOffset: r.EndOffset,
		}, len(b), bucket.Failed("commit", key, err)
	}
	return metadata.RemotePointer{}, 0, fmt.Errorf("no free name for a root of epoch %d after sequence %d", r.LeaderEpoch, r.Sequence)
}

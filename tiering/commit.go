package tiering

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

// commit makes an edit the partition's manifest: new nodes, then the new root under a name never used before,
// then the swap of the pointer, which compares the old pointer and the leader epoch. On success the view is
// published. When the outcome is unknown or somebody else won, the partition is loaded again before anything else.
func (m *Manager) commit(ctx context.Context, p *partition, l *leadership, man bucket.Manifest, e *manifest.Edit) error {
	r := &e.Next
	dir := manifest.PartitionDir(l.topic, p.tip)
	for _, n := range e.Nodes {
		key := manifest.NodeKey(dir, n.Name)
		if err := m.putVerified(ctx, key, object.Bytes(n.Body), bucket.Checksum(n.Body)); err != nil {
			return err
		}
	}
	r.LeaderEpoch = l.epoch
	r.Sequence = max(l.tried, man.Pointer.Sequence)
	r.Previous = ""
	if man.Root != nil {
		r.Previous = manifest.RootName(man.Root.LeaderEpoch, man.Root.Sequence)
	}
	next, body, err := m.putRoot(ctx, l, man, e, dir)
	if err != nil {
		return err
	}
	l.named = true
	swapped, err := m.swap(ctx, p, man.Pointer, l.epoch, next)
	if err != nil {
		if swapped, err = m.outcome(ctx, p, l, next, err); err != nil {
			return err
		}
	}
	m.metrics.commits.Add(ctx, 1)
	committed := *r
	m.bucket.Memo.Put(next.Manifest, &committed, bucket.WeightOf(body))
	m.bucket.Memo.Drop(man.Pointer.Manifest)
	for _, n := range e.Nodes {
		m.bucket.Memo.Put(manifest.NodeKey(dir, n.Name), n.Node, bucket.WeightOf(len(n.Body)))
	}
	p.setPointer(swapped)
	p.publish(l, bucket.Manifest{Tree: manifest.Tree{Root: &committed, Load: m.bucket.NodesOf(dir)}, Pointer: swapped, Dir: dir})
	return nil
}

func (m *Manager) swap(ctx context.Context, p *partition, old metadata.RemotePointer, epoch int32, next metadata.RemotePointer) (metadata.RemotePointer, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdLimit)
	defer cancel()
	return m.o.Metadata.SwapRemotePointer(ctx, p.tip, old, epoch, next)
}

// putRoot stores the root under the next free sequence and returns the pointer to it.
func (m *Manager) putRoot(ctx context.Context, l *leadership, man bucket.Manifest, e *manifest.Edit, dir string) (metadata.RemotePointer, int, error) {
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
		l.tried = r.Sequence
		err = m.bucket.Retry(ctx, func(ctx context.Context) error {
			_, err := m.bucket.Store.Put(ctx, m.bucket.Prefix+key, object.Bytes(b), object.PutOptions{IfAbsent: true, CRC32C: bucket.Checksum(b), HasCRC: true})
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

// outcome finds out whether a swap that returned an error took effect. Fenced and conflict are answers; anything
// else may be a lost one.
func (m *Manager) outcome(ctx context.Context, p *partition, l *leadership, next metadata.RemotePointer, cause error) (metadata.RemotePointer, error) {
	if errors.Is(cause, metadata.ErrFenced) {
		m.metrics.lostRaces.Add(ctx, 1)
		p.fence(l)
		return metadata.RemotePointer{}, fmt.Errorf("commit %s: %w: %w", next.Manifest, ErrNotLeader, cause)
	}
	// The answer matters more than this pass: without it nothing that was copied can be deleted or used again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), etcdLimit)
	defer cancel()
	pointer, _, err := m.o.Metadata.RemotePointer(ctx, p.tip)
	if err == nil && pointer.Manifest == next.Manifest {
		return pointer, nil
	}
	if errors.Is(cause, metadata.ErrConflict) {
		m.metrics.lostRaces.Add(ctx, 1)
	}
	p.unload(l)
	return metadata.RemotePointer{}, fmt.Errorf("commit %s: %w", next.Manifest, cause)
}

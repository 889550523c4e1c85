package tiering

import (
	"context"
	"errors"
	"fmt"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// commit makes an edit the partition's manifest: new nodes, then the new root under a name never used before,
// then the swap of the pointer, which compares the old pointer and the leader epoch. On success the view is
// published. When the outcome is unknown or somebody else won, the partition is loaded again before anything else.
func (m *Manager) commit(ctx context.Context, p *partition, l *leadership, man bucket.Manifest, e *manifest.Edit) error {
	// Before the root is stored: one whose answer is lost is in the bucket all the same, as the newest that a restore
	// finds there, and what it names must not go before it does.
	l.batch.Named()
	next, size, err := m.uploader.Manifest(ctx, &l.Leader, &l.tried, man, e)
	if err != nil {
		return err
	}
	swapped, err := m.swap(ctx, p, man.Pointer, l.Epoch, next)
	if err != nil {
		if swapped, err = m.outcome(ctx, p, l, next, err); err != nil {
			return err
		}
	}
	m.metrics.commits.Add(ctx, 1)
	dir, committed := l.Dir(), e.Next
	m.bucket.Memo.Put(next.Manifest, &committed, bucket.WeightOf(size))
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

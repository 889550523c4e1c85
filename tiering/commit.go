package tiering

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// maxRenames bounds the search for a root's free name. Only attempts of this leader epoch can be in the way.
const maxRenames = 1000

// commit makes an edit the partition's manifest: new nodes, then the new root under a name never used before,
// then the swap of the pointer, which compares the old pointer and the leader epoch. On success the view is
// published. When the outcome is unknown or somebody else won, the partition is loaded again before anything else.
func (m *Manager) commit(ctx context.Context, p *partition, l *leadership, man opened, e *manifest.Edit) error {
	r := &e.Next
	dir := manifest.PartitionDir(l.topic, p.tip)
	for _, n := range e.Nodes {
		key := manifest.NodeKey(dir, n.Name)
		if err := m.putVerified(ctx, key, object.Bytes(n.Body), crc32.Checksum(n.Body, castagnoli)); err != nil {
			return err
		}
	}
	r.LeaderEpoch = l.epoch
	r.Sequence = max(l.tried, man.pointer.Sequence)
	r.Previous = ""
	if man.Root != nil {
		r.Previous = manifest.RootName(man.Root.LeaderEpoch, man.Root.Sequence)
	}
	next, body, err := m.putRoot(ctx, l, man, e, dir)
	if err != nil {
		return err
	}
	l.named = true
	swapped, err := m.swap(ctx, p, man.pointer, l.epoch, next)
	if err != nil {
		if swapped, err = m.outcome(ctx, p, l, next, err); err != nil {
			return err
		}
	}
	m.metrics.commits.Add(ctx, 1)
	committed := *r
	m.memo.put(next.Manifest, &committed, rootWeight(body))
	m.memo.drop(man.pointer.Manifest)
	for _, n := range e.Nodes {
		m.memo.put(manifest.NodeKey(dir, n.Name), n.Node, rootWeight(len(n.Body)))
	}
	p.setPointer(swapped)
	p.publish(l, opened{Tree: manifest.Tree{Root: &committed, Load: m.nodesOf(dir)}, pointer: swapped, dir: dir})
	return nil
}

func (m *Manager) swap(ctx context.Context, p *partition, old metadata.RemotePointer, epoch int32, next metadata.RemotePointer) (metadata.RemotePointer, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdLimit)
	defer cancel()
	return m.o.Metadata.SwapRemotePointer(ctx, p.tip, old, epoch, next)
}

// putRoot stores the root under the next free sequence and returns the pointer to it.
func (m *Manager) putRoot(ctx context.Context, l *leadership, man opened, e *manifest.Edit, dir string) (metadata.RemotePointer, int, error) {
	r, garbage := &e.Next, e.Next.Garbage
	for range maxRenames {
		r.Sequence++
		r.Garbage = slices.Clone(garbage)
		e.BuryFormer(man.pointer)
		b, err := r.Encode()
		if err != nil {
			return metadata.RemotePointer{}, 0, err
		}
		key := manifest.NodeKey(dir, manifest.RootName(r.LeaderEpoch, r.Sequence))
		l.tried = r.Sequence
		err = m.retry(ctx, func(ctx context.Context) error {
			_, err := m.o.Store.Put(ctx, m.prefix+key, object.Bytes(b), object.PutOptions{IfAbsent: true, CRC32C: crc32.Checksum(b, castagnoli), HasCRC: true})
			return err
		})
		if errors.Is(err, object.ErrExists) {
			continue
		}
		return metadata.RemotePointer{
			Manifest: key, Sequence: r.Sequence, LeaderEpoch: r.LeaderEpoch, StartOffset: r.StartOffset, EndOffset: r.EndOffset,
		}, len(b), named("commit", key, err)
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

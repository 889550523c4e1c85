package bucket

import (
	"context"
	"fmt"
	"iter"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Manifest is a root with what it takes to read below it; root is nil while nothing was ever copied.
type Manifest struct {
	manifest.Tree
	Pointer metadata.RemotePointer
	Dir     string // the partition's folder below the cluster's prefix
}

// End is the offset after the last that the tier holds.
func (man Manifest) End() int64 {
	if man.Root == nil {
		return 0
	}
	return man.Root.EndOffset
}

// PendingDeletions is how many items the garbage list has.
func (man Manifest) PendingDeletions() int64 {
	if man.Root == nil {
		return 0
	}
	return int64(len(man.Root.Garbage))
}

// Entries walks the live entries from the one that holds offset from on; none without a root. An error ends the walk.
func (man Manifest) Entries(ctx context.Context, from int64) iter.Seq2[*manifest.Entry, error] {
	if man.Root == nil {
		return func(func(*manifest.Entry, error) bool) {}
	}
	return man.Walk(ctx, from, nil)
}

// Open loads the root that pointer names.
func (c *Cluster) Open(ctx context.Context, tip metadata.TopicIDPartition, pointer metadata.RemotePointer) (Manifest, error) {
	if pointer.Manifest == "" {
		return Manifest{Pointer: pointer}, nil
	}
	dir, err := manifest.DirOf(pointer.Manifest)
	if err != nil {
		return Manifest{}, err
	}
	root, err := Load(ctx, c.Memo, pointer.Manifest, func(ctx context.Context) (*manifest.Root, int64, error) {
		b, err := c.GetAll(ctx, pointer.Manifest, manifest.MaxRootBytes)
		if err != nil {
			return nil, 0, err
		}
		r, err := manifest.DecodeRoot(b)
		if err == nil && !r.IsAt(tip, pointer) {
			err = fmt.Errorf("root %d of epoch %d, %d to %d is not the one pointed to: %w", r.Sequence, r.LeaderEpoch, r.StartOffset, r.EndOffset, manifest.ErrCorrupt)
		}
		if err != nil {
			return nil, 0, &ObjectError{Op: "read manifest", Object: pointer.Manifest, Err: err}
		}
		return r, WeightOf(len(b)), nil
	})
	if err != nil {
		return Manifest{}, err
	}
	return Manifest{Tree: manifest.Tree{Root: root, Load: c.NodesOf(dir)}, Pointer: pointer, Dir: dir}, nil
}

// NodesOf loads nodes of one partition.
func (c *Cluster) NodesOf(dir string) manifest.NodeSource {
	return func(ctx context.Context, ref manifest.Ref) (*manifest.Node, error) {
		key := manifest.NodeKey(dir, ref.Object)
		return Load(ctx, c.Memo, key, func(ctx context.Context) (*manifest.Node, int64, error) {
			b, err := c.GetAll(ctx, key, ref.Size)
			if err != nil {
				return nil, 0, err
			}
			n, err := manifest.DecodeNode(b, ref)
			if err != nil {
				return nil, 0, &ObjectError{Op: "read manifest", Object: key, Err: err}
			}
			return n, WeightOf(len(b)), nil
		})
	}
}

// Uncached is a manifest as it is in the store now: no node comes from memory, and none stays there.
func (c *Cluster) Uncached(man Manifest) Manifest {
	man.Load = func(ctx context.Context, ref manifest.Ref) (*manifest.Node, error) {
		key := manifest.NodeKey(man.Dir, ref.Object)
		b, err := c.GetAll(ctx, key, ref.Size)
		if err != nil {
			return nil, err
		}
		n, err := manifest.DecodeNode(b, ref)
		if err == nil && man.Root != nil && (n.TopicID != man.Root.TopicID || n.Partition != man.Root.Partition) {
			err = fmt.Errorf("node of another partition: %w", manifest.ErrCorrupt)
		}
		if err != nil {
			return nil, &ObjectError{Op: "read manifest", Object: key, Err: err}
		}
		return n, nil
	}
	return man
}

// WeightOf estimates the memory of what was decoded from n bytes of JSON.
func WeightOf(n int) int64 { return int64(n) + 512 }

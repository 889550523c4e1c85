package bucket

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// maxNewer is how many roots newer than a pointer are looked at.
const maxNewer = 64

// Newer lists the newest roots in a partition's folder that were stored after the one that the pointer names, newest
// first: a commit under way, one that never came to count, or, if etcd was set back, what had been committed. Mostly
// there are none, and it is one request, because roots come before all other names there and in the order they were made.
func (c *Cluster) Newer(ctx context.Context, dir string, pointer metadata.RemotePointer) ([]manifest.ObjectName, error) {
	folder, after := c.Prefix+dir+manifest.ManifestDir, ""
	if pointer.Manifest != "" {
		after = c.Prefix + pointer.Manifest
	}
	var out []manifest.ObjectName
	for info, err := range c.Store.List(ctx, folder, after) {
		if err != nil {
			return nil, Failed("list", dir+manifest.ManifestDir, err)
		}
		n := manifest.ParseName(strings.TrimPrefix(info.Key, c.Prefix+dir))
		if n.Kind == manifest.KindNode {
			break
		}
		if n.Kind != manifest.KindRoot || n.Sequence <= pointer.Sequence && pointer.Manifest != "" {
			continue
		}
		if out = append(out, n); len(out) == 2*maxNewer {
			out = slices.Delete(out, 0, maxNewer)
		}
	}
	slices.SortFunc(out, func(a, b manifest.ObjectName) int {
		return cmp.Or(cmp.Compare(b.Sequence, a.Sequence), cmp.Compare(b.Epoch, a.Epoch))
	})
	return out[:min(len(out), maxNewer)], nil
}

// OpenNamed loads a root by its name, and what a pointer to it says.
func (c *Cluster) OpenNamed(ctx context.Context, tip metadata.TopicIDPartition, dir, name string) (Manifest, error) {
	key := manifest.NodeKey(dir, name)
	b, err := c.GetAll(ctx, key, manifest.MaxRootBytes)
	if err != nil {
		return Manifest{}, err
	}
	r, err := manifest.DecodeRoot(b)
	if err == nil && (r.TopicID != tip.Topic || r.Partition != tip.Partition || manifest.RootName(r.LeaderEpoch, r.Sequence) != name) {
		err = fmt.Errorf("root %d of epoch %d of another name or partition: %w", r.Sequence, r.LeaderEpoch, manifest.ErrCorrupt)
	}
	if err != nil {
		return Manifest{}, &ObjectError{Op: "read manifest", Object: key, Err: err}
	}
	pointer := metadata.RemotePointer{Manifest: key, Sequence: r.Sequence, LeaderEpoch: r.LeaderEpoch, StartOffset: r.StartOffset, EndOffset: r.EndOffset}
	return Manifest{Tree: manifest.Tree{Root: r, Load: c.NodesOf(dir)}, Pointer: pointer, Dir: dir}, nil
}

package gc

import (
	"context"
	"slices"
	"strings"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// unprotected leaves out of the orphans what stray roots name: roots behind the one that the pointer names, which were
// stored and never committed, or whose commit etcd has lost. Whoever has the bucket alone takes the newest root, so what
// that names stays until it is gone itself. A stray root that is an orphan to be deleted now goes first, and protects
// nothing.
func (c *Collector) unprotected(ctx context.Context, dir string, man bucket.Manifest, keys []string) ([]string, error) {
	strays, err := c.strayRoots(ctx, dir, man)
	if err != nil {
		return nil, err
	}
	for _, stray := range strays {
		if slices.Contains(keys, stray) {
			continue
		}
		if keys, err = c.notNamedBy(ctx, dir, stray, keys); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// strayRoots lists the keys of the roots whose names come after that of the pointer's root.
func (c *Collector) strayRoots(ctx context.Context, dir string, man bucket.Manifest) ([]string, error) {
	prefix, after := c.bucket.Prefix+dir+manifest.ManifestDir, ""
	if man.Pointer.Manifest != "" {
		after = c.bucket.Prefix + man.Pointer.Manifest
	}
	var out []string
	for info, err := range c.bucket.Store.List(ctx, prefix, after) {
		if err != nil {
			return nil, bucket.Failed("list", prefix, err)
		}
		base := info.Key[len(prefix):]
		if strings.HasPrefix(base, "leaf-") {
			break // nodes come behind all roots
		}
		if _, _, ok := manifest.ParseRootName(base); ok && info.Key > after {
			out = append(out, info.Key[len(c.bucket.Prefix):])
		}
	}
	return out, nil
}

// notNamedBy leaves out of the keys what a stray root names. One that is damaged or gone names nothing: a restore would
// not take it either.
func (c *Collector) notNamedBy(ctx context.Context, dir, stray string, keys []string) ([]string, error) {
	body, err := c.bucket.GetAll(ctx, stray, manifest.MaxRootBytes)
	var root *manifest.Root
	if err == nil {
		if root, err = manifest.DecodeRoot(body); err != nil {
			err = &bucket.ObjectError{Op: "read manifest", Object: stray, Err: err}
		}
	}
	if bucket.IsDamage(err) {
		return keys, nil
	}
	if err != nil {
		return nil, err
	}
	man := c.bucket.Uncached(bucket.Manifest{Tree: manifest.Tree{Root: root}, Dir: dir})
	refs, err := c.references(ctx, man)
	if bucket.IsDamage(err) {
		return keys, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, key := range keys {
		_, _, n, _ := manifest.ParsePartitionKey(key)
		named := false
		if n.Kind != manifest.KindRoot {
			if named, err = refs.names(ctx, n); err != nil && !bucket.IsDamage(err) {
				return nil, err
			}
		}
		if !named {
			out = append(out, key)
		}
	}
	return out, nil
}

package tiering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// opened is a root with what it takes to read below it; root is nil while nothing was ever copied.
type opened struct {
	manifest.Tree
	pointer metadata.RemotePointer
	dir     string // the partition's folder below the cluster's prefix
}

func (man opened) end() int64 {
	if man.Root == nil {
		return 0
	}
	return man.Root.EndOffset
}

func (man opened) pendingDeletions() int64 {
	if man.Root == nil {
		return 0
	}
	return int64(len(man.Root.Garbage))
}

// describe fills the parts of a view that the manifest knows.
func (man opened) describe(v *segment.RemoteView) {
	if r := man.Root; r != nil {
		v.HighestOffset, v.HighestEpoch = r.HighestOffset(), r.HighestEpoch()
		v.StartOffset = max(r.StartOffset, r.LogStartOffset)
		v.Bytes, v.Segments = r.Bytes, r.Segments
	} else {
		v.HighestOffset, v.HighestEpoch, v.StartOffset, v.Bytes, v.Segments = -1, -1, -1, 0, 0
	}
}

// current returns the manifest the pointer names: for a led partition the one last committed or loaded, for
// another the image's, which may be some moments old (what an old pointer names lives on for the grace period).
// fresh reads the pointer from the metadata store.
func (m *Manager) current(ctx context.Context, p *partition, fresh bool) (opened, error) {
	p.mu.Lock()
	pointer := p.pointer
	p.mu.Unlock()
	if fresh {
		var err error
		if pointer, err = m.readPointer(ctx, p); err != nil {
			return opened{}, err
		}
	} else if seen, ok := m.o.Metadata.Image().RemotePointer(p.tip); ok && seen.ModRevision > pointer.ModRevision {
		pointer = seen
	}
	return m.open(ctx, p.tip, pointer)
}

func (m *Manager) readPointer(ctx context.Context, p *partition) (metadata.RemotePointer, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdLimit)
	defer cancel()
	pointer, _, err := m.o.Metadata.RemotePointer(ctx, p.tip)
	if err != nil {
		return pointer, fmt.Errorf("read the remote pointer of %v: %w", p.tip, err)
	}
	p.setPointer(pointer)
	return pointer, nil
}

// open loads the root that pointer names.
func (m *Manager) open(ctx context.Context, tip metadata.TopicIDPartition, pointer metadata.RemotePointer) (opened, error) {
	if pointer.Manifest == "" {
		return opened{pointer: pointer}, nil
	}
	dir, err := manifest.DirOf(pointer.Manifest)
	if err != nil {
		return opened{}, err
	}
	root, err := memoGet(ctx, m.memo, pointer.Manifest, func(ctx context.Context) (*manifest.Root, int64, error) {
		b, err := m.getAll(ctx, pointer.Manifest, manifest.MaxRootBytes)
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
		return r, rootWeight(len(b)), nil
	})
	if err != nil {
		return opened{}, err
	}
	return opened{Tree: manifest.Tree{Root: root, Load: m.nodesOf(dir)}, pointer: pointer, dir: dir}, nil
}

// rootWeight estimates the memory of what was decoded from n bytes of JSON.
func rootWeight(n int) int64 { return int64(n) + 512 }

// nodesOf loads nodes of one partition.
func (m *Manager) nodesOf(dir string) manifest.NodeSource {
	return func(ctx context.Context, ref manifest.Ref) (*manifest.Node, error) {
		key := manifest.NodeKey(dir, ref.Object)
		return memoGet(ctx, m.memo, key, func(ctx context.Context) (*manifest.Node, int64, error) {
			b, err := m.getAll(ctx, key, ref.Size)
			if err != nil {
				return nil, 0, err
			}
			n, err := manifest.DecodeNode(b, ref)
			if err != nil {
				return nil, 0, &ObjectError{Op: "read manifest", Object: key, Err: err}
			}
			return n, rootWeight(len(b)), nil
		})
	}
}

// getAll reads an object of at most limit bytes. An object that is gone is ErrMissing.
func (m *Manager) getAll(ctx context.Context, key string, limit int64) ([]byte, error) {
	var b []byte
	err := m.retry(ctx, func(ctx context.Context) (err error) {
		b, err = object.ReadAll(ctx, m.o.Store, m.prefix+key, limit)
		return err
	})
	return b, named("read", key, err)
}

// named gives an error of the store the key it is about, and a missing object its own kind.
func named(op, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, object.ErrNotFound):
		return &ObjectError{Op: op, Object: key, Err: fmt.Errorf("%w: %w", manifest.ErrMissing, err)}
	case errors.Is(err, object.ErrShortBody), errors.Is(err, object.ErrTooLarge):
		return &ObjectError{Op: op, Object: key, Err: fmt.Errorf("%w: %w", manifest.ErrCorrupt, err)}
	default:
		return &ObjectError{Op: op, Object: key, Err: err}
	}
}

const (
	retries   = 3
	etcdLimit = 10 * time.Second // of one operation on a pointer
)

// retry repeats what a store may do better the next time, with short pauses. Each attempt is given up after
// Options.Stall: a store that hangs must not hold a partition for ever.
func (m *Manager) retry(ctx context.Context, fn func(context.Context) error) error {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, m.o.Stall)
		err := fn(attempt)
		late := attempt.Err() != nil
		cancel()
		if err == nil || n == retries || ctx.Err() != nil || !late && !object.Retriable(err) {
			return err
		}
		if !sleep(ctx, backoff(n, m.o.RetryMin/4, m.o.RetryMax)) {
			return err
		}
	}
}

// sleep says false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

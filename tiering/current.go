package tiering

import (
	"context"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
)

// current returns the manifest the pointer names: for a led partition the one last committed or loaded, for
// another the image's, which may be some moments old (what an old pointer names lives on for the grace period).
// fresh reads the pointer from the metadata store.
func (m *Manager) current(ctx context.Context, p *partition, fresh bool) (bucket.Manifest, error) {
	p.mu.Lock()
	pointer := p.pointer
	p.mu.Unlock()
	if fresh {
		var err error
		if pointer, err = m.readPointer(ctx, p); err != nil {
			return bucket.Manifest{}, err
		}
	} else if seen, ok := m.o.Metadata.Image().RemotePointer(p.tip); ok && seen.ModRevision > pointer.ModRevision {
		pointer = seen
	}
	return m.bucket.Open(ctx, p.tip, pointer)
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

// etcdLimit bounds one operation on a pointer.
const etcdLimit = 10 * time.Second

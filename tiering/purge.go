package tiering

import (
	"context"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// Purge deletes a deleted topic from the bucket once the grace period since its deletion has passed: topic.json, all
// objects below the topic's folder, found by LIST, and then the partitions' pointers, so that a crash in between
// leaves the tombstone to call it again. From its first deletion on the tombstone says that the topic cannot come
// back; a folder without topic.json says so to who has the bucket alone, and to the collector of orphans. It needs
// no leader. done is false while it must be called later.
func (m *Manager) Purge(ctx context.Context, t metadata.Tombstone) (done bool, err error) {
	if time.Since(t.Deleted) < m.o.Grace {
		return false, nil
	}
	if err := m.o.Metadata.BeginPurge(ctx, t); err != nil {
		return false, err
	}
	dir := manifest.TopicDir(t.Topic.Name, t.Topic.ID)
	if err := m.bucket.Remove(ctx, []string{dir + "topic.json"}); err != nil {
		return false, err
	}
	n, err := m.removeBelow(ctx, dir)
	if err != nil {
		return false, err
	}
	// A second look: a deposed leader may have been writing during the first.
	if again, err := m.removeBelow(ctx, dir); err != nil || again > 0 {
		return false, err
	}
	for i := range t.Topic.Partitions {
		tip := metadata.TopicIDPartition{Topic: t.Topic.ID, Partition: int32(i)}
		pointer, ok, err := m.o.Metadata.RemotePointer(ctx, tip)
		if err != nil {
			return false, fmt.Errorf("read the remote pointer of %v: %w", tip, err)
		}
		if ok {
			if err := m.o.Metadata.DeleteRemotePointer(ctx, tip, pointer); err != nil {
				return false, err
			}
		}
		m.forget(tip)
	}
	m.log.Info("DELETE_SEGMENT_FINISHED", "topic", t.Topic.Name, "objects", n)
	return t.Purging, nil // the tombstone changed: who ends it must have seen that
}

// removeBelow deletes everything under a folder and says how many objects that was.
func (m *Manager) removeBelow(ctx context.Context, dir string) (int, error) {
	var keys []string
	n := 0
	for info, err := range m.bucket.Store.List(ctx, m.bucket.Prefix+dir, "") {
		if err != nil {
			return n, bucket.Failed("list", dir, err)
		}
		n++
		if keys = append(keys, info.Key[len(m.bucket.Prefix):]); len(keys) == bucket.DeleteBatch {
			if err := m.bucket.Remove(ctx, keys); err != nil {
				return n, err
			}
			keys = keys[:0]
		}
	}
	return n, m.bucket.Remove(ctx, keys)
}

// forget drops what is kept of a partition that no longer exists.
func (m *Manager) forget(tip metadata.TopicIDPartition) {
	m.mu.Lock()
	p := m.partitions[tip]
	delete(m.partitions, tip)
	m.mu.Unlock()
	if p != nil {
		p.resign()
	}
}

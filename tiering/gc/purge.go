package gc

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
func (c *Collector) Purge(ctx context.Context, t metadata.Tombstone) (done bool, err error) {
	if time.Since(t.Deleted) < c.o.Grace {
		return false, nil
	}
	if err := c.metadata.BeginPurge(ctx, t); err != nil {
		return false, err
	}
	dir := manifest.TopicDir(t.Topic.Name, t.Topic.ID)
	if err := c.bucket.Remove(ctx, []string{dir + manifest.TopicFile}); err != nil {
		return false, err
	}
	n, err := c.removeBelow(ctx, dir)
	if err != nil {
		return false, err
	}
	// A second look: a deposed leader may have been writing during the first.
	if again, err := c.removeBelow(ctx, dir); err != nil || again > 0 {
		return false, err
	}
	for i := range t.Topic.Partitions {
		tip := metadata.TopicIDPartition{Topic: t.Topic.ID, Partition: int32(i)}
		pointer, ok, err := c.metadata.RemotePointer(ctx, tip)
		if err != nil {
			return false, fmt.Errorf("read the remote pointer of %v: %w", tip, err)
		}
		if ok {
			if err := c.metadata.DeleteRemotePointer(ctx, tip, pointer); err != nil {
				return false, err
			}
		}
		c.o.Partitions.Forget(tip)
	}
	c.log.Info("DELETE_SEGMENT_FINISHED", "topic", t.Topic.Name, "objects", n)
	return t.Purging, nil // the tombstone changed: who ends it must have seen that
}

// removeBelow deletes everything under a folder and says how many objects that was.
func (c *Collector) removeBelow(ctx context.Context, dir string) (int, error) {
	var keys []string
	n := 0
	for info, err := range c.bucket.List(ctx, dir) {
		if err != nil {
			return n, err
		}
		n++
		if keys = append(keys, info.Key); len(keys) == bucket.DeleteBatch {
			if err := c.bucket.Remove(ctx, keys); err != nil {
				return n, err
			}
			keys = keys[:0]
		}
	}
	return n, c.bucket.Remove(ctx, keys)
}

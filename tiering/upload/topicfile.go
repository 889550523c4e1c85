package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TopicFiles writes topics' topic.json. It remembers what this process knows to be in the bucket, and the image that it
// last compared.
type TopicFiles struct {
	bucket   *bucket.Cluster
	metadata *metadata.Store

	mu      sync.Mutex
	written map[metadata.TopicID][]byte
	seen    map[metadata.TopicID]int64 // image revision
}

// NewTopicFiles knows of no file yet.
func NewTopicFiles(b *bucket.Cluster, md *metadata.Store) *TopicFiles {
	return &TopicFiles{bucket: b, metadata: md, written: map[metadata.TopicID][]byte{}, seen: map[metadata.TopicID]int64{}}
}

func (f *TopicFiles) get(id metadata.TopicID) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written[id]
}

func (f *TopicFiles) set(id metadata.TopicID, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written[id] = b
}

// checked says whether the topic was compared under this revision of the image.
func (f *TopicFiles) checked(id metadata.TopicID, revision int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.seen[id]
	return ok && old == revision
}

// Forget drops what is remembered of a topic that is gone.
func (f *TopicFiles) Forget(id metadata.TopicID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.written, id)
	delete(f.seen, id)
}

func (f *TopicFiles) check(id metadata.TopicID, revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[id] = revision
}

func (f *TopicFiles) describe(id metadata.TopicID) ([]byte, error) {
	im := f.metadata.Image()
	t, ok := im.TopicByID(id)
	if !ok {
		return nil, fmt.Errorf("topic %v: %w", id, metadata.ErrUnknownTopic)
	}
	file := bucket.TopicFile{
		Topic: t.Name, TopicID: id, Partitions: len(t.Partitions), Replicas: replicasOf(t), Created: t.Created.UTC(), Configs: im.TopicConfig(t.Name),
	}
	return file.Encode()
}

// replicasOf is how many replicas a partition is to have, whatever is being moved.
func replicasOf(t *metadata.Topic) int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Replicas) - len(t.Partitions[0].Removing)
}

// Ensure makes sure that topic.json exists before the first manifest of a topic is committed.
func (f *TopicFiles) Ensure(ctx context.Context, name string, tip metadata.TopicIDPartition) error {
	if f.get(tip.Topic) != nil {
		return nil
	}
	b, err := f.describe(tip.Topic)
	if err != nil {
		return err
	}
	key := manifest.TopicDir(name, tip.Topic) + manifest.TopicFile
	err = f.put(ctx, key, b, true)
	if errors.Is(err, object.ErrExists) {
		if b, err = f.bucket.GetAll(ctx, key, bucket.MaxTopicBytes); err != nil {
			return err
		}
	}
	if err == nil {
		f.set(tip.Topic, b)
	}
	return err
}

func (f *TopicFiles) put(ctx context.Context, key string, b []byte, ifAbsent bool) error {
	return bucket.Failed("write", key, f.bucket.Retry(ctx, func(ctx context.Context) error {
		_, err := f.bucket.Store.Put(ctx, f.bucket.Prefix+key, object.Bytes(b), object.PutOptions{
			IfAbsent: ifAbsent, CRC32C: bucket.Checksum(b), HasCRC: true,
		})
		return err
	}))
}

// Refresh rewrites topic.json after a change of the configuration. Only partition 0's leader does: two
// writers could leave the older text. It compares when the image has changed, and reads the object once.
func (f *TopicFiles) Refresh(ctx context.Context, name string, tip metadata.TopicIDPartition) error {
	revision := f.metadata.Image().Revision()
	if tip.Partition != 0 || f.checked(tip.Topic, revision) {
		return nil
	}
	b, err := f.describe(tip.Topic)
	if errors.Is(err, metadata.ErrUnknownTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	key := manifest.TopicDir(name, tip.Topic) + manifest.TopicFile
	have := f.get(tip.Topic)
	if have == nil {
		have, err = f.bucket.GetAll(ctx, key, bucket.MaxTopicBytes)
		if errors.Is(err, manifest.ErrMissing) {
			f.check(tip.Topic, revision)
			return nil // nothing of this topic was copied yet
		}
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(have, b) {
		if err := f.put(ctx, key, b, false); err != nil {
			return err
		}
	}
	f.set(tip.Topic, b)
	f.check(tip.Topic, revision)
	return nil
}

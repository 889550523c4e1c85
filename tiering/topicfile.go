package tiering

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

// topicFiles remembers what this process knows to be in the bucket, and the image it last compared.
type topicFiles struct {
	mu      sync.Mutex
	written map[metadata.TopicID][]byte
	seen    map[metadata.TopicID]int64 // image revision
}

func (f *topicFiles) get(id metadata.TopicID) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written[id]
}

func (f *topicFiles) set(id metadata.TopicID, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.written == nil {
		f.written = map[metadata.TopicID][]byte{}
	}
	f.written[id] = b
}

// checked says whether the topic was compared under this revision of the image.
func (f *topicFiles) checked(id metadata.TopicID, revision int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.seen[id]
	return ok && old == revision
}

func (f *topicFiles) forget(id metadata.TopicID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.written, id)
	delete(f.seen, id)
}

func (f *topicFiles) check(id metadata.TopicID, revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[metadata.TopicID]int64{}
	}
	f.seen[id] = revision
}

func (m *Manager) describeTopic(id metadata.TopicID) ([]byte, error) {
	im := m.o.Metadata.Image()
	t, ok := im.TopicByID(id)
	if !ok {
		return nil, fmt.Errorf("topic %v: %w", id, metadata.ErrUnknownTopic)
	}
	f := bucket.TopicFile{
		Topic: t.Name, TopicID: id, Partitions: len(t.Partitions), Replicas: replicasOf(t), Created: t.Created.UTC(), Configs: im.TopicConfig(t.Name),
	}
	return f.Encode()
}

// replicasOf is how many replicas a partition is to have, whatever is being moved.
func replicasOf(t *metadata.Topic) int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Replicas) - len(t.Partitions[0].Removing)
}

// topicFile makes sure that topic.json exists before the first manifest of a topic is committed.
func (m *Manager) topicFile(ctx context.Context, name string, tip metadata.TopicIDPartition) error {
	if m.topics.get(tip.Topic) != nil {
		return nil
	}
	b, err := m.describeTopic(tip.Topic)
	if errors.Is(err, metadata.ErrUnknownTopic) {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if err != nil {
		return err
	}
	key := manifest.TopicDir(name, tip.Topic) + "topic.json"
	err = m.putTopic(ctx, key, b, true)
	if errors.Is(err, object.ErrExists) {
		if b, err = m.bucket.GetAll(ctx, key, bucket.MaxTopicBytes); err != nil {
			return err
		}
	}
	if err == nil {
		m.topics.set(tip.Topic, b)
	}
	return err
}

func (m *Manager) putTopic(ctx context.Context, key string, b []byte, ifAbsent bool) error {
	return bucket.Failed("write", key, m.bucket.Retry(ctx, func(ctx context.Context) error {
		_, err := m.bucket.Store.Put(ctx, m.bucket.Prefix+key, object.Bytes(b), object.PutOptions{
			IfAbsent: ifAbsent, CRC32C: bucket.Checksum(b), HasCRC: true,
		})
		return err
	}))
}

// refreshTopicFile rewrites topic.json after a change of the configuration. Only partition 0's leader does: two
// writers could leave the older text. It compares when the image has changed, and reads the object once.
func (m *Manager) refreshTopicFile(ctx context.Context, name string, tip metadata.TopicIDPartition) error {
	revision := m.o.Metadata.Image().Revision()
	if tip.Partition != 0 || m.topics.checked(tip.Topic, revision) {
		return nil
	}
	b, err := m.describeTopic(tip.Topic)
	if errors.Is(err, metadata.ErrUnknownTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	key := manifest.TopicDir(name, tip.Topic) + "topic.json"
	have := m.topics.get(tip.Topic)
	if have == nil {
		have, err = m.bucket.GetAll(ctx, key, bucket.MaxTopicBytes)
		if errors.Is(err, manifest.ErrMissing) {
			m.topics.check(tip.Topic, revision)
			return nil // nothing of this topic was copied yet
		}
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(have, b) {
		if err := m.putTopic(ctx, key, b, false); err != nil {
			return err
		}
	}
	m.topics.set(tip.Topic, b)
	m.topics.check(tip.Topic, revision)
	return nil
}

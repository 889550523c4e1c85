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

// TopicFiles writes topics' topic.json. It remembers which ones are in the bucket, and of those that it keeps up to date
// what they say and the image that it last compared.
type TopicFiles struct {
	bucket   *bucket.Cluster
	metadata *metadata.Store

	mu     sync.Mutex
	there  map[metadata.TopicID]bool
	leader map[metadata.TopicID]topicFile
}

// topicFile is what is known of a topic.json under one leadership of the topic's partition 0: under another somebody else
// may have written it.
type topicFile struct {
	epoch    int32
	revision int64  // of the image that was compared
	body     []byte // nil while there is none
}

// NewTopicFiles knows of no file yet.
func NewTopicFiles(b *bucket.Cluster, md *metadata.Store) *TopicFiles {
	return &TopicFiles{bucket: b, metadata: md, there: map[metadata.TopicID]bool{}, leader: map[metadata.TopicID]topicFile{}}
}

func (f *TopicFiles) exists(id metadata.TopicID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.there[id]
}

func (f *TopicFiles) found(id metadata.TopicID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there[id] = true
}

// known returns what is known under a leader epoch.
func (f *TopicFiles) known(id metadata.TopicID, epoch int32) (topicFile, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.leader[id]
	return k, ok && k.epoch == epoch
}

func (f *TopicFiles) compared(id metadata.TopicID, k topicFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader[id] = k
}

// Forget drops what is remembered of a topic that is gone.
func (f *TopicFiles) Forget(id metadata.TopicID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.there, id)
	delete(f.leader, id)
}

// describe is what topic.json is to say, with what a newer release has put into the one that is there.
func (f *TopicFiles) describe(id metadata.TopicID, unknown manifest.Unknown) ([]byte, error) {
	im := f.metadata.Image()
	t, ok := im.TopicByID(id)
	if !ok {
		return nil, fmt.Errorf("topic %v: %w", id, metadata.ErrUnknownTopic)
	}
	file := bucket.TopicFile{
		Topic: t.Name, TopicID: id, Partitions: len(t.Partitions), Replicas: replicasOf(t), Created: t.Created.UTC(), Configs: im.TopicConfig(t.Name),
		Unknown: unknown,
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
	if f.exists(tip.Topic) {
		return nil
	}
	b, err := f.describe(tip.Topic, "")
	if err != nil {
		return err
	}
	err = f.put(ctx, manifest.TopicDir(name, tip.Topic)+manifest.TopicFile, b, true)
	if err == nil || errors.Is(err, object.ErrExists) {
		f.found(tip.Topic)
		return nil
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
// writers could leave the older text. It compares when the image has changed, and reads the object once a leadership.
func (f *TopicFiles) Refresh(ctx context.Context, l *Leader) error {
	id, revision := l.TIP.Topic, f.metadata.Image().Revision()
	if l.TIP.Partition != 0 {
		return nil
	}
	k, ok := f.known(id, l.Epoch)
	if ok && k.revision == revision {
		return nil
	}
	key := manifest.TopicDir(l.Topic, id) + manifest.TopicFile
	k.epoch, k.revision = l.Epoch, revision
	if !ok || k.body == nil {
		var err error
		k.body, err = f.bucket.GetAll(ctx, key, bucket.MaxTopicBytes)
		if errors.Is(err, manifest.ErrMissing) {
			k.body = nil
			f.compared(id, k)
			return nil // nothing of this topic was copied yet
		}
		if err != nil {
			return err
		}
	}
	unknown, err := unknownOf(key, k.body)
	if err != nil {
		return err
	}
	b, err := f.describe(id, unknown)
	if errors.Is(err, metadata.ErrUnknownTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(k.body, b) {
		if err := f.put(ctx, key, b, false); err != nil {
			return err
		}
	}
	k.body = b
	f.compared(id, k)
	return nil
}

// unknownOf is what a newer release has put into a topic.json. One of a newer format is an error: it is not replaced.
func unknownOf(key string, b []byte) (manifest.Unknown, error) {
	file, err := bucket.DecodeTopicFile(b)
	switch {
	case errors.Is(err, manifest.ErrVersion):
		return "", &bucket.ObjectError{Op: "rewrite", Object: key, Err: err}
	case err != nil:
		return "", nil // damaged: writing it again mends it
	}
	return file.Unknown, nil
}

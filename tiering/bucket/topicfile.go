package bucket

import (
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

const (
	topicFormat = "coldbrook.topic"
	// MaxTopicBytes bounds a topic.json.
	MaxTopicBytes = 1 << 20
)

// TopicFile is the contents of topic.json: what it takes to create the topic again from the bucket alone.
type TopicFile struct {
	Topic      string            `json:"topic"`
	TopicID    metadata.TopicID  `json:"topic_id"`
	Partitions int               `json:"partitions"`
	Replicas   int               `json:"replicas,omitempty"` // of each partition
	Created    time.Time         `json:"created"`
	Configs    map[string]string `json:"configs,omitempty"` // overrides only
	Unknown    manifest.Unknown  `json:"-"`
}

// Encode returns the object.
func (t *TopicFile) Encode() ([]byte, error) {
	b, _, err := manifest.SealJSON(topicFormat, t, MaxTopicBytes)
	return b, err
}

// DecodeTopicFile reads a topic.json object.
func DecodeTopicFile(b []byte) (*TopicFile, error) {
	t := new(TopicFile)
	if _, err := manifest.OpenJSON(topicFormat, b, MaxTopicBytes, t); err != nil {
		return nil, err
	}
	if err := metadata.ValidTopicName(t.Topic); err != nil || t.TopicID.IsZero() || t.Partitions < 0 || t.Partitions > metadata.MaxPartitionsPerTopic || t.Replicas < 0 {
		return nil, fmt.Errorf("topic.json of %q with %d partitions: %w", t.Topic, t.Partitions, manifest.ErrCorrupt)
	}
	return t, nil
}

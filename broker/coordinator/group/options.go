package group

import (
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// Config is the broker's settings for groups. The zero Config stands for
// [DefaultConfig]; in any other, zeros mean zero.
type Config struct {
	Partitions            int32         // offsets.topic.num.partitions, of a topic that is to be made
	MinSessionTimeout     time.Duration // group.min.session.timeout.ms
	MaxSessionTimeout     time.Duration // group.max.session.timeout.ms
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms
	MaxSize               int           // group.max.size
	MaxMetadata           int           // offset.metadata.max.bytes
	OffsetsRetention      time.Duration // offsets.retention.minutes
	ExpiryInterval        time.Duration // offsets.retention.check.interval.ms
	CommitTimeout         time.Duration // offsets.commit.timeout.ms
	LoadBytes             int           // offsets.load.buffer.size
	MaxBatchBytes         int           // below max.message.bytes of __consumer_offsets
	MemberBytes           int64         // of memory that members of all groups may take; 0 is 64 MiB
	Compression           record.Compression
}

// DefaultConfig is Kafka's.
func DefaultConfig() Config {
	return Config{
		Partitions:            50,
		MinSessionTimeout:     6 * time.Second,
		MaxSessionTimeout:     30 * time.Minute,
		InitialRebalanceDelay: 3 * time.Second,
		MaxSize:               1<<31 - 1,
		MaxMetadata:           4096,
		OffsetsRetention:      7 * 24 * time.Hour,
		ExpiryInterval:        10 * time.Minute,
		CommitTimeout:         5 * time.Second,
		LoadBytes:             5 << 20,
		MaxBatchBytes:         1_000_000,
	}
}

// newMemberJoinTimeout bounds how long a new member may wait in a JoinGroup:
// it has no id to send heartbeats with, so nothing else ends a wait whose
// client has gone (KAFKA-7610; a constant in Kafka as well).
const newMemberJoinTimeout = 5 * time.Minute

// Options of a Coordinator; Log is required.
type Options struct {
	Log    coordinator.Log // of __consumer_offsets
	Config Config
	// Partitions is how many partitions the topic has, which all brokers agree
	// on; 0 or nil while there is none: then Config says how many it will have.
	Partitions func() int32
	// TopicName and TopicID resolve topic ids, which OffsetCommit and
	// OffsetFetch carry from version 10; nil resolves nothing.
	TopicName func(id [16]byte) (name string, ok bool)
	TopicID   func(name string) (id [16]byte, ok bool)
	Logger    *slog.Logger
	Meter     metric.Meter
}

func (o *Options) complete() error {
	if o.Config == (Config{}) {
		o.Config = DefaultConfig()
	}
	if o.Partitions == nil {
		o.Partitions = func() int32 { return 0 }
	}
	if o.TopicName == nil {
		o.TopicName = func([16]byte) (string, bool) { return "", false }
	}
	if o.TopicID == nil {
		o.TopicID = func(string) (id [16]byte, ok bool) { return id, false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &o.Config
	if c.MemberBytes == 0 {
		c.MemberBytes = 64 << 20
	}
	switch {
	case c.Partitions < 1:
		return fmt.Errorf("offsets.topic.num.partitions %d: want at least 1", c.Partitions)
	case c.MaxSize < 1:
		return fmt.Errorf("group.max.size %d: want at least 1", c.MaxSize)
	case c.MinSessionTimeout > c.MaxSessionTimeout:
		return fmt.Errorf("group.min.session.timeout.ms %d: above group.max.session.timeout.ms %d",
			c.MinSessionTimeout.Milliseconds(), c.MaxSessionTimeout.Milliseconds())
	case c.ExpiryInterval <= 0:
		return fmt.Errorf("offsets.retention.check.interval.ms %d: want at least 1", c.ExpiryInterval.Milliseconds())
	case c.CommitTimeout <= 0:
		return fmt.Errorf("offsets.commit.timeout.ms %d: want at least 1", c.CommitTimeout.Milliseconds())
	}
	return nil
}

// Topic is the internal topic that groups and offsets are kept in.
const Topic = "__consumer_offsets"

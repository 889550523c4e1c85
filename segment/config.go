package segment

import (
	"math"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
)

// Config is what a topic's settings say about one log. The zero value of each
// field means Kafka's default, except where noted. It can be changed while the
// log is in use, with [Log.SetConfig].
type Config struct {
	SegmentBytes       int64         // segment.bytes
	SegmentAge         time.Duration // segment.ms
	SegmentJitter      time.Duration // segment.jitter.ms, 0 = none
	IndexIntervalBytes int32         // index.interval.bytes
	IndexBytes         int32         // segment.index.bytes
	MaxMessageBytes    int32         // max.message.bytes

	// The four retention limits have no default: 0 keeps nothing that may go.
	// They count only with Delete, or RemoteEnabled for the local ones.
	RetentionBytes      int64         // retention.bytes, < 0 = unlimited
	RetentionAge        time.Duration // retention.ms, < 0 = unlimited
	LocalRetentionBytes int64         // local.retention.bytes, -2 already resolved, < 0 = unlimited
	LocalRetentionAge   time.Duration // local.retention.ms, -2 already resolved, < 0 = unlimited
	DeleteDelay         time.Duration // file.delete.delay.ms

	// FlushMessages is flush.messages: 1 (and 0) make every append durable before
	// SyncedOffset covers it; above 1 that many records may be declared synced
	// while they are only in the page cache.
	FlushMessages int64
	// FlushInterval is flush.ms: the longest that records declared synced stay
	// unsynced, 0 = no limit.
	FlushInterval time.Duration

	TimestampType      record.TimestampType
	TimestampBeforeMax time.Duration // message.timestamp.before.max.ms, 0 = unlimited
	TimestampAfterMax  time.Duration // message.timestamp.after.max.ms, 0 = unlimited
	Compression        record.Target // compression.type, the zero value keeps what the producer chose
	Preallocate        bool          // preallocate: reserve the whole segment at once

	Compact       bool // cleanup.policy has compact
	Delete        bool // cleanup.policy has delete
	RemoteEnabled bool // remote.storage.enable
	// CopyMaxAge is remote.copy.max.age.ms: the longest that records may wait in
	// the active segment, which is not uploaded, 0 = no limit.
	CopyMaxAge time.Duration

	ProducerExpiration time.Duration // producer.id.expiration.ms
	MaxTxnAge          time.Duration // transaction.max.timeout.ms plus late time
}

const (
	defaultSegmentBytes   = 1 << 30
	defaultSegmentAge     = 7 * 24 * time.Hour
	defaultIndexInterval  = 4096
	defaultIndexBytes     = 10 << 20
	defaultMaxMessage     = 1 << 20
	defaultProducerExpiry = 24 * time.Hour
	defaultMaxTxnAge      = 15*time.Minute + 5*time.Minute
	maxSegmentBytes       = math.MaxInt32
	minSegmentBytes       = 14 // Kafka's LegacyRecord.RECORD_OVERHEAD_V0
	maxRelativeOffset     = math.MaxInt32
)

// withDefaults replaces zeros and clamps what the file formats cannot hold.
func (c Config) withDefaults() Config {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	c.SegmentBytes = min(max(c.SegmentBytes, minSegmentBytes), maxSegmentBytes)
	if c.SegmentAge <= 0 {
		c.SegmentAge = defaultSegmentAge
	}
	if c.IndexIntervalBytes <= 0 {
		c.IndexIntervalBytes = defaultIndexInterval
	}
	if c.IndexBytes <= 0 {
		c.IndexBytes = defaultIndexBytes
	}
	c.IndexBytes = max(c.IndexBytes, 2*timeEntryLen)
	if c.MaxMessageBytes <= 0 {
		c.MaxMessageBytes = defaultMaxMessage
	}
	if c.FlushMessages <= 0 {
		c.FlushMessages = 1
	}
	if c.ProducerExpiration <= 0 {
		c.ProducerExpiration = defaultProducerExpiry
	}
	if c.MaxTxnAge <= 0 {
		c.MaxTxnAge = defaultMaxTxnAge
	}
	return c
}

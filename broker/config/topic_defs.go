package config

var topicIndex = indexOf(topicDefs)

// topicDefs is sorted by name, as Kafka's manual is.
var topicDefs = []Def{
	{Name: "cleanup.policy", Scope: ScopeTopic, Type: List, Valid: eachOf("compact", "delete"),
		Synonyms: same("log.cleanup.policy"),
		Doc:      "What happens to old segments: delete removes them when their retention passes, compact keeps the latest record of each key, compact,delete does both. Nothing is compacted yet: compact alone keeps everything. A compacted topic is not tiered."},
	{Name: "compression.gzip.level", Inert: true, Scope: ScopeTopic, Type: Int, Valid: gzipLevel(), Synonyms: same("compression.gzip.level"),
		Doc: "The level when compression.type is gzip: 1 is fastest, 9 is smallest, -1 is the library's own choice. Accepted for Kafka's sake, without effect: batches are compressed at the library's own level."},
	{Name: "compression.lz4.level", Inert: true, Scope: ScopeTopic, Type: Int, Valid: between(1, 17), Synonyms: same("compression.lz4.level"),
		Doc: "The level when compression.type is lz4. Accepted for Kafka's sake, without effect: batches are compressed at the library's own level."},
	{Name: "compression.type", Scope: ScopeTopic, Type: String, Valid: oneOf(compressionTypes...), Synonyms: same("compression.type"),
		Doc: "The compression batches are stored with. producer keeps what the producer sent; anything else re-compresses batches that arrive differently."},
	{Name: "compression.zstd.level", Inert: true, Scope: ScopeTopic, Type: Int, Valid: between(-131072, 22), Synonyms: same("compression.zstd.level"),
		Doc: "The level when compression.type is zstd. Accepted for Kafka's sake, without effect: batches are compressed at the library's own level."},
	{Name: "delete.protection", Scope: ScopeTopic, Type: Boolean, Default: "false", Own: true,
		Doc: "DeleteTopics and DeleteRecords are refused while this is true. Set it to false first."},
	{Name: "delete.retention.ms", Inert: true, Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(0), Synonyms: same("log.cleaner.delete.retention.ms"),
		Doc: "How long a tombstone stays in a compacted topic after it has been compacted. Accepted for Kafka's sake, without effect: nothing is compacted yet."},
	{Name: "file.delete.delay.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(0), Synonyms: same("log.segment.delete.delay.ms"),
		Doc: "How long the files of a removed segment stay on disk."},
	{Name: "flush.messages", Scope: ScopeTopic, Type: Long, Valid: atLeast(1), Synonyms: same("log.flush.interval.messages"),
		Doc: "A sync to disk after this many records. At 1, the default here, an acknowledgement means synced: one sync is shared by all requests that wait for it. Larger values acknowledge before the sync, as Kafka does."},
	{Name: "flush.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(0),
		Synonyms: []Synonym{{"log.flush.interval.ms", 1}, {"log.flush.scheduler.interval.ms", 1}},
		Doc:      "The longest that a record waits for a sync when flush.messages is more than 1."},
	{Name: "follower.replication.throttled.replicas", Scope: ScopeTopic, Type: List, Default: "", Valid: throttledReplicas(),
		Doc: "Replicas whose replication is throttled on the follower's side: partition:broker,… or * for all."},
	{Name: "index.interval.bytes", Scope: ScopeTopic, Type: Int, Unit: Bytes, Valid: atLeast(0), Synonyms: same("log.index.interval.bytes"),
		Doc: "How many bytes of records there are between two index entries."},
	{Name: "internal.segment.bytes", Scope: ScopeTopic, Type: Int, Unit: Bytes, Unset: true, Valid: atLeast(14), Internal: true,
		Doc: "segment.bytes without the lower bound, for tests."},
	{Name: "leader.replication.throttled.replicas", Scope: ScopeTopic, Type: List, Default: "", Valid: throttledReplicas(),
		Doc: "Replicas whose replication is throttled on the leader's side: partition:broker,… or * for all."},
	{Name: "local.retention.bytes", Scope: ScopeTopic, Type: Long, Unit: Bytes, Valid: atLeast(-2), Synonyms: same("log.local.retention.bytes"),
		Doc: "How many bytes of a partition's uploaded segments stay on local disk. -2 is the value of retention.bytes, -1 is all."},
	{Name: "local.retention.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(-2), Synonyms: same("log.local.retention.ms"),
		Doc: "How long an uploaded segment stays on local disk. -2 is the value of retention.ms, -1 is for ever."},
	{Name: "max.compaction.lag.ms", Inert: true, Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(1), Synonyms: same("log.cleaner.max.compaction.lag.ms"),
		Doc: "The longest that a record of a compacted topic stays out of compaction. Accepted for Kafka's sake, without effect: nothing is compacted yet."},
	{Name: "max.message.bytes", Scope: ScopeTopic, Type: Int, Unit: Bytes, Valid: atLeast(0), Synonyms: same("message.max.bytes"),
		Doc: "The largest record batch that is accepted, after compression."},
	{Name: "message.timestamp.after.max.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(0), Synonyms: same("log.message.timestamp.after.max.ms"),
		Doc: "How far ahead of the broker's clock a record's timestamp may be with CreateTime."},
	{Name: "message.timestamp.before.max.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(0), Synonyms: same("log.message.timestamp.before.max.ms"),
		Doc: "How far behind the broker's clock a record's timestamp may be with CreateTime."},
	{Name: "message.timestamp.type", Scope: ScopeTopic, Type: String, Valid: oneOf("CreateTime", "LogAppendTime"), Synonyms: same("log.message.timestamp.type"),
		Doc: "Whether a record's timestamp is the producer's (CreateTime) or the broker's (LogAppendTime)."},
	{Name: "min.cleanable.dirty.ratio", Inert: true, Scope: ScopeTopic, Type: Double, Valid: between(0, 1), Synonyms: same("log.cleaner.min.cleanable.ratio"),
		Doc: "How much of a compacted log must be new before it is compacted again. Accepted for Kafka's sake, without effect: nothing is compacted yet."},
	{Name: "min.compaction.lag.ms", Inert: true, Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(0), Synonyms: same("log.cleaner.min.compaction.lag.ms"),
		Doc: "The shortest that a record of a compacted topic stays out of compaction. Accepted for Kafka's sake, without effect: nothing is compacted yet."},
	{Name: "min.insync.replicas", Scope: ScopeTopic, Type: Int, Valid: atLeast(1), Synonyms: same("min.insync.replicas"),
		Doc: "How many replicas must be in sync for a produce request with acks=all to be accepted."},
	{Name: "preallocate", Scope: ScopeTopic, Type: Boolean, Synonyms: same("log.preallocate"),
		Doc: "Whether the disk space of a new segment is reserved at once."},
	{Name: "remote.copy.lag.bytes", Scope: ScopeTopic, Type: Long, Unit: Bytes, Valid: atLeast(-1), Synonyms: same("log.remote.copy.lag.bytes"),
		Doc: "A sealed segment waits with its upload until this many bytes are behind it, or until remote.copy.lag.ms says so. 0 is at once, -1 is up to local.retention.bytes; where that is unlimited, only the time counts."},
	{Name: "remote.copy.lag.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(-1), Synonyms: same("log.remote.copy.lag.ms"),
		Doc: "A sealed segment waits with its upload until its newest record is this old, or until remote.copy.lag.bytes says so. 0 is at once, -1 is up to local.retention.ms; where that is unlimited, only the bytes count."},
	{Name: "remote.copy.max.age.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: positiveOrUnlimited(), Own: true, Synonyms: same("remote.copy.max.age.ms"),
		Doc: "The longest that records of a tiered topic exist on local disks only: an active segment that holds older ones is sealed and uploaded. -1 leaves it to segment.ms and segment.bytes."},
	{Name: "remote.log.copy.disable", Scope: ScopeTopic, Type: Boolean, Default: "false",
		Doc: "No more uploads: what is in the object store stays readable until its retention passes. Needs local retention equal to retention."},
	{Name: "remote.log.delete.on.disable", Scope: ScopeTopic, Type: Boolean, Default: "false",
		Doc: "Must be true to switch remote.storage.enable off: the log then starts where the local log does, and what is in the object store is deleted after remote.delete.grace.ms."},
	{Name: "remote.storage.enable", Scope: ScopeTopic, Type: Boolean, Default: "true",
		Doc: "Sealed segments are uploaded to the object store. True by default here (Kafka: false), except for compacted topics and where remote.log.storage.system.enable is false."},
	{Name: "retention.bytes", Scope: ScopeTopic, Type: Long, Unit: Bytes, Valid: atLeast(-1), Synonyms: same("log.retention.bytes"),
		Doc: "How large a partition may grow, local disk and object store together, before its oldest segments are deleted. -1 is no limit."},
	{Name: "retention.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(-1),
		Synonyms: []Synonym{{"log.retention.ms", 1}, {"log.retention.minutes", 60_000}, {"log.retention.hours", 3_600_000}},
		Doc:      "How long records are kept, on local disk or in the object store. -1 is for ever."},
	{Name: "segment.bytes", Scope: ScopeTopic, Type: Int, Unit: Bytes, Valid: atLeast(1 << 20), Synonyms: same("log.segment.bytes"),
		Doc: "The size at which a segment is sealed. It is also the size of the objects of a tiered topic."},
	{Name: "segment.index.bytes", Scope: ScopeTopic, Type: Int, Unit: Bytes, Valid: atLeast(4), Synonyms: same("log.index.size.max.bytes"),
		Doc: "The largest size of an index; a segment whose index is full is sealed."},
	{Name: "segment.jitter.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(0),
		Synonyms: []Synonym{{"log.roll.jitter.ms", 1}, {"log.roll.jitter.hours", 3_600_000}},
		Doc:      "A random time up to this is taken off segment.ms, so that not all partitions seal at once."},
	{Name: "segment.ms", Scope: ScopeTopic, Type: Long, Unit: Milliseconds, Valid: atLeast(1),
		Synonyms: []Synonym{{"log.roll.ms", 1}, {"log.roll.hours", 3_600_000}},
		Doc:      "The age at which a segment is sealed even if it is not full."},
	{Name: "unclean.leader.election.enable", Scope: ScopeTopic, Type: Boolean, Synonyms: same("unclean.leader.election.enable"),
		Doc: "Whether a replica that is not in sync may become leader as a last resort, at the price of acknowledged records."},
}

var compressionTypes = []string{"uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"}

func same(name string) []Synonym { return []Synonym{{Name: name, Factor: 1}} }

func gzipLevel() Check {
	inner := between(1, 9)
	return Check{Text: "[1,...,9] or -1", test: func(v string) string {
		if v == "-1" {
			return ""
		}
		return inner.test(v)
	}}
}

package config

import (
	"errors"
	"slices"
	"strconv"
	"time"
)

// Topic is what a topic is configured with: its own settings over the broker's.
// A negative duration or number of bytes is "no limit".
type Topic struct {
	Compact, Delete bool // cleanup.policy

	CompressionType   string // uncompressed, zstd, lz4, snappy, gzip or producer
	CompressionGzip   int32  // levels
	CompressionLZ4    int32
	CompressionZstd   int32
	MaxMessageBytes   int32
	LogAppendTime     bool // message.timestamp.type; false is CreateTime
	TimestampBefore   time.Duration
	TimestampAfter    time.Duration
	MinInSyncReplicas int32

	SegmentBytes       int64
	SegmentAge         time.Duration // segment.ms
	SegmentJitter      time.Duration
	SegmentIndexBytes  int32
	IndexIntervalBytes int32
	Preallocate        bool
	FlushMessages      int64
	FlushInterval      time.Duration
	FileDeleteDelay    time.Duration

	RetentionBytes      int64
	RetentionAge        time.Duration
	LocalRetentionBytes int64         // -2 already replaced by RetentionBytes
	LocalRetentionAge   time.Duration // -2 already replaced by RetentionAge

	DeleteRetention   time.Duration // of tombstones
	MinCompactionLag  time.Duration
	MaxCompactionLag  time.Duration
	MinCleanableRatio float64

	RemoteEnabled         bool // remote.storage.enable, and the broker has a store, and not compacted
	RemoteCopyDisabled    bool
	RemoteDeleteOnDisable bool
	RemoteCopyLag         time.Duration // -1 already replaced by LocalRetentionAge; 0 is at once, < 0 never for that
	RemoteCopyLagBytes    int64         // -1 already replaced by LocalRetentionBytes; 0 is at once, < 0 never for that
	RemoteCopyMaxAge      time.Duration

	UncleanLeaderElection bool
	DeleteProtection      bool
	LeaderThrottled       ThrottledReplicas
	FollowerThrottled     ThrottledReplicas
}

// ResolveTopic returns the settings of a topic with the given overrides. The error joins a
// SettingError for each unknown name or bad value; rules between settings are not looked at
// (ValidateTopic does that): what is stored is what counts.
func (s *Settings) ResolveTopic(overrides map[string]string) (Topic, error) {
	for _, name := range sortedKeys(overrides) {
		if _, err := checkTopicValue(name, overrides[name]); err != nil {
			return Topic{}, err
		}
	}
	return s.resolveTopic(overrides)
}

// ResolveStored returns the settings of a topic with the overrides that are stored, of which some may
// be unknown (a newer version's) or bad. It leaves those out and joins a SettingError for each. What
// cannot be read never deletes anything: a bad limit is none, a bad delete.protection protects.
func (s *Settings) ResolveStored(overrides map[string]string) (Topic, error) {
	good := make(map[string]string, len(overrides))
	var errs []error
	keep := false
	for _, name := range sortedKeys(overrides) {
		_, err := checkTopicValue(name, overrides[name])
		if err == nil {
			good[name] = overrides[name]
			continue
		}
		errs = append(errs, err)
		switch name {
		case "cleanup.policy", "retention.ms", "retention.bytes":
			keep = true
		case "delete.protection":
			good[name] = "true"
		}
	}
	if keep {
		good["retention.ms"], good["retention.bytes"] = "-1", "-1"
	}
	t, err := s.resolveTopic(good)
	return t, errors.Join(append(errs, err)...)
}

func (s *Settings) resolveTopic(overrides map[string]string) (Topic, error) {
	r := reader{get: func(name string) (string, bool) { return s.topicValue(overrides, name) }}
	t := Topic{
		CompressionType:   r.text("compression.type"),
		CompressionGzip:   r.int("compression.gzip.level"),
		CompressionLZ4:    r.int("compression.lz4.level"),
		CompressionZstd:   r.int("compression.zstd.level"),
		MaxMessageBytes:   r.int("max.message.bytes"),
		LogAppendTime:     r.text("message.timestamp.type") == "LogAppendTime",
		TimestampBefore:   r.ms("message.timestamp.before.max.ms"),
		TimestampAfter:    r.ms("message.timestamp.after.max.ms"),
		MinInSyncReplicas: r.int("min.insync.replicas"),

		SegmentBytes:       r.long("segment.bytes"),
		SegmentAge:         r.ms("segment.ms"),
		SegmentJitter:      r.ms("segment.jitter.ms"),
		SegmentIndexBytes:  r.int("segment.index.bytes"),
		IndexIntervalBytes: r.int("index.interval.bytes"),
		Preallocate:        r.flag("preallocate"),
		FlushMessages:      r.long("flush.messages"),
		FlushInterval:      r.ms("flush.ms"),
		FileDeleteDelay:    r.ms("file.delete.delay.ms"),

		RetentionBytes: r.long("retention.bytes"),
		RetentionAge:   r.ms("retention.ms"),

		DeleteRetention:   r.ms("delete.retention.ms"),
		MinCompactionLag:  r.ms("min.compaction.lag.ms"),
		MaxCompactionLag:  r.ms("max.compaction.lag.ms"),
		MinCleanableRatio: r.double("min.cleanable.dirty.ratio"),

		RemoteCopyDisabled:    r.flag("remote.log.copy.disable"),
		RemoteDeleteOnDisable: r.flag("remote.log.delete.on.disable"),
		RemoteCopyMaxAge:      r.ms("remote.copy.max.age.ms"),

		UncleanLeaderElection: r.flag("unclean.leader.election.enable"),
		DeleteProtection:      r.flag("delete.protection"),
		LeaderThrottled:       parseThrottled(r.list("leader.replication.throttled.replicas")),
		FollowerThrottled:     parseThrottled(r.list("follower.replication.throttled.replicas")),
	}
	policy := r.list("cleanup.policy")
	t.Compact, t.Delete = slices.Contains(policy, "compact"), slices.Contains(policy, "delete")
	if v, ok := r.get("internal.segment.bytes"); ok {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			t.SegmentBytes = n
		}
	}
	t.RemoteEnabled = r.flag("remote.storage.enable")
	s.resolveLocal(&r, &t)
	return t, r.err
}

// resolveLocal replaces "the same as" values by what they stand for.
func (s *Settings) resolveLocal(r *reader, t *Topic) {
	t.LocalRetentionAge, t.LocalRetentionBytes = t.RetentionAge, t.RetentionBytes
	if n := r.long("local.retention.ms"); n != useTotal {
		t.LocalRetentionAge = milliseconds(n)
	}
	if n := r.long("local.retention.bytes"); n != useTotal {
		t.LocalRetentionBytes = n
	}
	t.RemoteCopyLag, t.RemoteCopyLagBytes = t.LocalRetentionAge, t.LocalRetentionBytes
	if n := r.long("remote.copy.lag.ms"); n != -1 {
		t.RemoteCopyLag = milliseconds(n)
	}
	if n := r.long("remote.copy.lag.bytes"); n != -1 {
		t.RemoteCopyLagBytes = n
	}
}

// useTotal is the local.retention.* value that stands for retention.*.
const useTotal = -2

// topicValue returns a topic's effective value: its own, the broker's, or the table's.
func (s *Settings) topicValue(overrides map[string]string, name string) (string, bool) {
	d, ok := find(ScopeTopic, name)
	if !ok {
		return "", false
	}
	if v, ok := overrides[name]; ok {
		if v, err := d.check(v); err == nil {
			return v, true
		}
	}
	if name == remoteEnable {
		return strconv.FormatBool(s.remoteByDefault(overrides)), true
	}
	if v, ok := s.fromSynonyms(d); ok {
		return v, true
	}
	return d.Default, !d.Unset
}

// remoteByDefault is the value of remote.storage.enable for a topic that does not say: it is tiered
// wherever that is possible.
func (s *Settings) remoteByDefault(overrides map[string]string) bool {
	policy, _ := s.topicValue(overrides, "cleanup.policy")
	return s.typed.RemoteEnabled && !slices.Contains(splitList(policy), "compact")
}

func checkTopicValue(name, value string) (string, error) {
	d, ok := find(ScopeTopic, name)
	if !ok {
		return "", unknown(ScopeTopic, name)
	}
	return d.check(value)
}

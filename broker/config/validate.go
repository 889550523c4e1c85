package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// ValidateTopic checks overrides against the table and the rules between settings, with the
// defaults of a broker nobody configured.
func ValidateTopic(overrides map[string]string) error { return Defaults().ValidateTopic(overrides) }

// ValidateTopic checks the overrides of a topic that is about to be created. The error has
// ErrInvalid in its chain and Kafka's message.
func (s *Settings) ValidateTopic(overrides map[string]string) error {
	_, err := s.CreateTopic(overrides)
	return err
}

// validateTopic holds the rules of LogConfig.validate between the settings of a topic.
func (s *Settings) validateTopic(next map[string]string) error {
	minLag, maxLag := s.topicLong(next, "min.compaction.lag.ms"), s.topicLong(next, "max.compaction.lag.ms")
	if minLag > maxLag {
		return complain("min.compaction.lag.ms", "conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", minLag, maxLag)
	}
	if s.topicIs(next, remoteEnable) {
		return s.validateRemote(next)
	}
	return nil
}

// How a topic leaves the tier, in Kafka's words. What would take it off in passing is refused: its records in the
// object store would be out of reach, and its log would start where the local one does.
const (
	notWithoutDeleting = "It is invalid to disable remote storage without deleting remote data. "
	howToDelete        = "If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`."
)

// validateUntiering refuses what takes a tiered topic off the tier without the word to delete what is there. Both
// sides are what is in force, defaults included: that a topic has no settings of its own says nothing.
func (s *Settings) validateUntiering(current, next map[string]string) error {
	if !s.topicIs(current, remoteEnable) {
		return nil
	}
	policy, _ := s.topicValue(next, "cleanup.policy")
	own, said := next[remoteEnable]
	switch {
	case slices.Contains(splitList(policy), "compact") && !(said && own == "false"):
		return &SettingError{Name: "cleanup.policy", Value: policy,
			Reason: "A compacted topic is not tiered, and this topic is. " + notWithoutDeleting + howToDelete}
	case !s.topicIs(next, remoteEnable) && !s.topicIs(next, "remote.log.delete.on.disable"):
		return complain(remoteEnable, notWithoutDeleting+
			"If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. "+howToDelete)
	}
	return nil
}

// CheckTopicUnder refuses other settings of brokers under which a topic with these overrides would leave the tier,
// because it inherits its cleanup.policy or is tiered only by default.
func (s *Settings) CheckTopicUnder(next *Settings, topic string, overrides map[string]string) error {
	if !s.topicIs(overrides, remoteEnable) || next.topicIs(overrides, remoteEnable) {
		return nil
	}
	policy, _ := next.topicValue(overrides, "cleanup.policy")
	return &SettingError{Name: "log.cleanup.policy", Value: policy,
		Reason: fmt.Sprintf("Topic %s inherits it and is tiered, and a compacted topic is not. ", topic) + notWithoutDeleting +
			"Give the topic its own cleanup.policy first."}
}

// validateRemote holds the rules of a tiered topic.
func (s *Settings) validateRemote(next map[string]string) error {
	if !s.typed.RemoteEnabled {
		return complain(remoteEnable, "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	policy, _ := s.topicValue(next, "cleanup.policy")
	if slices.Contains(splitList(policy), "compact") {
		return complain(remoteEnable, "Remote log storage only supports topics with cleanup.policy=delete or cleanup.policy being an empty list.")
	}
	for _, pair := range [][2]string{{"local.retention.ms", "retention.ms"}, {"local.retention.bytes", "retention.bytes"}} {
		if err := s.validateLocal(next, pair[0], pair[1]); err != nil {
			return err
		}
	}
	if err := s.validateLag(next); err != nil {
		return err
	}
	if !s.topicIs(next, "remote.log.copy.disable") {
		return nil
	}
	for _, pair := range [][2]string{{"local.retention.ms", "retention.ms"}, {"local.retention.bytes", "retention.bytes"}} {
		if local := s.topicLong(next, pair[0]); local != useTotal && local != s.topicLong(next, pair[1]) {
			return complain(pair[0], "When `remote.log.copy.disable` is set to true, the `%s` and `%s` must be set to the identical value "+
				"because there will be no more logs copied to the remote storage.", pair[0], pair[1])
		}
	}
	return nil
}

// validateLocal: what is kept locally is a part of what is kept.
func (s *Settings) validateLocal(next map[string]string, localName, totalName string) error {
	local, total := s.topicLong(next, localName), s.topicLong(next, totalName)
	if total == -1 || local == useTotal {
		return nil
	}
	value := strconv.FormatInt(local, 10)
	switch {
	case local == -1:
		return &SettingError{Name: localName, Value: value, Reason: "Value must not be -1 as " + totalName + " value is set as " + strconv.FormatInt(total, 10)}
	case local > total:
		return &SettingError{Name: localName, Value: value, Reason: "Value must not be more than property: " + totalName + " value: " + strconv.FormatInt(total, 10)}
	}
	return nil
}

// validateLag: an upload must not wait for longer than its segment is kept locally (KIP-1241).
func (s *Settings) validateLag(next map[string]string) error {
	for _, n := range [][3]string{
		{"remote.copy.lag.ms", "local.retention.ms", "retention.ms"},
		{"remote.copy.lag.bytes", "local.retention.bytes", "retention.bytes"},
	} {
		lag, local := s.topicLong(next, n[0]), s.topicLong(next, n[1])
		if local == useTotal {
			local = s.topicLong(next, n[2])
		}
		if lag > 0 && local != -1 && lag > local {
			return &SettingError{Name: n[0], Value: strconv.FormatInt(lag, 10),
				Reason: "Value must not be more than " + n[1] + " property value: " + strconv.FormatInt(local, 10)}
		}
	}
	return nil
}

func (s *Settings) topicIs(overrides map[string]string, name string) bool {
	v, _ := s.topicValue(overrides, name)
	return v == "true"
}

// topicLong returns the effective number; the callers' values have been checked.
func (s *Settings) topicLong(overrides map[string]string, name string) int64 {
	v, _ := s.topicValue(overrides, name)
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return math.MinInt64 // impossible: TestDefaultsAreValid
	}
	return n
}

package config

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func settings(kv ...string) map[string]string {
	out := map[string]string{}
	for _, s := range kv {
		for f := range strings.FieldsSeq(s) {
			k, v, _ := strings.Cut(f, "=")
			out[k] = v
		}
	}
	return out
}

// The rules of LogConfig.validate, with Kafka's messages.
func TestTopicRules(t *testing.T) {
	for _, c := range []struct{ configs, want string }{
		{"", ""},
		{"retention.ms=-1 retention.bytes=-1 local.retention.ms=1000", ""},
		{"retention.ms=1000 local.retention.ms=1000", ""},
		{"cleanup.policy=compact", ""},
		{"cleanup.policy=", ""},
		{"segment.bytes=1048575", "Invalid value 1048575 for configuration segment.bytes: Value must be at least 1048576"},
		{"internal.segment.bytes=1000", ""},
		{"retention.ms=abc", "Invalid value abc for configuration retention.ms: Not a number of type LONG"},
		{"min.cleanable.dirty.ratio=1.5", "Value must be no more than 1"},
		{"cleanup.policy=remove", "Invalid value remove for configuration cleanup.policy: String must be one of: compact, delete"},
		{"compression.type=br", "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"},
		{"compression.gzip.level=0", "Value must be at least 1"},
		{"retenton.ms=5", "Unknown topic config name: retenton.ms; did you mean retention.ms?"},
		{"retention.ms=1000 local.retention.ms=1001", "Invalid value 1001 for configuration local.retention.ms: Value must not be more than property: retention.ms value: 1000"},
		{"retention.bytes=1000 local.retention.bytes=-1", "Invalid value -1 for configuration local.retention.bytes: Value must not be -1 as retention.bytes value is set as 1000"},
		{"remote.storage.enable=false retention.ms=1000 local.retention.ms=1001", ""},
		{"remote.storage.enable=true cleanup.policy=compact", "Remote log storage only supports topics with cleanup.policy=delete or cleanup.policy being an empty list."},
		{"remote.storage.enable=true cleanup.policy=compact,delete", "Remote log storage only supports"},
		{"remote.copy.lag.ms=2000 local.retention.ms=1000", "Invalid value 2000 for configuration remote.copy.lag.ms: Value must not be more than local.retention.ms property value: 1000"},
		{"remote.copy.lag.ms=-1 local.retention.ms=1000", ""},
		{"remote.copy.lag.bytes=2000 retention.bytes=1000", "remote.copy.lag.bytes"},
		{"remote.log.copy.disable=true", ""},
		{"remote.log.copy.disable=true local.retention.ms=5", "must be set to the identical value"},
		{"min.compaction.lag.ms=10 max.compaction.lag.ms=9", "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (9)"},
		{"leader.replication.throttled.replicas=0:1,2:3", ""},
		{"leader.replication.throttled.replicas=*", ""},
		{"leader.replication.throttled.replicas=0-1", "must be the literal '*'"},
		{"flush.messages=0", "Value must be at least 1"},
	} {
		err := ValidateTopic(settings(c.configs))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.configs, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrInvalid)):
			t.Errorf("%s: %v, want %s", c.configs, err, c.want)
		}
	}
}

func TestTopicIsTieredUnlessThatIsImpossible(t *testing.T) {
	on, off := Defaults(), load(t, map[string]string{"remote.log.storage.system.enable": "false"})
	for _, c := range []struct {
		s       *Settings
		configs string
		want    bool
	}{
		{on, "", true}, {on, "cleanup.policy=compact", false}, {on, "cleanup.policy=compact,delete", false}, {on, "remote.storage.enable=false", false}, {off, "", false},
	} {
		topic, err := c.s.ResolveTopic(settings(c.configs))
		if err != nil || topic.RemoteEnabled != c.want {
			t.Errorf("%q: %v %v", c.configs, topic.RemoteEnabled, err)
		}
	}
	if err := off.ValidateTopic(settings("remote.storage.enable=true")); err == nil || !strings.Contains(err.Error(), "Tiered Storage functionality is disabled in the broker") {
		t.Errorf("without a store: %v", err)
	}
}

func TestTieringIsNotSwitchedOffByAccident(t *testing.T) {
	s := Defaults()
	for _, next := range []string{"remote.storage.enable=false", "cleanup.policy=compact"} {
		if _, err := s.ReplaceTopic(settings(""), settings(next)); err == nil || !strings.Contains(err.Error(), "It is invalid to disable remote storage without deleting remote data") {
			t.Errorf("%s: %v", next, err)
		}
	}
	if _, err := s.ReplaceTopic(settings(""), settings("remote.storage.enable=false remote.log.delete.on.disable=true")); err != nil {
		t.Error(err)
	}
	if _, err := s.CreateTopic(settings("remote.storage.enable=false")); err != nil {
		t.Errorf("a new topic: %v", err)
	}
}

// What takes a topic off the tier is judged by what is in force, so the answer is the same, word for word, whether the
// topic has settings of its own or not.
func TestLeavingTheTierIsRefusedWhateverWasSetBefore(t *testing.T) {
	text := func(s string) *string { return &s }
	s := Defaults()
	for _, before := range []map[string]string{
		nil, {}, settings("retention.ms=-1"), settings("remote.storage.enable=true"), settings("cleanup.policy=delete remote.log.delete.on.disable=false"), settings("newer.setting=1"),
	} {
		for change, want := range map[string]string{
			"cleanup.policy=compact":                                                               "Invalid value compact for configuration cleanup.policy: A compacted topic is not tiered, and this topic is.",
			"cleanup.policy=compact,delete":                                                        "Invalid value compact,delete for configuration cleanup.policy: A compacted topic is not tiered, and this topic is.",
			"cleanup.policy=compact remote.log.delete.on.disable=true":                             "configuration cleanup.policy",
			"cleanup.policy=compact remote.storage.enable=true":                                    "configuration cleanup.policy",
			"cleanup.policy=compact remote.storage.enable=false":                                   "It is invalid to disable remote storage without deleting remote data.",
			"remote.storage.enable=false":                                                          "It is invalid to disable remote storage without deleting remote data.",
			"remote.storage.enable=false remote.log.delete.on.disable=true":                        "",
			"remote.storage.enable=false remote.log.delete.on.disable=true cleanup.policy=compact": "",
			"retention.ms=1000 local.retention.ms=2000":                                            "configuration local.retention.ms",
			"local.retention.ms=604800001 retention.ms=604800000":                                  "configuration local.retention.ms",
		} {
			check := func(api string, err error) {
				t.Helper()
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrInvalid)) {
					t.Errorf("%s of %v to %s: %v, want %s", api, before, change, err, want)
				}
			}
			next := maps.Clone(before)
			if next == nil {
				next = map[string]string{}
			}
			maps.Copy(next, settings(change))
			_, err := s.ReplaceTopic(before, next)
			check("replacing", err)
			var ops []Op
			for name, v := range settings(change) {
				ops = append(ops, Op{name, OpSet, text(v)})
			}
			_, err = s.AlterTopic(before, ops)
			check("altering", err)
		}
	}
	if _, err := s.AlterTopic(nil, []Op{{"cleanup.policy", OpAppend, text("compact")}}); err == nil || !strings.Contains(err.Error(), "configuration cleanup.policy") {
		t.Errorf("appended: %v", err)
	}
	// The topic's own policy keeps it on the tier under brokers that compact by default.
	compacting := load(t, map[string]string{"log.cleanup.policy": "compact"})
	if _, err := compacting.AlterTopic(settings("cleanup.policy=delete"), []Op{{"cleanup.policy", OpDelete, nil}}); err == nil || !strings.Contains(err.Error(), "configuration cleanup.policy") {
		t.Errorf("the policy that is inherited: %v", err)
	}
	if err := s.CheckTopicUnder(compacting, "t", nil); err == nil || !strings.Contains(err.Error(), "log.cleanup.policy") || !strings.Contains(err.Error(), "Topic t ") {
		t.Errorf("another default: %v", err)
	}
	if err := s.CheckTopicUnder(compacting, "t", settings("cleanup.policy=delete")); err != nil {
		t.Errorf("another default, not inherited: %v", err)
	}
}

// A tool that reads all settings and writes them back with AlterConfigs has asked for nothing.
func TestWritingBackWhatWasReadDoesNotPinRemoteStorage(t *testing.T) {
	for _, c := range []struct {
		s      *Settings
		before string
		own    bool
	}{
		{Defaults(), "", false}, {Defaults(), "cleanup.policy=compact", false}, {Defaults(), "remote.storage.enable=true", true},
		{Defaults(), "remote.storage.enable=false", true}, {load(t, map[string]string{"remote.log.storage.system.enable": "false"}), "", false},
	} {
		read := map[string]string{}
		for _, e := range c.s.DescribeTopic(settings(c.before)) {
			read[e.Name] = *e.Value
		}
		next, err := c.s.ReplaceTopic(settings(c.before), read)
		if _, own := next["remote.storage.enable"]; err != nil || own != c.own {
			t.Errorf("%q: %v, remote.storage.enable is the topic's own: %v", c.before, err, own)
		}
	}
	next, err := Defaults().ReplaceTopic(settings("cleanup.policy=compact"), settings("cleanup.policy=delete remote.storage.enable=false"))
	if err != nil || next["remote.storage.enable"] != "false" {
		t.Errorf("what differs from the default was asked for: %v %v", next, err)
	}
}

// A value that cannot be read is no value: it deletes nothing, and takes no other setting away.
func TestStoredSettingsThatCannotBeReadDeleteNothing(t *testing.T) {
	s := Defaults()
	for _, c := range []struct {
		stored string
		holds  func(Topic) bool
	}{
		{"retention.ms=-1 newer.setting=5", func(t Topic) bool { return t.RetentionAge < 0 }},
		{"retention.ms=1000 newer.setting=5", func(t Topic) bool { return t.RetentionAge == time.Second }},
		{"retention.ms=soon", func(t Topic) bool { return t.RetentionAge < 0 && t.RetentionBytes < 0 }},
		{"retention.bytes=all retention.ms=5", func(t Topic) bool { return t.RetentionAge < 0 && t.RetentionBytes < 0 }},
		{"cleanup.policy=remove", func(t Topic) bool { return t.RetentionAge < 0 && !t.Compact }},
		{"delete.protection=perhaps", func(t Topic) bool { return t.DeleteProtection }},
		{"remote.storage.enable=perhaps", func(t Topic) bool { return t.RemoteEnabled }},
	} {
		topic, err := s.ResolveStored(settings(c.stored))
		if !errors.Is(err, ErrInvalid) || !c.holds(topic) {
			t.Errorf("%s: %v, %+v", c.stored, err, topic)
		}
	}
	if _, err := s.ResolveStored(settings("retention.ms=5")); err != nil {
		t.Error(err)
	}
	// It does not keep others from being altered either.
	text := "5"
	if next, err := s.AlterTopic(settings("newer.setting=5"), []Op{{"retention.ms", OpSet, &text}}); err != nil || next["newer.setting"] != "5" {
		t.Errorf("%v %v", next, err)
	}
}

// Under such defaults every topic without settings of its own would be refused.
func TestDefaultsOfTopicsGoTogether(t *testing.T) {
	_, err := Load("", nil, map[string]string{"log.local.retention.ms": "2000", "log.retention.ms": "1000"})
	if err == nil || !strings.Contains(err.Error(), "log.local.retention.ms") || !errors.Is(err, ErrInvalid) {
		t.Errorf("at the start: %v", err)
	}
	text := "1000"
	_, err = load(t, map[string]string{"log.local.retention.ms": "2000"}).AlterBroker(nil, false, []Op{{"log.retention.ms", OpSet, &text}})
	if err == nil || !strings.Contains(err.Error(), "log.local.retention.ms") {
		t.Errorf("while running: %v", err)
	}
}

func TestIncrementalAlter(t *testing.T) {
	text := func(s string) *string { return &s }
	current := settings("retention.ms=1000 cleanup.policy=delete")
	before := maps.Clone(current)
	for _, c := range []struct {
		name string
		ops  []Op
		want string // the new state, or the error
		bad  error
	}{
		{"set and delete", []Op{{"segment.ms", OpSet, text(" 0005 ")}, {"retention.ms", OpDelete, nil}}, "segment.ms=5 cleanup.policy=delete", nil},
		{"append what is there", []Op{{"cleanup.policy", OpAppend, text("delete")}}, "retention.ms=1000 cleanup.policy=delete", nil},
		{"subtract all", []Op{{"cleanup.policy", OpSubtract, text("delete")}}, "retention.ms=1000 cleanup.policy=", nil},
		{"append to a default", []Op{{"leader.replication.throttled.replicas", OpAppend, text("0:1")}}, "retention.ms=1000 cleanup.policy=delete leader.replication.throttled.replicas=0:1", nil},
		{"append to a number", []Op{{"retention.ms", OpAppend, text("1")}}, "its type is not a list", ErrInvalid},
		{"twice", []Op{{"retention.ms", OpSet, text("1")}, {"retention.ms", OpDelete, nil}}, "duplicate config keys", ErrInvalidRequest},
		{"null", []Op{{"retention.ms", OpSet, nil}}, "Null value not supported", ErrInvalidRequest},
		{"no such operation", []Op{{"retention.ms", 9, text("1")}}, "Unknown operation type 9", ErrInvalidRequest},
		{"unknown", []Op{{"x", OpSet, text("1")}}, "Unknown topic config name: x", ErrInvalid},
		{"delete unknown", []Op{{"x", OpDelete, nil}}, "retention.ms=1000 cleanup.policy=delete", nil},
		{"breaks a rule", []Op{{"local.retention.ms", OpSet, text("2000")}}, "Value must not be more than property: retention.ms", ErrInvalid},
	} {
		got, err := Defaults().AlterTopic(current, c.ops)
		switch {
		case c.bad != nil:
			if err == nil || !errors.Is(err, c.bad) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		default:
			if d := cmp.Diff(settings(c.want), got); d != "" {
				t.Errorf("%s: %s", c.name, d)
			}
		}
	}
	if d := cmp.Diff(before, current); d != "" {
		t.Errorf("the current state was changed: %s", d)
	}
}

func TestAlterBroker(t *testing.T) {
	text := func(s string) *string { return &s }
	s := load(t, map[string]string{"remote.cache.bytes": "67108864"})
	got, err := s.AlterBroker(settings("log.index.interval.bytes=5"), false, []Op{{"log.retention.ms", OpSet, text("1000")}})
	if err != nil || !cmp.Equal(got, settings("log.index.interval.bytes=5 log.retention.ms=1000")) {
		t.Errorf("%v %v", got, err)
	}
	for name, want := range map[string]string{
		"node.id": "Cannot update these configs dynamically: Set(node.id)", "nope": "unknown setting nope", "log.retention.ms": "Value must be unlimited (-1) or, equal or greater than 1",
	} {
		if _, err := s.AlterBroker(nil, true, []Op{{name, OpSet, text("0")}}); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What an older version stored is kept as long as nobody touches it.
	if got, err := s.ReplaceBroker(settings("gone=1"), settings("gone=1 log.index.interval.bytes=7"), false); err != nil || got["gone"] != "1" {
		t.Errorf("%v %v", got, err)
	}
}

func TestDescribeShowsTheWholeChain(t *testing.T) {
	s := load(t, map[string]string{"log.retention.minutes": "10"})
	s, err := s.With(settings("log.retention.ms=700000"), settings("log.retention.ms=800000"))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(all []Entry, name string) Entry {
		for _, e := range all {
			if e.Name == name {
				return e
			}
		}
		t.Fatalf("%s is not described", name)
		return Entry{}
	}
	chain := func(e Entry) string {
		var parts []string
		for _, y := range e.Synonyms {
			parts = append(parts, y.Name+"="+*y.Value+"("+y.Source.String()+")")
		}
		return strings.Join(parts, " ")
	}
	e := entry(s.DescribeTopic(settings("retention.ms=5")), "retention.ms")
	want := "retention.ms=5(topic) log.retention.ms=800000(dynamic, this broker) log.retention.ms=700000(dynamic, cluster-wide) log.retention.minutes=10(configuration) log.retention.hours=168(default)"
	if *e.Value != "5" || e.Source != SourceTopic || chain(e) != want || e.ReadOnly || e.Doc == "" {
		t.Errorf("%+v\n%s", e, chain(e))
	}
	if e := entry(load(t, map[string]string{"log.retention.minutes": "10"}).DescribeTopic(nil), "retention.ms"); *e.Value != "600000" || e.Source != SourceStaticBroker {
		t.Errorf("in the topic's unit: %+v", e)
	}
	if e := entry(s.DescribeTopic(settings("cleanup.policy=compact")), "remote.storage.enable"); *e.Value != "false" || e.Source != SourceDefault {
		t.Errorf("%+v", e)
	}
	e = entry(s.DescribeBroker(), "log.retention.ms")
	if *e.Value != "800000" || e.Source != SourceBroker || e.ReadOnly || len(e.Synonyms) != 4 {
		t.Errorf("%+v", e)
	}
	if e := entry(s.DescribeBroker(), "node.id"); !e.ReadOnly || e.Source != SourceDefault || *e.Value != "1" {
		t.Errorf("%+v", e)
	}
	if e := entry(s.DescribeBroker(), "broker.rack"); e.Value != nil {
		t.Errorf("null is %q", *e.Value)
	}
	d := s.DescribeDefaultBroker()
	if len(d) != 1 || *d[0].Value != "700000" || d[0].Source != SourceDefaultBroker {
		t.Errorf("%+v", d)
	}
	for _, e := range s.DescribeTopic(nil) {
		if e.Name == "internal.segment.bytes" {
			t.Error("an internal setting is described")
		}
	}
}

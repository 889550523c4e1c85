package config

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, flags map[string]string) *Settings {
	t.Helper()
	s, err := Load("", nil, flags)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaultsAreValid(t *testing.T) {
	b := Defaults().Broker()
	if got, want := b.Listeners, []Listener{{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "127.0.0.1", Port: 9092}}; !cmp.Equal(got, want) {
		t.Errorf("listeners: %s", cmp.Diff(want, got))
	}
	if !cmp.Equal(b.Listeners, b.AdvertisedListeners) {
		t.Errorf("advertised %v", b.AdvertisedListeners)
	}
	if !strings.HasPrefix(b.Remote.StoreURL, "file:///") || !strings.HasSuffix(b.Remote.StoreURL, "/coldbrook-data/objects") {
		t.Errorf("store %q", b.Remote.StoreURL)
	}
	topic, err := Defaults().ResolveTopic(nil)
	if err != nil {
		t.Fatal(err)
	}
	week := 7 * 24 * time.Hour
	want := Topic{
		Delete: true, CompressionType: "producer", CompressionGzip: -1, CompressionLZ4: 9, CompressionZstd: 3, MaxMessageBytes: 1048588,
		TimestampBefore: math.MaxInt64, TimestampAfter: time.Hour, MinInSyncReplicas: 1,
		SegmentBytes: 1 << 30, SegmentAge: week, SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096,
		FlushMessages: 1, FlushInterval: math.MaxInt64, FileDeleteDelay: time.Minute,
		RetentionBytes: -1, RetentionAge: week, LocalRetentionBytes: -1, LocalRetentionAge: week,
		DeleteRetention: 24 * time.Hour, MaxCompactionLag: math.MaxInt64, MinCleanableRatio: 0.5,
		RemoteEnabled: true, RemoteCopyLagBytes: -1, RemoteCopyMaxAge: time.Hour,
	}
	if d := cmp.Diff(want, topic); d != "" {
		t.Errorf("topic defaults (-want +got):\n%s", d)
	}
}

func TestTopicFallsThroughToBroker(t *testing.T) {
	s := load(t, map[string]string{"log.retention.hours": "2", "log.roll.hours": "3", "log.segment.bytes": "2097152", "log.flush.scheduler.interval.ms": "50"})
	resolve := func(s *Settings, o map[string]string) Topic {
		topic, err := s.ResolveTopic(o)
		if err != nil {
			t.Fatal(err)
		}
		return topic
	}
	topic := resolve(s, nil)
	if topic.RetentionAge != 2*time.Hour || topic.SegmentAge != 3*time.Hour || topic.SegmentBytes != 2<<20 || topic.FlushInterval != 50*time.Millisecond {
		t.Errorf("from the file: %+v", topic)
	}
	s2, err := s.With(map[string]string{"log.retention.ms": "60000"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := resolve(s2, nil).RetentionAge; got != time.Minute {
		t.Errorf("cluster-wide: %v", got)
	}
	if got := resolve(s, nil).RetentionAge; got != 2*time.Hour {
		t.Errorf("With changed its receiver: %v", got)
	}
	s3, err := s2.With(map[string]string{"log.retention.ms": "60000"}, map[string]string{"log.retention.ms": "-1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := resolve(s3, nil).RetentionAge; got >= 0 {
		t.Errorf("this broker's: %v", got)
	}
	if got := resolve(s3, map[string]string{"retention.ms": "5"}).RetentionAge; got != 5*time.Millisecond {
		t.Errorf("the topic's own: %v", got)
	}
}

func TestBadDynamicEntryDoesNotTakeTheOthersAway(t *testing.T) {
	s, err := Defaults().With(map[string]string{"log.retention.ms": "7", "from.the.future": "1", "node.id": "9", "log.segment.bytes": "x"}, nil)
	if err == nil || !errors.Is(err, ErrInvalid) {
		t.Fatalf("err = %v", err)
	}
	if v, _ := s.Get("log.retention.ms"); v != "7" {
		t.Errorf("log.retention.ms = %q", v)
	}
	if s.Broker().NodeID != 1 {
		t.Errorf("a read-only setting was changed")
	}
}

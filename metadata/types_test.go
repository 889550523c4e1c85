package metadata

import (
	"errors"
	"strings"
	"testing"
)

func TestTopicIDTextIsKafkas(t *testing.T) {
	for range 1000 {
		id := NewTopicID()
		text := id.String()
		got, err := ParseTopicID(text)
		if err != nil || got != id || len(text) != 22 || text[0] == '-' || id.IsZero() {
			t.Fatalf("id %v as %q reads back as %v, %v", [16]byte(id), text, got, err)
		}
	}
	// org.apache.kafka.common.Uuid.toString of (1, 2).
	want := TopicID{7: 1, 15: 2}
	if got, err := ParseTopicID("AAAAAAAAAAEAAAAAAAAAAg"); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
}

func FuzzParseTopicID(f *testing.F) {
	f.Add("AAAAAAAAAAEAAAAAAAAAAg")
	f.Add("AAAAAAAAAAEAAAAAAAAAAh") // bits that are not of the id
	f.Add("AAAAAAAAAA/AAAAAAAAAAg")
	f.Add(strings.Repeat("A", 1000))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseTopicID(s)
		switch {
		case err == nil && id.String() != s:
			t.Errorf("%q was read as %q", s, id)
		case err != nil && !errors.Is(err, ErrInvalidTopicID):
			t.Errorf("got %v, want ErrInvalidTopicID", err)
		}
	})
}

func TestTopicNamesFollowKafkasRules(t *testing.T) {
	for _, name := range []string{"a", "A.b_c-9", "...", "__consumer_offsets", strings.Repeat("x", 249)} {
		if err := ValidTopicName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a b", "a/b", "ä", "a\n", strings.Repeat("x", 250)} {
		if err := ValidTopicName(name); !errors.Is(err, ErrInvalidTopicName) {
			t.Errorf("%q: got %v, want ErrInvalidTopicName", name, err)
		}
	}
}

func TestPartitionNamesAreDirectoryNames(t *testing.T) {
	if got := (TopicPartition{"a-b", 12}).String(); got != "a-b-12" {
		t.Errorf("got %q", got)
	}
}

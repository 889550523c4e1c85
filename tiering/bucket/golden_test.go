package bucket

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
)

// readGolden reads a file of testdata/v1, none of which is ever rewritten.
func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTopicFileOfVersion1IsReadForEver: the file is never rewritten.
func TestTopicFileOfVersion1IsReadForEver(t *testing.T) {
	topic, err := DecodeTopicFile(readGolden(t, "topic.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := &TopicFile{Topic: "orders", TopicID: testTip.Topic, Partitions: 3, Created: time.UnixMilli(1_700_000_000_000).UTC(), Configs: map[string]string{"retention.ms": "1"}}
	if diff := cmp.Diff(want, topic); diff != "" {
		t.Errorf("topic (-want +got):\n%s", diff)
	}
}

var testTip = metadata.TopicIDPartition{Topic: metadata.TopicID{1, 2, 3}, Partition: 4}

package tiering

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

func goldenNode() *manifest.Node {
	n := &manifest.Node{TopicID: testTip.Topic, Partition: testTip.Partition, Level: 1}
	for i := range int64(3) {
		e := testEntry(i * 10)
		e.Object = "0000000000000000000" + string(rune('0'+i)) + "-0-01234567-89ab-cdef-0123-456789abcdef"
		e.Aborted = i == 1
		n.Entries = append(n.Entries, e)
	}
	return n
}

func goldenRoot(ref manifest.Ref) *manifest.Root {
	r := manifest.NewRoot("orders", testTip, 10)
	r.LeaderEpoch, r.Sequence, r.Previous, r.Created = 7, 12, manifest.RootName(6, 11), 1_700_000_000_000
	r.Refs, r.Trimmed = []manifest.Ref{ref}, manifest.Trimmed{Segments: 1, Bytes: 100}
	tail := testEntry(30)
	tail.Object = "topics/other.AQIDAAAAAAAAAAAAAAAAAA/0/segments/00000000000000000030-2-76543210-89ab-cdef-0123-456789abcdef"
	r.Tail = []manifest.Entry{tail}
	r.Epochs = manifest.Lineage{{Epoch: 0, StartOffset: 0}}
	r.StartOffset, r.EndOffset, r.LogStartOffset, r.Bytes, r.Segments = 10, 40, 15, 300, 3
	r.Garbage = []manifest.Garbage{
		{NotBefore: 1, Segments: []string{"a"}}, {NotBefore: 2, Nodes: []string{"leaf-b"}},
		{NotBefore: 3, Leaf: &manifest.DeadRange{Ref: ref, From: 0, To: 10}}, {NotBefore: 4, Roots: &manifest.DeadRoots{LeaderEpoch: 6, From: 10, To: 12}},
	}
	return r
}

// readGolden reads a file of testdata/v1, none of which is ever rewritten.
func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var testTip = metadata.TopicIDPartition{Topic: metadata.TopicID{1, 2, 3}, Partition: 4}

// testEntry has 10 offsets, 100 bytes and a timestamp equal to its last offset.
func testEntry(base int64) manifest.Entry {
	return manifest.Entry{
		BaseOffset: base, LastOffset: base + 9, MaxTimestamp: base + 9, MaxTimestampOffset: base + 9, Bytes: 100, CRC32C: manifest.CRC(base),
		IndexBytes: 50, IndexHead: 40, Epochs: manifest.Lineage{{Epoch: int32(base / 100000), StartOffset: base}},
		Created: 1, Object: manifest.NewStem(base, 0),
	}
}

package manifest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func goldenNode() *Node {
	n := &Node{TopicID: testTip.Topic, Partition: testTip.Partition, Level: 1}
	for i := range int64(3) {
		e := testEntry(i * 10)
		e.Object = "0000000000000000000" + string(rune('0'+i)) + "-0-01234567-89ab-cdef-0123-456789abcdef"
		e.Aborted = i == 1
		n.Entries = append(n.Entries, e)
	}
	return n
}

func goldenRoot(ref Ref) *Root {
	r := NewRoot("orders", testTip, 10)
	r.LeaderEpoch, r.Sequence, r.Previous, r.Created = 7, 12, RootName(6, 11), 1_700_000_000_000
	r.Refs, r.Trimmed = []Ref{ref}, Trimmed{Segments: 1, Bytes: 100}
	tail := testEntry(30)
	tail.Object = "topics/other.AQIDAAAAAAAAAAAAAAAAAA/0/segments/00000000000000000030-2-76543210-89ab-cdef-0123-456789abcdef"
	r.Tail = []Entry{tail}
	r.Epochs = Lineage{{Epoch: 0, StartOffset: 0}}
	r.StartOffset, r.EndOffset, r.LogStartOffset, r.Bytes, r.Segments = 10, 40, 15, 300, 3
	r.Garbage = []Garbage{
		{NotBefore: 1, Segments: []string{"a"}}, {NotBefore: 2, Nodes: []string{"leaf-b"}},
		{NotBefore: 3, Leaf: &DeadRange{Ref: ref, From: 0, To: 10}}, {NotBefore: 4, Roots: &DeadRoots{LeaderEpoch: 6, From: 10, To: 12}},
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

// TestManifestsOfVersion1AreReadForEver: the files under testdata/v1 are never rewritten.
func TestManifestsOfVersion1AreReadForEver(t *testing.T) {
	_, ref, err := goldenNode().Encode("leaf-golden")
	if err != nil {
		t.Fatal(err)
	}
	node, err := DecodeNode(readGolden(t, "node.json"), ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goldenNode(), node); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
	root, err := DecodeRoot(readGolden(t, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goldenRoot(ref), root); diff != "" {
		t.Errorf("root (-want +got):\n%s", diff)
	}
}

package index

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// TestIndexOfVersion1IsReadForEver: the file is never rewritten.
func TestIndexOfVersion1IsReadForEver(t *testing.T) {
	index, err := Decode(readGolden(t, "segment.idx"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(testIndex(), index); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
}

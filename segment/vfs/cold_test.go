//go:build linux

package vfs

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestColdRangesAreThoseThatNobodyHasRead(t *testing.T) {
	const size = 1<<20 + 1000
	f, err := NewOS().Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{1}, size), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if cold := ColdRanges(f, 0, size); cold != nil {
		t.Fatalf("cold right after the write: %v", cold)
	}
	DropCache(f, 0, size)
	if diff := cmp.Diff([]Range{{Off: 0, Len: size}}, ColdRanges(f, 0, size)); diff != "" {
		t.Skipf("this file system keeps its pages (-want +got):\n%s", diff)
	}
	if _, err := f.ReadAt(make([]byte, 10), 512<<10); err != nil {
		t.Fatal(err)
	}
	cold := ColdRanges(f, 0, size)
	if len(cold) == 0 || cold[0].Off != 0 || cold[0].Len > 512<<10 {
		t.Errorf("a page in the middle was read, cold are %v", cold)
	}
	for _, r := range cold {
		if r.Off <= 512<<10 && 512<<10 < r.Off+r.Len {
			t.Errorf("the page that was read is in the cold range %v", r)
		}
	}
	m, err := NewMem().Create("f")
	if err != nil {
		t.Fatal(err)
	}
	if cold := ColdRanges(m, 0, size); cold != nil {
		t.Errorf("of a file in memory: %v", cold)
	}
}

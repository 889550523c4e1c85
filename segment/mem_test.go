package segment

import (
	"runtime"
	"testing"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestIdleLogsAreSmall: memory and descriptors do not grow with partitions at rest.
func TestIdleLogsAreSmall(t *testing.T) {
	const n = 500
	path := t.TempDir()
	fill := func(d *Dir) {
		for i := range n {
			l, err := d.OpenLog(LogOptions{TopicPartition: metadata.TopicPartition{Topic: "t", Partition: int32(i)}})
			if err != nil {
				t.Fatal(err)
			}
			if l.LogEnd() == 0 {
				mustAppend(t, l, 0, plain(1, "a"))
			}
		}
	}
	open := func() *Dir {
		d, err := OpenDir(DirOptions{FS: vfs.NewOS(), Path: path, OpenFiles: 16})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	fill(d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC() // pools of the tests before give up what they hold at the second one
	runtime.GC()
	runtime.ReadMemStats(&before)
	d = open()
	fill(d)
	runtime.GC()
	runtime.ReadMemStats(&after)
	got := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("%d bytes per log", got)
	if got > 16<<10 {
		t.Errorf("%d bytes per idle log", got)
	}
	d.files.mu.Lock()
	files := d.files.open.Len()
	d.files.mu.Unlock()
	if files > 16 {
		t.Errorf("%d files open", files)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

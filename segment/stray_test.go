package segment

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestStrayDirectoryIsPutAside: a directory of another topic of the same name makes
// room for the new one, keeps its records under another name, and no start takes it
// for a partition again.
func TestStrayDirectoryIsPutAside(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	mustAppend(t, openLog(t, d, Config{}), 2, plain(1, "a"))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, mem)
	other := testID
	other[0]++
	open := LogOptions{TopicPartition: testTP, TopicID: other}
	if epoch, err := d.StrayEpoch(testTP); err != nil || epoch != 2 {
		t.Errorf("epoch %d, %v, want 2", epoch, err)
	}
	paths, err := d.SetAside([]metadata.TopicPartition{testTP})
	if err != nil || len(paths) != 1 {
		t.Fatalf("put aside: %v, %v", paths, err)
	}
	l, err := d.OpenLog(open)
	if err != nil || l.LogEnd() != 0 {
		t.Fatalf("the new topic's log: %v, end %d", err, l.LogEnd())
	}
	if len(d.Partitions()) != 0 {
		t.Errorf("still found: %v", d.Partitions())
	}
	if _, err := d.SetAside([]metadata.TopicPartition{testTP}); err == nil {
		t.Error("an open log was put aside")
	}
	again := openDir(t, crashed(mem))
	if found := again.Partitions(); len(found) != 1 || found[0].TopicID != other {
		t.Errorf("after a crash: %+v", found)
	}
	if names, err := mem.List(paths[0]); err != nil || !strings.Contains(join(names), logSuffix) || !strings.HasSuffix(paths[0], strayDirSuffix) {
		t.Errorf("%s holds %v, %v", paths[0], names, err)
	}
}

// TestStrayDirectoryIsDeletedUnread: whatever its files are like.
func TestStrayDirectoryIsDeletedUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		d := openDir(t, mem)
		mustAppend(t, openLog(t, d, Config{}), 0, plain(1, "a"))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := mem.Remove("/data/orders-3/" + fileName(0, logSuffix)); err != nil {
			t.Fatal(err)
		}
		d = openDir(t, mem)
		stop := running(t, d)
		defer stop()
		if err := d.DeleteStrays([]metadata.TopicPartition{testTP}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		names, _ := mem.List("/data")
		if strings.Contains(join(names), "orders") || len(d.Partitions()) != 0 {
			t.Errorf("left: %v, %v", names, d.Partitions())
		}
	})
}

// TestPuttingAsideCanBeTriedAgain: a directory that got its new name, which could not
// be made durable for want of descriptors, is not missed by the next try.
func TestPuttingAsideCanBeTriedAgain(t *testing.T) {
	for name, evict := range map[string]func(*Dir) error{
		"aside":  func(d *Dir) error { _, err := d.SetAside([]metadata.TopicPartition{testTP}); return err },
		"delete": func(d *Dir) error { return d.DeleteStrays([]metadata.TopicPartition{testTP}) },
	} {
		mem := vfs.NewMem()
		d := openDir(t, mem)
		mustAppend(t, openLog(t, d, Config{}), 0, plain(1, "a"))
		noError(t, d.Close())
		var on atomic.Bool
		d = openDir(t, vfs.WithFaults(mem, failing(&on, syscall.EMFILE, func(op vfs.Op) bool { return op.Kind == vfs.OpSyncDir })))
		on.Store(true)
		if err := evict(d); !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("%s: %v", name, err)
		}
		on.Store(false)
		noError(t, evict(d))
		noError(t, d.Offline())
		if len(d.Partitions()) != 0 {
			t.Errorf("%s: still found: %v", name, d.Partitions())
		}
	}
}

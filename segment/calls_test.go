package segment

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// recorder lists the calls of the file system.
type recorder struct {
	mu    sync.Mutex
	calls []string
}

func (r *recorder) before(op vfs.Op) error {
	name, err := filepath.Rel("/data/orders-3", op.Path)
	if err != nil {
		return err
	}
	call := fmt.Sprintf("%v %s", op.Kind, name)
	switch op.Kind {
	case vfs.OpWrite, vfs.OpRead:
		call += fmt.Sprintf(" %d+%d", op.Off, op.Len)
	case vfs.OpTruncate:
		call += fmt.Sprintf(" %d", op.Off)
	}
	r.mu.Lock()
	r.calls = append(r.calls, call)
	r.mu.Unlock()
	return nil
}

func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.calls, "\n")
	r.calls = nil
	return s
}

// TestFileSystemCalls pins what is asked of the disk and in which order: a missing
// sync of a file or of a directory shows up here.
func TestFileSystemCalls(t *testing.T) {
	mem := vfs.NewMem()
	r := &recorder{}
	fs := vfs.WithFaults(mem, r.before)
	expect := func(what, want string) {
		t.Helper()
		if diff := cmp.Diff(strings.Split(strings.TrimSpace(want), "\n"), strings.Split(r.take(), "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(t, fs)
	expect("open an empty directory", callsOpenEmpty)
	l := openLog(t, d, Config{IndexIntervalBytes: 1})
	expect("create a log", callsCreate)
	mustAppend(t, l, 0, plain(1000, "a"))
	must(l.Sync())
	expect("first append and flush", callsFirstAppend)
	mustAppend(t, l, 0, plain(1000, "b"))
	must(l.Sync())
	expect("append and flush", callsAppend)
	must(l.Roll())
	expect("roll", callsRoll)
	mustAppend(t, l, 0, plain(1000, "c"))
	must(l.Sync())
	r.take()
	must(d.Checkpoint())
	expect("checkpoint", callsCheckpoint)
	must(d.Checkpoint())
	expect("checkpoint of an idle directory", "")
	l.SetHighWatermark(2)
	must(l.SetLogStart(2))
	expect("remove a segment", callsRemove)
	must(d.Close())
	expect("close", callsClose)
	d = openDir(t, fs)
	expect("open a directory that was closed", callsOpenClean)
	openLog(t, d, Config{IndexIntervalBytes: 1})
	expect("open a log that was closed", callsOpenLogClean)
	must(d.Close())
	expect("close without a change", callsCloseIdle)
}

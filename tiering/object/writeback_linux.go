package object

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback lets the kernel begin to write what was just copied, so that the sync at the end
// of a large upload does not push a gigabyte at once past the log's own small syncs.
func startWriteback(f *os.File, off, n int64) {
	// Advice only: the sync that follows reports whatever goes wrong.
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

package object

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback lets the kernel begin to write what was just copied, so that the sync at the end
// of a large upload does not push a gigabyte at once past the log's own small syncs.
func startWriteback(f *os.File, off, n int64) {
	// Advice only: the sync that follows reports whatever goes wrong.
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// renameAbsent gives a file a name that must be free. Where the file system knows no such rename, a second name does
// it, and the first goes with whoever made it: not all file systems have second names either.
func renameAbsent(temp, name string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) {
		return os.Link(temp, name)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: temp, New: name, Err: err}
	}
	return nil
}

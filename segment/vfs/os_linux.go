package vfs

import "golang.org/x/sys/unix"

func fdatasync(fd int) error { return unix.Fdatasync(fd) }

func fallocate(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// DropCache tells the kernel that the bytes will not be needed again soon, so
// that reading them evicts nothing hotter. It does nothing where that is not
// supported. Bytes not yet written back stay.
func DropCache(f File, off, n int64) { advise(f, off, n, unix.FADV_DONTNEED) }

// Prefetch tells the kernel that the bytes will be read soon. It does not wait
// and does nothing where that is not supported.
func Prefetch(f File, off, n int64) { advise(f, off, n, unix.FADV_WILLNEED) }

func advise(f File, off, n int64, advice int) {
	o := asOS(f)
	if o == nil || n <= 0 {
		return
	}
	// Advice: when the kernel does not take it, nothing is lost.
	_ = o.control(func(fd int) error { return unix.Fadvise(fd, off, n, advice) })
}

// StartWriteback asks the kernel to start writing the dirty bytes of the range
// to disk without waiting, so that the next Sync finds less to do. It promises
// nothing and does nothing where that is not supported.
func StartWriteback(f File, off, n int64) {
	o := asOS(f)
	if o == nil || n <= 0 {
		return
	}
	// An error shows again, and is handled, in Sync.
	_ = o.control(func(fd int) error {
		return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

// WaitWriteback has the kernel write the dirty bytes of the range to disk and waits for it, so that DropCache can
// drop them. Unlike Sync it makes nothing durable and does not bother the file system's journal. It promises
// nothing and does nothing where that is not supported.
func WaitWriteback(f File, off, n int64) {
	o := asOS(f)
	if o == nil || n <= 0 {
		return
	}
	// An error is met again by who reads what is not there.
	_ = o.control(func(fd int) error {
		return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	})
}

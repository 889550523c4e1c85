//go:build unix && !linux

package vfs

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func fdatasync(fd int) error { return unix.Fsync(fd) }

func fallocate(int, int64, int64) error { return unix.EOPNOTSUPP }

// DropCache does nothing on this system.
func DropCache(File, int64, int64) {}

// Prefetch does nothing on this system.
func Prefetch(File, int64, int64) {}

// StartWriteback does nothing on this system.
func StartWriteback(File, int64, int64) {}

// WaitWriteback does nothing on this system.
func WaitWriteback(File, int64, int64) {}

func sendFile(syscall.Conn, *osFile, int64, int64) (int64, bool, error) {
	return 0, false, nil
}

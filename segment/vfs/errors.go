package vfs

import (
	"fmt"
	"syscall"
)

// SyncError is the failure of a Sync or of a SyncDir. It never heals, whatever
// its cause: the kernel may have dropped what it could not write.
type SyncError struct {
	Path string
	Err  error
}

// Error names the file.
func (e *SyncError) Error() string { return fmt.Sprintf("sync %s: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *SyncError) Unwrap() error { return e.Err }

// SyncNames is FS.SyncDir with its error judged: a directory that could not be
// opened for want of descriptors was not synced and can be later, any other
// failure is a [SyncError].
func SyncNames(fs FS, dir string) error {
	err := fs.SyncDir(dir)
	switch e := err.(type) {
	case nil:
		return nil
	case *SyncError:
		return e
	}
	if Heals(err) && !fullDisk(err) {
		return fmt.Errorf("open directory %s to sync it: %w", dir, err)
	}
	return &SyncError{Path: dir, Err: err}
}

// Heals reports whether the call that failed with err may work later without
// anything being wrong with the disk: it, or a quota, was full, or the process or
// the system had no descriptor left. An error made of several heals only if each
// of them does.
func Heals(err error) bool { return every(err, healing) }

func healing(e syscall.Errno) bool {
	return e == syscall.EMFILE || e == syscall.ENFILE || noSpace(e)
}

func noSpace(e syscall.Errno) bool { return e == syscall.ENOSPC || e == syscall.EDQUOT }

// fullDisk reports whether err says nothing but that a disk or a quota is full.
func fullDisk(err error) bool { return every(err, noSpace) }

// every reports whether all errors that err was made of are system errors that ok
// accepts. [errors.Is] would be content with one of them.
func every(err error, ok func(syscall.Errno) bool) bool {
	switch e := err.(type) {
	case syscall.Errno:
		return ok(e)
	case *SyncError:
		return false
	case interface{ Unwrap() []error }:
		all := e.Unwrap()
		for _, one := range all {
			if !every(one, ok) {
				return false
			}
		}
		return len(all) > 0
	case interface{ Unwrap() error }:
		return every(e.Unwrap(), ok)
	}
	return false
}

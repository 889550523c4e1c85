// Package vfs is the only door to the file system. It hides what a disk does
// behind one small interface with two implementations, the operating system's
// and memory, which pass the same contract test.
//
// The memory file system knows what a disk forgets in a power loss: blocks of
// [BlockSize] bytes, file sizes and directory entries become durable only when
// [File.Sync] and [FS.SyncDir] say so, and [Mem.Crash] returns a state that a
// real disk may be in after the lights went out. Two wrappers work over both:
// [WithFaults] makes operations fail on purpose and [WithWatch] reports a disk
// that is stuck while it is stuck.
//
// Rules for users:
//   - A file's bytes are durable after Sync returned nil, its name after a
//     SyncDir of its directory returned nil. Both are needed.
//   - A failed Sync is final: the kernel may have dropped the pages. Never call
//     it again on the same file and believe the answer.
//   - Whether another try may work is judged by [Heals], with the error of one
//     call as it came from it.
//   - Files other than segments change only by [WriteFileAtomic].
package vfs

import (
	"errors"
	"io"
	"syscall"
	"time"
)

// BlockSize is the unit in which [Mem] keeps or loses unsynced data.
const BlockSize = 4096

var (
	// ErrLocked is returned by [FS.Lock] when somebody else holds the lock.
	ErrLocked = errors.New("locked by another process")
	// ErrTooLarge is returned by [ReadFile] for a file above the caller's limit.
	ErrTooLarge = errors.New("file too large")
	// ErrNoSpace matches the error of an operation that found the disk full, in
	// every implementation.
	ErrNoSpace error = syscall.ENOSPC
)

// FS is a file system. Names are slash separated paths. All methods are safe
// for concurrent use. Errors wrap [io/fs.ErrNotExist] and the other io/fs
// sentinels where these apply.
type FS interface {
	// Create opens name for reading and writing, and empties it if it exists.
	// The directory must exist.
	Create(name string) (File, error)
	// Open opens an existing file for reading only.
	Open(name string) (File, error)
	// OpenReadWrite opens name for reading and writing, creates it if it is
	// missing and keeps what it holds otherwise.
	OpenReadWrite(name string) (File, error)
	// OpenExisting opens an existing file for reading and writing.
	OpenExisting(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes name and everything below it. A missing name is no error.
	RemoveAll(name string) error
	// Rename replaces newName by oldName atomically. It is durable after SyncDir
	// of the directories of both.
	Rename(oldName, newName string) error
	// MkdirAll creates dir and its parents where they are missing.
	MkdirAll(dir string) error
	// List returns the base names of the entries of dir, sorted.
	List(dir string) ([]string, error)
	// Stat describes name.
	Stat(name string) (Info, error)
	// SyncDir makes the entries of dir durable: creations, removals, renames.
	SyncDir(dir string) error
	// Lock takes the lock of the file name, which it creates, until the Closer is
	// closed or the process ends. It does not wait: it returns ErrLocked.
	Lock(name string) (io.Closer, error)
	// Usage returns how large and how full the disk under dir is.
	Usage(dir string) (Usage, error)
}

// File is an open file. ReadAt and WriteAt are safe for concurrent use with each
// other and with Sync; Close must be the last call.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate sets the size: it cuts, or extends with zeros.
	Truncate(size int64) error
	// Sync makes the data and the size durable (fdatasync), but not the name.
	Sync() error
	// Preallocate reserves space for n bytes from off without changing the size.
	// It does nothing where the file system cannot do it.
	Preallocate(off, n int64) error
	// Size returns the size in bytes.
	Size() (int64, error)
	// Name returns the name the file was opened by.
	Name() string
}

// Info describes a file or a directory.
type Info struct {
	Size    int64
	IsDir   bool
	ModTime time.Time
}

// Usage is the space of a disk in bytes. Free is what an ordinary user may still
// write.
type Usage struct {
	Total, Free uint64
}

package vfs

import (
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Mem is a file system in memory that knows what a power loss would take from
// it. It is cheap (a file is a list of blocks; Sync costs what changed) and safe
// in a testing/synctest bubble: no lock is held while anything waits.
//
// Lock order: Mem.mu, then memFile.mu.
type Mem struct {
	ops  atomic.Int64
	disk *memDisk

	mu    sync.Mutex
	root  *memDir
	locks map[*memFile]bool
	seq   uint64 // of the last metadata operation
}

// NewMem returns an empty file system of unlimited capacity.
func NewMem() *Mem {
	return &Mem{disk: &memDisk{}, root: newMemDir(), locks: map[*memFile]bool{}}
}

// memDisk counts the blocks in use.
type memDisk struct {
	used     atomic.Int64 // bytes
	capacity atomic.Int64 // bytes, 0 = unlimited
}

// take reserves one block and reports whether there was room.
func (d *memDisk) take() bool {
	for {
		used, limit := d.used.Load(), d.capacity.Load()
		if limit > 0 && used+BlockSize > limit {
			return false
		}
		if d.used.CompareAndSwap(used, used+BlockSize) {
			return true
		}
	}
}

func (d *memDisk) give(blocks int64) { d.used.Add(-blocks * BlockSize) }

// memNode is a *memDir or a *memFile.
type memNode interface{ info() Info }

// Ops returns how many operations that change something, or make a change
// durable, were called so far: the N of [Op].
func (m *Mem) Ops() int64 { return m.ops.Load() }

// SetCapacity makes operations that need more than so many bytes of blocks in
// total fail with ErrNoSpace. 0 means unlimited.
func (m *Mem) SetCapacity(bytes int64) { m.disk.capacity.Store(bytes) }

// Used returns the bytes of all blocks in use, as Usage counts them.
func (m *Mem) Used() int64 { return m.disk.used.Load() }

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// split returns the path's elements, none for the root.
func split(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

// dirLocked returns the directory with these path elements.
func (m *Mem) dirLocked(path []string) (*memDir, error) {
	d := m.root
	for _, name := range path {
		switch n := d.entries[name].(type) {
		case nil:
			return nil, syscall.ENOENT
		case *memDir:
			d = n
		default:
			return nil, syscall.ENOTDIR
		}
	}
	return d, nil
}

// parentLocked returns the directory that holds, or would hold, name, and its
// base name.
func (m *Mem) parentLocked(name string) (*memDir, string, error) {
	path := split(name)
	if len(path) == 0 {
		return nil, "", syscall.EINVAL
	}
	last := len(path) - 1
	d, err := m.dirLocked(path[:last])
	return d, path[last], err
}

func (m *Mem) nextLocked() uint64 {
	m.seq++
	return m.seq
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	return m.open(name, openMode{write: true, create: true, empty: true})
}

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) {
	return m.open(name, openMode{write: true, create: true})
}

// OpenExisting implements FS.
func (m *Mem) OpenExisting(name string) (File, error) { return m.open(name, openMode{write: true}) }

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, openMode{}) }

type openMode struct{ write, create, empty bool }

func (m *Mem) open(name string, mode openMode) (File, error) {
	if mode.write {
		m.ops.Add(1)
	}
	m.mu.Lock()
	f, err := m.openLocked(name, mode.create)
	m.mu.Unlock()
	if err != nil {
		return nil, pathError("open", name, err)
	}
	h := &memHandle{fs: m, file: f, name: name, readOnly: !mode.write}
	if mode.empty {
		f.truncate(0)
	}
	return h, nil
}

func (m *Mem) openLocked(name string, create bool) (*memFile, error) {
	dir, base, err := m.parentLocked(name)
	if err != nil {
		return nil, err
	}
	switch n := dir.entries[base].(type) {
	case *memFile:
		n.hold()
		return n, nil
	case nil:
		if !create {
			return nil, syscall.ENOENT
		}
		f := newMemFile(m.disk)
		f.hold() // by its name
		f.hold() // by the handle
		dir.changeLocked(m.nextLocked(), base, f)
		return f, nil
	default:
		return nil, syscall.EISDIR
	}
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dirLocked(split(dir))
	if err != nil {
		return nil, pathError("open", dir, err)
	}
	return sortedNames(d.entries), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(split(name)) == 0 {
		return m.root.info(), nil
	}
	dir, base, err := m.parentLocked(name)
	if err != nil {
		return Info{}, pathError("stat", name, err)
	}
	node := dir.entries[base]
	if node == nil {
		return Info{}, pathError("stat", name, syscall.ENOENT)
	}
	return node.info(), nil
}

// Usage implements FS.
func (m *Mem) Usage(dir string) (Usage, error) {
	m.mu.Lock()
	_, err := m.dirLocked(split(dir))
	m.mu.Unlock()
	if err != nil {
		return Usage{}, pathError("statfs", dir, err)
	}
	total := m.disk.capacity.Load()
	if total == 0 {
		total = math.MaxInt64
	}
	return Usage{Total: uint64(total), Free: uint64(max(0, total-m.disk.used.Load()))}, nil
}

// Lock implements FS. Every Mem made by Crash starts without locks.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.openLocked(name, true)
	if err != nil {
		return nil, pathError("lock", name, err)
	}
	if m.locks[f] {
		f.release()
		return nil, pathError("lock", name, ErrLocked)
	}
	m.locks[f] = true
	return &memLock{fs: m, file: f}, nil
}

type memLock struct {
	fs     *Mem
	file   *memFile
	closed atomic.Bool
}

func (l *memLock) Close() error {
	if l.closed.Swap(true) {
		return fs.ErrClosed
	}
	l.fs.mu.Lock()
	delete(l.fs.locks, l.file)
	l.fs.mu.Unlock()
	l.file.release()
	return nil
}

func sortedNames[V any](entries map[string]V) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

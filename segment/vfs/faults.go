package vfs

import (
	"errors"
	"hash/fnv"
	"io"
	"math/rand"
	"sync"
	"sync/atomic"
	"syscall"
)

// OpKind names an operation of FS or File.
type OpKind uint8

// The operations. Those up to OpPreallocate are write-side: they change something
// or make a change durable.
const (
	OpCreate OpKind = iota
	OpOpenReadWrite
	OpRemove
	OpRemoveAll
	OpRename
	OpMkdirAll
	OpSyncDir
	OpWrite
	OpTruncate
	OpSync
	OpPreallocate
	OpOpen
	OpRead
	OpList
	OpStat
	OpLock
	OpUsage
)

var opNames = [...]string{
	"create", "open-read-write", "remove", "remove-all", "rename", "mkdir-all", "sync-dir",
	"write", "truncate", "sync", "preallocate", "open", "read", "list", "stat", "lock", "usage",
}

// String returns the name used in tests and logs.
func (k OpKind) String() string {
	if int(k) < len(opNames) {
		return opNames[k]
	}
	return "unknown"
}

// Write reports whether the operation changes something or makes a change durable.
func (k OpKind) Write() bool { return k <= OpPreallocate }

// Op is one operation, as wrappers see it.
type Op struct {
	Kind OpKind
	Path string
	// N counts write-side operations from 1; it is 0 for the others. Over one
	// Mem used only through the wrapper it equals Mem.Ops.
	N int64
	// Off and Len are the range of a read, write or preallocation; Off is the new
	// size of a truncation.
	Off, Len int64
	// Done is true in the last report of WithWatch: the operation returned.
	Done bool
}

// TornWrite is an error with which a fault makes a write stop after Bytes bytes.
type TornWrite struct {
	Bytes int
	Err   error
}

func (e *TornWrite) Error() string { return "torn write: " + e.Err.Error() }

// Unwrap returns what the write failed with.
func (e *TornWrite) Unwrap() error { return e.Err }

// WithFaults returns fs with before called ahead of each operation. An error that
// before returns replaces the operation, which then does not happen at all; a
// *TornWrite lets the beginning of a write happen. before may block, to hold an
// operation, and is called concurrently.
func WithFaults(fs FS, before func(Op) error) FS {
	return &hookFS{fs: fs, hook: &faults{before: before}}
}

type faults struct {
	before func(Op) error
	n      atomic.Int64
}

func (h *faults) start(op Op) (token, error) {
	if op.Kind.Write() {
		op.N = h.n.Add(1)
	}
	return nil, h.before(op)
}

func (*faults) end(token) {}

func (*faults) transparent() bool { return false }

// Randomly returns a function for WithFaults that fails each operation of the
// given kinds (none: every write-side one) with err and probability p. It draws
// from the seed, the path and the number of the operation on that path, so that
// what happens to one file does not depend on how operations on others
// interleave with it.
func Randomly(seed int64, p float64, err error, kinds ...OpKind) func(Op) error {
	var mu sync.Mutex
	sources := map[string]*rand.Rand{}
	draw := func(path string) float64 {
		mu.Lock()
		defer mu.Unlock()
		src := sources[path]
		if src == nil {
			h := fnv.New64a()
			_, _ = io.WriteString(h, path) // a hash never fails
			src = rand.New(rand.NewSource(seed ^ int64(h.Sum64())))
			sources[path] = src
		}
		return src.Float64()
	}
	return func(op Op) error {
		if !matches(op.Kind, kinds) || draw(op.Path) >= p {
			return nil
		}
		return pathError(op.Kind.String(), op.Path, err)
	}
}

func matches(kind OpKind, kinds []OpKind) bool {
	for _, k := range kinds {
		if k == kind {
			return true
		}
	}
	return len(kinds) == 0 && kind.Write()
}

// PowerLoss returns a function for WithFaults that lets n write-side operations
// happen and fails every operation after them with EIO: what a process sees
// whose disk went away. Then Mem.Crash gives what the disk kept.
func PowerLoss(n int64) func(Op) error {
	var lost atomic.Bool
	return func(op Op) error {
		if op.Kind.Write() && op.N > n {
			lost.Store(true)
		}
		if lost.Load() {
			return pathError(op.Kind.String(), op.Path, syscall.EIO)
		}
		return nil
	}
}

// hook is what a wrapper does around each operation.
type hook interface {
	start(op Op) (token, error)
	end(t token)
	// transparent hooks let sendfile and advice bypass them.
	transparent() bool
}

type token = *watched

// hookFS calls a hook around the operations of fs and of the files it opens.
type hookFS struct {
	fs   FS
	hook hook
}

func (h *hookFS) do(kind OpKind, path string, call func() error) error {
	t, err := h.hook.start(Op{Kind: kind, Path: path})
	if err != nil {
		return err
	}
	defer h.hook.end(t)
	return call()
}

func (h *hookFS) open(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	var f File
	err := h.do(kind, name, func() (err error) { f, err = open(name); return err })
	if err != nil {
		return nil, err
	}
	return &hookFile{File: f, hook: h.hook}, nil
}

func (h *hookFS) Create(name string) (File, error) { return h.open(OpCreate, name, h.fs.Create) }

func (h *hookFS) Open(name string) (File, error) { return h.open(OpOpen, name, h.fs.Open) }

func (h *hookFS) OpenReadWrite(name string) (File, error) {
	return h.open(OpOpenReadWrite, name, h.fs.OpenReadWrite)
}

func (h *hookFS) Remove(name string) error {
	return h.do(OpRemove, name, func() error { return h.fs.Remove(name) })
}

func (h *hookFS) RemoveAll(name string) error {
	return h.do(OpRemoveAll, name, func() error { return h.fs.RemoveAll(name) })
}

func (h *hookFS) Rename(oldName, newName string) error {
	return h.do(OpRename, newName, func() error { return h.fs.Rename(oldName, newName) })
}

func (h *hookFS) MkdirAll(dir string) error {
	return h.do(OpMkdirAll, dir, func() error { return h.fs.MkdirAll(dir) })
}

func (h *hookFS) SyncDir(dir string) error {
	return h.do(OpSyncDir, dir, func() error { return h.fs.SyncDir(dir) })
}

func (h *hookFS) List(dir string) (names []string, err error) {
	err = h.do(OpList, dir, func() (err error) { names, err = h.fs.List(dir); return err })
	return names, err
}

func (h *hookFS) Stat(name string) (info Info, err error) {
	err = h.do(OpStat, name, func() (err error) { info, err = h.fs.Stat(name); return err })
	return info, err
}

func (h *hookFS) Lock(name string) (c io.Closer, err error) {
	err = h.do(OpLock, name, func() (err error) { c, err = h.fs.Lock(name); return err })
	return c, err
}

func (h *hookFS) Usage(dir string) (u Usage, err error) {
	err = h.do(OpUsage, dir, func() (err error) { u, err = h.fs.Usage(dir); return err })
	return u, err
}

// hookFile calls a hook around the operations of a file.
type hookFile struct {
	File
	hook hook
}

func (f *hookFile) os() *osFile {
	if f.hook.transparent() {
		return asOS(f.File)
	}
	return nil
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	t, err := f.hook.start(Op{Kind: OpRead, Path: f.Name(), Off: off, Len: int64(len(p))})
	if err != nil {
		return 0, err
	}
	defer f.hook.end(t)
	return f.File.ReadAt(p, off)
}

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	t, err := f.hook.start(Op{Kind: OpWrite, Path: f.Name(), Off: off, Len: int64(len(p))})
	if err != nil {
		var torn *TornWrite
		if !errors.As(err, &torn) {
			return 0, err
		}
		n, werr := f.File.WriteAt(p[:min(max(torn.Bytes, 0), len(p))], off)
		return n, errors.Join(err, werr)
	}
	defer f.hook.end(t)
	return f.File.WriteAt(p, off)
}

func (f *hookFile) Truncate(size int64) error {
	t, err := f.hook.start(Op{Kind: OpTruncate, Path: f.Name(), Off: size})
	if err != nil {
		return err
	}
	defer f.hook.end(t)
	return f.File.Truncate(size)
}

func (f *hookFile) Sync() error {
	t, err := f.hook.start(Op{Kind: OpSync, Path: f.Name()})
	if err != nil {
		return err
	}
	defer f.hook.end(t)
	return f.File.Sync()
}

func (f *hookFile) Preallocate(off, n int64) error {
	t, err := f.hook.start(Op{Kind: OpPreallocate, Path: f.Name(), Off: off, Len: n})
	if err != nil {
		return err
	}
	defer f.hook.end(t)
	return f.File.Preallocate(off, n)
}

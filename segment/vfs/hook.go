package vfs

import (
	"errors"
	"io"
)

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

func (h *hookFS) OpenExisting(name string) (File, error) {
	return h.open(OpOpenReadWrite, name, h.fs.OpenExisting)
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

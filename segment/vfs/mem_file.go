package vfs

import (
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type memBlock [BlockSize]byte

// reservedBlock stands for a block that Preallocate reserved and nothing has been
// written to. It is never changed.
var reservedBlock = new(memBlock)

// memFile is the content of a file. Blocks are copied on write: one that live and
// durable share is never changed, so a Sync and a Crash only copy pointers.
type memFile struct {
	disk *memDisk
	refs atomic.Int64 // names and handles

	mu      sync.RWMutex
	size    int64
	live    []*memBlock // nil: a hole; may reach beyond size
	modTime time.Time

	durable     []*memBlock
	durableSize int64
	dirty       []int // blocks in which live and durable may differ, with repetitions
}

func newMemFile(d *memDisk) *memFile { return &memFile{disk: d, modTime: time.Now()} }

func (f *memFile) hold() { f.refs.Add(1) }

// release drops a name or a handle; the last one frees the blocks.
func (f *memFile) release() {
	if f.refs.Add(-1) > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk.give(countBlocks(f.live))
	f.live = nil
}

func countBlocks(blocks []*memBlock) int64 {
	var n int64
	for _, b := range blocks {
		if b != nil {
			n++
		}
	}
	return n
}

func (f *memFile) info() Info {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return Info{Size: f.size, ModTime: f.modTime}
}

func (f *memFile) readAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= f.size {
		return 0, io.EOF
	}
	var err error
	if int64(len(p)) > f.size-off {
		p, err = p[:f.size-off], io.EOF
	}
	for n := 0; n < len(p); {
		i, at := int((off+int64(n))/BlockSize), int((off+int64(n))%BlockSize)
		part := p[n:min(len(p), n+BlockSize-at)]
		if i < len(f.live) && f.live[i] != nil {
			copy(part, f.live[i][at:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(p), err
}

func (f *memFile) writeAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modTime = time.Now()
	for n := 0; n < len(p); {
		i, at := int((off+int64(n))/BlockSize), int((off+int64(n))%BlockSize)
		b := f.writableLocked(i)
		if b == nil {
			return n, syscall.ENOSPC
		}
		n += copy(b[at:], p[n:])
		f.size = max(f.size, off+int64(n))
	}
	return len(p), nil
}

// writableLocked returns block i for changing, or nil if the disk is full.
func (f *memFile) writableLocked(i int) *memBlock {
	f.growLocked(i + 1)
	old := f.live[i]
	shared := old == reservedBlock || i < len(f.durable) && f.durable[i] == old
	switch {
	case old == nil:
		if !f.disk.take() {
			return nil
		}
		f.live[i] = new(memBlock)
	case shared:
		b := *old
		f.live[i] = &b
	default:
		return old
	}
	f.dirty = append(f.dirty, i)
	return f.live[i]
}

func (f *memFile) growLocked(blocks int) {
	for len(f.live) < blocks {
		f.live = append(f.live, nil)
	}
}

func (f *memFile) truncate(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modTime = time.Now()
	keep := int((size + BlockSize - 1) / BlockSize)
	if keep < len(f.live) {
		f.disk.give(countBlocks(f.live[keep:]))
		for i := keep; i < len(f.live); i++ {
			if i < len(f.durable) && f.durable[i] != nil {
				f.dirty = append(f.dirty, i)
			}
		}
		clear(f.live[keep:])
		f.live = f.live[:keep]
	}
	if at := size % BlockSize; at > 0 && size < f.size && keep <= len(f.live) && f.live[keep-1] != nil {
		// The block exists, so that writing it takes no space.
		clear(f.writableLocked(keep - 1)[at:])
	}
	f.size = size
}

func (f *memFile) preallocate(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	first, end := int(off/BlockSize), int((off+n+BlockSize-1)/BlockSize)
	f.growLocked(end)
	for i := first; i < end; i++ {
		if f.live[i] != nil {
			continue
		}
		if !f.disk.take() {
			return syscall.ENOSPC
		}
		f.live[i] = reservedBlock
	}
	return nil
}

func (f *memFile) sync() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.durable) < len(f.live) {
		f.durable = append(f.durable, nil)
	}
	for _, i := range f.dirty {
		if i < len(f.live) {
			f.durable[i] = f.live[i]
		}
	}
	clear(f.durable[len(f.live):])
	f.durable = f.durable[:len(f.live)]
	f.durableSize = f.size
	f.dirty = f.dirty[:0]
}

// memHandle is an open memFile.
type memHandle struct {
	fs       *Mem
	file     *memFile
	name     string
	readOnly bool
	closed   atomic.Bool
}

func (h *memHandle) Name() string { return h.name }

func (h *memHandle) Close() error {
	if h.closed.Swap(true) {
		return pathError("close", h.name, fs.ErrClosed)
	}
	h.file.release()
	return nil
}

func (h *memHandle) Size() (int64, error) {
	if h.closed.Load() {
		return 0, pathError("stat", h.name, fs.ErrClosed)
	}
	return h.file.info().Size, nil
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	if h.closed.Load() {
		return 0, pathError("read", h.name, fs.ErrClosed)
	}
	if off < 0 {
		return 0, pathError("read", h.name, syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	return h.file.readAt(p, off)
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	if err := h.changing("write", off); err != nil {
		return 0, err
	}
	n, err := h.file.writeAt(p, off)
	if err != nil {
		return n, pathError("write", h.name, err)
	}
	return n, nil
}

func (h *memHandle) Truncate(size int64) error {
	if err := h.changing("truncate", size); err != nil {
		return err
	}
	h.file.truncate(size)
	return nil
}

func (h *memHandle) Preallocate(off, n int64) error {
	if err := h.changing("fallocate", off); err != nil {
		return err
	}
	if n <= 0 {
		return nil
	}
	if err := h.file.preallocate(off, n); err != nil {
		return pathError("fallocate", h.name, err)
	}
	return nil
}

func (h *memHandle) Sync() error {
	h.fs.ops.Add(1)
	if h.closed.Load() {
		return pathError("fdatasync", h.name, fs.ErrClosed)
	}
	h.file.sync()
	return nil
}

// changing counts an operation and refuses it on a closed or read-only handle or
// at a negative position.
func (h *memHandle) changing(op string, pos int64) error {
	h.fs.ops.Add(1)
	switch {
	case h.closed.Load():
		return pathError(op, h.name, fs.ErrClosed)
	case h.readOnly:
		return pathError(op, h.name, syscall.EBADF)
	case pos < 0:
		return pathError(op, h.name, syscall.EINVAL)
	}
	return nil
}

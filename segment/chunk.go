package segment

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// RemoteData is what a read of the tier gives. *Chunk satisfies it too.
type RemoteData interface {
	Len() int64
	WriteTo(w io.Writer) (int64, error)
	AppendTo(dst []byte) ([]byte, error)
	NextOffset() int64
	Release()
}

// Chunk is a run of whole batches as pinned regions of files: no bytes are read
// before WriteTo or AppendTo. Release must be called once; the other methods not
// after it.
type Chunk struct {
	dir     *Dir
	regions []region
	size    int64
	first   int64
	next    int64
}

type region struct {
	file  vfs.File
	owner *segFile
	off   int64
	size  int64
}

// Len returns the bytes of the chunk.
func (c *Chunk) Len() int64 { return c.size }

// FirstOffset returns the base offset of the first batch, or the offset asked for
// if there is none.
func (c *Chunk) FirstOffset() int64 { return c.first }

// NextOffset returns the offset behind the last batch: where to go on reading.
func (c *Chunk) NextOffset() int64 { return c.next }

// WriteTo writes the batches to w; the kernel copies them if w is a network
// connection. A partial write returns how much was written.
func (c *Chunk) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for _, r := range c.regions {
		n, err := vfs.CopyTo(w, r.file, r.off, r.size)
		total += n
		if errors.Is(err, syscall.EIO) {
			// Not the connection: the disk.
			err = c.dir.fail(err)
		}
		if err != nil {
			return total, fmt.Errorf("send %d bytes of %s at %d: %w", r.size, r.file.Name(), r.off, err)
		}
	}
	return total, nil
}

// AppendTo appends the batches to dst.
func (c *Chunk) AppendTo(dst []byte) ([]byte, error) {
	dst = slices.Grow(dst, int(c.size))
	for _, r := range c.regions {
		at := len(dst)
		dst = dst[:at+int(r.size)]
		n, err := r.file.ReadAt(dst[at:], r.off)
		if int64(n) == r.size {
			continue
		}
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF // truncated meanwhile
		} else {
			err = c.dir.fail(err)
		}
		return dst[:at], fmt.Errorf("read %s at %d: %w", r.file.Name(), r.off, err)
	}
	return dst, nil
}

// Release lets the files go.
func (c *Chunk) Release() {
	for i, r := range c.regions {
		r.owner.unpin()
		c.regions[i] = region{}
	}
	c.regions, c.size = nil, 0
}

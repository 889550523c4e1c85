package vfs

import (
	"io"
	"sync"
	"syscall"
)

const copyBuffer = 128 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// CopyTo sends n bytes of f from off to w and returns how many it sent. When w is
// a network connection and f a file of the operating system the kernel copies
// them (sendfile); f's own position is neither used nor moved, so any number of
// calls may run on one file. A file that ends early is io.ErrUnexpectedEOF: the
// bytes up to there were sent.
func CopyTo(w io.Writer, f File, off, n int64) (int64, error) {
	if n <= 0 {
		return 0, nil
	}
	var sent int64
	if o := asOS(f); o != nil {
		if conn, ok := w.(syscall.Conn); ok {
			var done bool
			var err error
			if sent, done, err = sendFile(conn, o, off, n); done {
				return sent, err
			}
		}
	}
	rest, err := copyBuffered(w, f, off+sent, n-sent)
	return sent + rest, err
}

func copyBuffered(w io.Writer, f File, off, n int64) (int64, error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	var sent int64
	for sent < n {
		want := min(n-sent, copyBuffer)
		got, err := f.ReadAt(buf[:want], off+sent)
		if got > 0 {
			wrote, werr := w.Write(buf[:got])
			sent += int64(wrote)
			if werr != nil {
				return sent, werr
			}
			if wrote < got {
				return sent, io.ErrShortWrite
			}
		}
		if int64(got) == want {
			continue
		}
		if err == io.EOF || err == nil {
			err = io.ErrUnexpectedEOF
		}
		return sent, err
	}
	return sent, nil
}

package vfs

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendChunk bounds one sendfile call, so that a fast receiver does not keep a
// thread inside the kernel for gigabytes.
const sendChunk = 4 << 20

// senders keeps what the two callbacks of a transfer need, so that a transfer
// allocates nothing.
var senders = sync.Pool{New: func() any {
	s := new(sender)
	s.pinned, s.ready = s.write, s.send
	return s
}}

// sendFile lets the kernel copy n bytes of f from off to conn. done is false when
// the kernel cannot do that for this pair; what was not sent then has to be
// copied by hand.
func sendFile(conn syscall.Conn, f *osFile, off, n int64) (sent int64, done bool, err error) {
	dst, err := conn.SyscallConn()
	if err != nil {
		// Not a descriptor after all.
		return 0, false, nil
	}
	s := senders.Get().(*sender)
	defer senders.Put(s)
	s.dst, s.off, s.left, s.unsupported, s.err = dst, off, n, false, nil
	if f.raw.Control(s.pinned) != nil {
		s.err = &os.PathError{Op: "sendfile", Path: f.Name(), Err: os.ErrClosed}
	}
	s.dst = nil
	sent = n - s.left
	switch {
	case s.unsupported:
		return sent, false, nil
	case s.err != nil:
		return sent, true, s.err
	case s.left > 0:
		return sent, true, io.ErrUnexpectedEOF
	}
	return sent, true, nil
}

// sender is one transfer.
type sender struct {
	pinned func(fd uintptr)
	ready  func(fd uintptr) bool

	src         int
	dst         syscall.RawConn
	off, left   int64
	unsupported bool
	err         error
}

// write runs while the file's descriptor cannot go away. It waits on the poller,
// with the connection's write lock and deadline, each time send returns false.
func (s *sender) write(src uintptr) {
	s.src = int(src)
	if err := s.dst.Write(s.ready); err != nil && s.err == nil {
		s.err = err
	}
}

func (s *sender) send(dst uintptr) bool {
	for s.left > 0 {
		n, err := unix.Sendfile(int(dst), s.src, &s.off, int(min(s.left, sendChunk)))
		if n > 0 {
			s.left -= int64(n)
		}
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
			s.unsupported = true
			return true
		case err != nil:
			s.err = os.NewSyscallError("sendfile", err)
			return true
		case n == 0:
			return true
		}
	}
	return true
}

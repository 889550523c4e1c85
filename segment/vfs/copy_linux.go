package vfs

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendChunk bounds one sendfile call, so that a fast receiver does not keep a
// thread inside the kernel for gigabytes.
const sendChunk = 4 << 20

// sendFile lets the kernel copy n bytes of f from off to conn. done is false when
// the kernel cannot do that for this pair; what was not sent then has to be
// copied by hand.
func sendFile(conn syscall.Conn, f *osFile, off, n int64) (sent int64, done bool, err error) {
	dst, err := conn.SyscallConn()
	if err != nil {
		// Not a descriptor after all.
		return 0, false, nil
	}
	s := sender{off: off, left: n}
	// Control pins f's descriptor; Write waits on the poller, with the
	// connection's write lock and deadline, each time send returns false.
	var werr error
	cerr := f.raw.Control(func(src uintptr) {
		s.src = int(src)
		werr = dst.Write(s.send)
	})
	sent = n - s.left
	switch {
	case cerr != nil:
		return sent, true, &os.PathError{Op: "sendfile", Path: f.Name(), Err: cerr}
	case s.unsupported:
		return sent, false, nil
	case s.err != nil:
		return sent, true, s.err
	case werr != nil:
		return sent, true, werr
	case s.left > 0:
		return sent, true, io.ErrUnexpectedEOF
	}
	return sent, true, nil
}

type sender struct {
	src         int
	off, left   int64
	unsupported bool
	err         error
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

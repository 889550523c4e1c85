package main

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The limits: what the machine does when nothing but the unavoidable is done.
// They are the reference programs of the bench, short on purpose.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// syncLoop is the limit of produce: n bytes at a time come over loopback, are
// CRC32C'd, written to one file and fdatasynced, in one loop. It returns bytes
// per second.
func syncLoop(ctx context.Context, dir string, n int, length time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "limit"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	client, server, err := loopback()
	if err != nil {
		return 0, err
	}
	defer server.Close()
	var sender sync.WaitGroup
	sender.Go(func() {
		defer client.Close()
		b := make([]byte, n)
		for end := time.Now().Add(length); time.Now().Before(end) && ctx.Err() == nil; {
			if _, err := client.Write(b); err != nil {
				return
			}
		}
	})
	defer sender.Wait()
	start := time.Now()
	var total int64
	var sum uint32
	b := make([]byte, n)
	for {
		if _, err := io.ReadFull(server, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, castagnoli, b)
		binary.BigEndian.PutUint32(b, sum)
		if _, err := f.WriteAt(b, total); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		total += int64(n)
	}
	return float64(total) / time.Since(start).Seconds(), nil
}

// sendfileLoop is the limit of fetch: a file of 256 MiB goes by sendfile over
// conns loopback connections, n bytes at a time, and is read and dropped.
func sendfileLoop(ctx context.Context, dir string, conns, n int, length time.Duration) (float64, error) {
	const size = 256 << 20
	f, err := os.Create(filepath.Join(dir, "limit"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(block)) {
		if _, err := f.WriteAt(block, at); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	var all sync.WaitGroup
	totals := make([]int64, conns)
	for i := range conns {
		client, server, err := loopback()
		if err != nil {
			return 0, err
		}
		all.Go(func() {
			defer server.Close()
			raw, err := server.SyscallConn()
			if err != nil {
				return
			}
			for at, end := int64(0), time.Now().Add(length); time.Now().Before(end) && ctx.Err() == nil; at = (at + int64(n)) % size {
				if sendAll(raw, f, at, n) != nil {
					return
				}
			}
		})
		all.Go(func() {
			defer client.Close()
			b := make([]byte, 256<<10)
			for {
				n, err := client.Read(b)
				totals[i] += int64(n)
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	var total int64
	for _, n := range totals {
		total += n
	}
	return float64(total) / time.Since(start).Seconds(), nil
}

type rawConn interface {
	Write(func(fd uintptr) bool) error
}

func sendAll(raw rawConn, f *os.File, at int64, n int) error {
	var failed error
	err := raw.Write(func(fd uintptr) bool {
		for n > 0 {
			sent, err := unix.Sendfile(int(fd), int(f.Fd()), &at, n)
			n -= max(sent, 0)
			if err == unix.EAGAIN {
				return false
			}
			if err != nil && err != unix.EINTR {
				failed = err
				return true
			}
		}
		return true
	})
	return errors.Join(err, failed)
}

func loopback() (client, server *net.TCPConn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	s, err := l.Accept()
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c.(*net.TCPConn), s.(*net.TCPConn), nil
}

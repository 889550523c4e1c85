package segment

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

const (
	scanBuffer = 1 << 20
	// crcFrom is where the bytes under the CRC begin in a batch.
	crcFrom = 21
)

var (
	scanBuffers = sync.Pool{New: func() any { b := make([]byte, scanBuffer); return &b }}
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// damage is the reason why a scan cannot go on at a position: the bytes there are
// not a whole, sound batch. It is not an I/O error.
type damage struct {
	pos    int64
	reason error
}

func (d *damage) Error() string   { return d.reason.Error() }
func (d *damage) Unwrap() []error { return []error{d.reason, ErrCorrupt} }

// scanner reads the batches of [pos, size) of a log file one after another, with
// few reads and without trusting a byte. It holds a buffer: close gives it back.
type scanner struct {
	file   vfs.File
	pos    int64 // of the batch that step returns next
	size   int64
	verify bool // check CRCs

	pool   *[]byte
	buf    []byte
	bufPos int64 // position of buf[0] in the file
	bufLen int

	at     int64 // of the current batch
	length int64 // its size
}

// newScanner returns a scanner with a large buffer, for reading everything.
func newScanner(f vfs.File, pos, size int64, verify bool) *scanner {
	pool := scanBuffers.Get().(*[]byte)
	return &scanner{file: f, pos: pos, size: size, verify: verify, pool: pool, buf: *pool}
}

// over makes s hop from header to header through a small buffer of the caller.
func (s *scanner) over(f vfs.File, pos, size int64, buf []byte) {
	*s = scanner{file: f, pos: pos, size: size, buf: buf}
}

func (s *scanner) close() {
	if s.pool != nil {
		scanBuffers.Put(s.pool)
		s.pool, s.buf = nil, nil
	}
}

// step moves to the next batch and returns its header as a Batch, which is valid
// until the next call and must not be asked for records. It returns io.EOF at the
// end, *damage where no sound batch is, or an I/O error.
func (s *scanner) step() (record.Batch, error) {
	if s.pos >= s.size {
		return nil, io.EOF
	}
	head, err := s.window(s.pos, min(record.HeaderSize, s.size-s.pos))
	if err != nil {
		return nil, err
	}
	if len(head) < record.HeaderSize {
		return nil, &damage{s.pos, record.ErrTorn}
	}
	size := record.PeekSize(head)
	if size < record.HeaderSize || head[16] != 2 {
		return nil, &damage{s.pos, record.ErrCorrupt}
	}
	if size > s.size-s.pos {
		return nil, &damage{s.pos, record.ErrTorn}
	}
	b := record.Batch(head)
	if b.BaseOffset() < 0 || b.LastOffsetDelta() < 0 {
		return nil, &damage{s.pos, record.ErrCorrupt}
	}
	if s.verify {
		want := b.CRC()
		got, err := s.checksum(s.pos+crcFrom, s.pos+size)
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, &damage{s.pos, record.ErrCorrupt}
		}
		if head, err = s.window(s.pos, record.HeaderSize); err != nil {
			return nil, err
		}
		b = record.Batch(head)
	}
	s.at, s.length = s.pos, size
	s.pos += size
	return b, nil
}

// batch returns all of the current batch. It is valid until the next call if it
// fits the buffer; a larger one is allocated, after its CRC was found right.
func (s *scanner) batch() (record.Batch, error) {
	if s.length <= int64(len(s.buf)) {
		b, err := s.window(s.at, s.length)
		return record.Batch(b), err
	}
	if !s.verify {
		head, err := s.window(s.at, record.HeaderSize)
		if err != nil {
			return nil, err
		}
		want := binary.BigEndian.Uint32(head[17:])
		if got, err := s.checksum(s.at+crcFrom, s.at+s.length); err != nil || got != want {
			return nil, errors.Join(err, &damage{s.at, record.ErrCorrupt})
		}
	}
	b := make([]byte, s.length)
	return record.Batch(b), s.read(b, s.at)
}

// window returns n bytes at pos, n ≤ len(buf).
func (s *scanner) window(pos, n int64) ([]byte, error) {
	if pos < s.bufPos || pos+n > s.bufPos+int64(s.bufLen) {
		want := min(int64(len(s.buf)), s.size-pos)
		s.bufPos, s.bufLen = pos, 0
		if err := s.read(s.buf[:want], pos); err != nil {
			return nil, err
		}
		s.bufLen = int(want)
	}
	from := pos - s.bufPos
	return s.buf[from : from+n : from+n], nil
}

func (s *scanner) read(b []byte, pos int64) error {
	n, err := s.file.ReadAt(b, pos)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		// The file is shorter than it was: a truncation, or it was tampered with.
		return &damage{pos + int64(n), record.ErrTorn}
	}
	return err
}

func (s *scanner) checksum(from, to int64) (uint32, error) {
	crc := uint32(0)
	for from < to {
		b, err := s.window(from, min(to-from, int64(len(s.buf))))
		if err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		from += int64(len(b))
	}
	return crc, nil
}

// replay steps through the file and calls fn with each batch: of control batches
// all of it, of the others the header.
func (s *scanner) replay(fn func(b record.Batch, pos, size int64) error) error {
	for {
		b, err := s.step()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if b.IsControl() {
			if b, err = s.batch(); err != nil {
				return err
			}
		}
		if err := fn(b, s.at, s.length); err != nil {
			return err
		}
	}
}

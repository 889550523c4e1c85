package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/pierrec/lz4/v4"
)

const (
	// DefaultMaxDecompressed bounds what one batch may decompress to. Kafka has no
	// bound; consumers, who need the memory, do.
	DefaultMaxDecompressed = 128 << 20

	window    = 64 << 10
	maxVarint = 10
)

var decompressors = sync.Pool{New: func() any { return NewDecompressor(0) }}

// Decompressor decompresses batches as a stream through a small window that grows
// only to hold a single record. It is reused from batch to batch and not safe for
// concurrent use. It starts no goroutine and needs no closing.
type Decompressor struct {
	limit int64 // default
	hold  int   // size of the window, and of the largest record that Validate holds

	src   bytes.Reader
	in    io.Reader
	codec Compression
	bound int64 // of the payload being read
	left  int64 // of bound
	buf   []byte
	at    int // buf[at:] was decompressed and not yet consumed
	done  bool

	gzip   *gzip.Reader
	snappy snappyReader
	lz4    *lz4.Reader
	zstd   zstdReader

	scratch claim // while reading a payload
}

// NewDecompressor returns a Decompressor that refuses batches which decompress to
// more than limit bytes; 0 means DefaultMaxDecompressed.
func NewDecompressor(limit int64) *Decompressor {
	if limit <= 0 {
		limit = DefaultMaxDecompressed
	}
	return &Decompressor{limit: limit, hold: window, scratch: claim{of: decompressing}}
}

// open starts reading the compressed payload, up to limit bytes; 0 stands for the
// limit of NewDecompressor.
func (d *Decompressor) open(c Compression, payload []byte, limit int64) error {
	if limit <= 0 {
		limit = d.limit
	}
	d.src.Reset(payload)
	d.codec, d.bound, d.left, d.at, d.done = c, limit, limit, 0, false
	if d.buf == nil {
		d.buf = make([]byte, 0, d.hold)
	}
	d.buf = d.buf[:0]
	var err error
	switch c {
	case Gzip:
		err = d.openGzip()
	case Snappy:
		d.snappy.reset(payload, limit)
		d.scratch.replace(d.snappy.largest())
		d.in = &d.snappy
	case LZ4:
		err = d.openLZ4(payload)
	case Zstd:
		d.src.Reset(nil)
		err = d.zstd.reset(payload, limit, &d.scratch)
		d.in = &d.zstd
	default:
		return fmt.Errorf("%w: unknown %v", ErrCorrupt, c)
	}
	if err != nil {
		d.close()
		return d.fault(err)
	}
	return nil
}

func (d *Decompressor) openGzip() (err error) {
	if d.gzip == nil {
		d.gzip, err = gzip.NewReader(&d.src)
		if err != nil {
			d.gzip = nil
			return err
		}
	} else if err = d.gzip.Reset(&d.src); err != nil {
		return err
	}
	d.in = d.gzip
	return nil
}

// openLZ4 accepts what Kafka's Java clients can read: one frame of the current
// format with independent blocks.
func (d *Decompressor) openLZ4(payload []byte) error {
	const (
		magic       = 0x184D2204
		version     = 0x40
		independent = 0x20
	)
	if len(payload) < 7 || binary.LittleEndian.Uint32(payload) != magic {
		return errors.New("lz4: not a frame")
	}
	if payload[4]&0xC0 != version || payload[4]&independent == 0 {
		return errors.New("lz4: version or dependent blocks not supported")
	}
	if d.lz4 == nil {
		d.lz4 = lz4.NewReader(&d.src)
		if err := d.lz4.Apply(lz4.ConcurrencyOption(1)); err != nil {
			return err
		}
	}
	d.lz4.Reset(&d.src)
	d.in = d.lz4
	return nil
}

// close drops what is too large, or tied to the payload, to be kept.
func (d *Decompressor) close() {
	d.src.Reset(nil)
	d.snappy.close()
	d.in = nil
	d.zstd.close()
	if cap(d.buf) > 1<<20 {
		d.buf = nil
	}
	d.scratch.release()
}

// fill decompresses more, into free space of buf, and returns io.EOF when there is
// none. It keeps what is unconsumed, and moves it.
func (d *Decompressor) fill() error {
	if d.done {
		return io.EOF
	}
	if d.at > 0 {
		n := copy(d.buf[:cap(d.buf)], d.buf[d.at:])
		d.buf, d.at = d.buf[:n], 0
	}
	if len(d.buf) == cap(d.buf) {
		d.buf = append(d.buf, 0)[:len(d.buf)]
	}
	free := d.buf[len(d.buf):cap(d.buf)]
	if int64(len(free)) > d.left+1 {
		// One byte more than allowed, to see whether it is there.
		free = free[:d.left+1]
	}
	for range 100 {
		n, err := d.in.Read(free)
		if d.left -= int64(n); d.left < 0 {
			return fmt.Errorf("%w: more than %d bytes decompressed", ErrTooLarge, d.bound)
		}
		d.buf = d.buf[:len(d.buf)+n]
		if err == io.EOF {
			d.done = true
		} else if err != nil {
			return d.fault(err)
		}
		if n > 0 {
			return nil
		}
		if d.done {
			return io.EOF
		}
	}
	return d.fault(io.ErrNoProgress)
}

func (d *Decompressor) fault(err error) error {
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	return fmt.Errorf("%w: decompress %v: %w", ErrCorrupt, d.codec, err)
}

// length reads the length of the next record.
func (d *Decompressor) length() (int64, error) {
	u, err := d.uvarint(math.MaxInt64)
	if err != nil {
		return 0, err
	}
	n := unzigzag(u)
	if n <= 0 || n > d.left+int64(len(d.buf)-d.at) {
		return 0, badLength
	}
	return n, nil
}

// uvarint reads a varint of at most limit bytes.
func (d *Decompressor) uvarint(limit int64) (uint64, error) {
	for {
		b := d.buf[d.at:]
		b = b[:min(int64(len(b)), limit)]
		if u, i := uvarint(b, 0); i >= 0 {
			d.at += i
			return u, nil
		}
		if int64(len(b)) == limit || len(b) >= maxVarint {
			return 0, badLength
		}
		if err := d.fill(); err == io.EOF {
			return 0, badLength
		} else if err != nil {
			return 0, err
		}
	}
}

// record returns the next record's body. It is valid until the next call.
func (d *Decompressor) record() ([]byte, error) {
	n, err := d.length()
	if err != nil {
		return nil, err
	}
	return d.take(n)
}

// take returns the next n bytes, for which the window grows as they come.
func (d *Decompressor) take(n int64) ([]byte, error) {
	if n > smallScratch {
		d.scratch.large()
	}
	for int64(len(d.buf)-d.at) < n {
		if err := d.fill(); err == io.EOF {
			return nil, badLength
		} else if err != nil {
			return nil, err
		}
	}
	body := d.buf[d.at : d.at+int(n)]
	d.at += int(n)
	return body, nil
}

// end checks that nothing follows the last record, decompressed or not.
func (d *Decompressor) end() error {
	var err error
	if len(d.buf) == d.at {
		err = d.fill()
	}
	switch {
	case len(d.buf) > d.at:
		return fmt.Errorf("%w: bytes after the last record", ErrCorrupt)
	case err != io.EOF:
		return err
	case d.src.Len() > 0 && d.codec != Snappy:
		return fmt.Errorf("%w: bytes after the %v stream", ErrCorrupt, d.codec)
	}
	return nil
}

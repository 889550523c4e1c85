package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/s2"
)

// Snappy comes in two shapes: one raw block (franz-go, librdkafka, Sarama) and
// the framing of xerial's snappy-java, which Kafka's own clients write: a header
// of 16 bytes, then blocks with a big-endian length before each.
var xerialHeader = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}

const (
	xerialMagic = 8
	xerialBlock = 32 << 10
	// maxSnappyRatio bounds what a byte of a snappy block can decode to: the
	// densest element copies 64 bytes and takes 3.
	maxSnappyRatio = 22
)

var errSnappy = errors.New("bad block")

// snappyReader decodes block by block. Blocks are decoded whole: that is bounded
// by their own length.
type snappyReader struct {
	src    []byte
	framed bool
	limit  int64
	buf    []byte
	out    []byte // decoded and not yet read
}

func (r *snappyReader) reset(payload []byte, limit int64) {
	r.src, r.limit, r.out = payload, limit, nil
	r.framed = len(payload) >= len(xerialHeader) && bytes.HasPrefix(payload, xerialHeader[:xerialMagic])
	if r.framed {
		r.src = payload[len(xerialHeader):]
	}
}

// largest is the size of the largest block that will be decoded; one that may not be
// counts as none.
func (r *snappyReader) largest() (most int64) {
	walk := snappyReader{src: r.src, framed: r.framed}
	for {
		block, err := walk.next()
		if err != nil {
			return most
		}
		if n, err := s2.DecodedLen(block); err == nil && int64(n) <= r.limit && n <= maxSnappyRatio*len(block) {
			most = max(most, int64(n))
		}
	}
}

func (r *snappyReader) close() {
	r.src, r.out = nil, nil
	if cap(r.buf) > 1<<20 {
		r.buf = nil
	}
}

func (r *snappyReader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		block, err := r.next()
		if err != nil {
			return 0, err
		}
		if r.out, err = r.decode(block); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// next returns the next compressed block.
func (r *snappyReader) next() ([]byte, error) {
	if len(r.src) == 0 {
		return nil, io.EOF
	}
	if !r.framed {
		block := r.src
		r.src = nil
		return block, nil
	}
	// snappy-java accepts streams put one after the other, header and all.
	for bytes.HasPrefix(r.src, xerialHeader[:xerialMagic]) && len(r.src) >= len(xerialHeader) {
		r.src = r.src[len(xerialHeader):]
	}
	if len(r.src) == 0 {
		return nil, io.EOF
	}
	if len(r.src) < 4 {
		return nil, io.ErrUnexpectedEOF
	}
	n := int64(binary.BigEndian.Uint32(r.src))
	if n > int64(len(r.src)-4) {
		return nil, io.ErrUnexpectedEOF
	}
	block := r.src[4 : 4+n]
	r.src = r.src[4+n:]
	return block, nil
}

func (r *snappyReader) decode(block []byte) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if int64(n) > r.limit {
		return nil, ErrTooLarge
	}
	if n > maxSnappyRatio*len(block) {
		return nil, errSnappy
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	return s2.Decode(r.buf[:n], block)
}

// xerialWriter writes the framing that every Kafka client reads.
type xerialWriter struct {
	w     io.Writer
	block []byte
	out   []byte
}

func (x *xerialWriter) reset(w io.Writer) {
	x.w = w
	x.block = x.block[:0]
	x.out = append(x.out[:0], xerialHeader...)
}

func (x *xerialWriter) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := min(len(p), xerialBlock-len(x.block))
		x.block = append(x.block, p[:n]...)
		p = p[n:]
		if len(x.block) == xerialBlock {
			if err := x.flush(); err != nil {
				return 0, err
			}
		}
	}
	return written, nil
}

func (x *xerialWriter) flush() error {
	if len(x.block) > 0 {
		at := len(x.out)
		x.out = append(x.out, make([]byte, 4+s2.MaxEncodedLen(len(x.block)))...)
		enc := s2.EncodeSnappy(x.out[at+4:], x.block)
		binary.BigEndian.PutUint32(x.out[at:], uint32(len(enc)))
		x.out = x.out[:at+4+len(enc)]
		x.block = x.block[:0]
	}
	_, err := x.w.Write(x.out)
	x.out = x.out[:0]
	return err
}

func (x *xerialWriter) Close() error { return x.flush() }

package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// zstdWindow is what a decoder at rest may keep: zstd's default level needs no
	// more, level 19 needs 8 MiB and the "ultra" levels 20 to 22 up to 128 MiB. For
	// those a decoder is made and thrown away.
	zstdWindow      = 2 << 20
	leastZstdWindow = 1 << 10
	// zstdGrowth is by how much a window grows that turns out to be too small.
	zstdGrowth = 4

	zstdMagic    = 0xFD2FB528
	maxZstdBlock = 128 << 10
)

// zstdReaders keeps decoders. A decoder holds a channel, which must not move from
// one testing/synctest bubble to another; so these are all made here, before any
// bubble, and one that is made later, because none is idle, is not kept. They take
// next to no memory until they are used.
var zstdReaders = newZstdPool(max(8, 2*runtime.GOMAXPROCS(0)))

type zstdPool struct {
	mu   sync.Mutex
	idle []*zstd.Decoder
	kept map[*zstd.Decoder]bool // never changed
}

func newZstdPool(size int) *zstdPool {
	p := &zstdPool{kept: make(map[*zstd.Decoder]bool, size)}
	for range size {
		dec, err := newZstdReader(zstdWindow)
		if err != nil {
			panic(fmt.Sprintf("record: zstd options: %v", err))
		}
		p.idle, p.kept[dec] = append(p.idle, dec), true
	}
	return p
}

func (p *zstdPool) get() (*zstd.Decoder, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.idle) - 1; last >= 0 {
		dec := p.idle[last]
		p.idle = p.idle[:last]
		return dec, nil
	}
	return newZstdReader(zstdWindow)
}

// put takes a decoder back once its payload is read.
func (p *zstdPool) put(dec *zstd.Decoder) {
	if !p.kept[dec] || dec.Reset(nil) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, dec)
}

// newZstdReader returns a decoder without goroutines: it needs no closing.
func newZstdReader(window uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(max(window, zstdWindow)), zstd.WithDecoderMaxWindow(max(window, zstdWindow)))
}

// zstdReader reads the frames of a payload one after the other.
//
// A frame says how large a window it needs, and nothing makes it say the truth: 78
// bytes can ask for 128 MiB. A decoder takes the memory at once. So it is told of a
// window of zstdWindow, and only where the content is longer than that and reaches
// back further is the frame read again with a larger one: memory follows what was
// decompressed, not what was claimed.
type zstdReader struct {
	scratch *claim
	limit   uint64 // of a window
	rest    []byte // frames not begun

	frame   zstdFrame
	window  uint64 // that the decoder is told of
	given   int64  // bytes of the frame's content that were read
	source  zstdSource
	decoder *zstd.Decoder // nil between frames
}

// zstdFrame is one frame of a payload.
type zstdFrame struct {
	blocks   []byte // with the checksum, if it has one
	checksum bool
	window   uint64 // that it claims to need
	content  int64  // its size; -1: not said
}

// zstdSource is a frame with another header.
type zstdSource struct {
	head [6]byte
	at   int
	body []byte
}

func (s *zstdSource) Read(p []byte) (int, error) {
	if s.at < len(s.head) {
		n := copy(p, s.head[s.at:])
		s.at += n
		return n, nil
	}
	if len(s.body) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.body)
	s.body = s.body[n:]
	return n, nil
}

func (r *zstdReader) reset(payload []byte, limit int64, scratch *claim) error {
	*r = zstdReader{scratch: scratch, limit: uint64(max(limit, zstdWindow)), rest: payload}
	return r.next()
}

func (r *zstdReader) close() {
	if r.decoder != nil {
		zstdReaders.put(r.decoder)
	}
	*r = zstdReader{}
}

// next begins the next frame; io.EOF when there is none.
func (r *zstdReader) next() error {
	for {
		var h zstd.Header
		if err := h.Decode(r.rest); err != nil {
			return err // io.EOF at the end
		}
		if !h.Skippable {
			return r.begin(&h)
		}
		size := int64(h.HeaderSize) + int64(h.SkippableSize)
		if size > int64(len(r.rest)) {
			return io.ErrUnexpectedEOF
		}
		if r.rest = r.rest[size:]; len(r.rest) == 0 {
			return io.EOF
		}
	}
}

func (r *zstdReader) begin(h *zstd.Header) error {
	f := zstdFrame{checksum: h.HasCheckSum, window: h.WindowSize, content: -1}
	if h.HasFCS {
		f.content = int64(min(h.FrameContentSize, 1<<62))
	}
	if h.SingleSegment {
		f.window = h.FrameContentSize
	}
	switch {
	case f.window > r.limit:
		return fmt.Errorf("%w: zstd window of %d bytes", ErrTooLarge, f.window)
	case h.DictionaryID != 0:
		return zstd.ErrUnknownDictionary
	}
	size, err := zstdBlocks(r.rest[h.HeaderSize:])
	if err != nil {
		return err
	}
	if f.checksum {
		size += 4
	}
	if size += h.HeaderSize; size > len(r.rest) {
		return io.ErrUnexpectedEOF
	}
	f.blocks, r.rest = r.rest[h.HeaderSize:size], r.rest[size:]
	r.frame, r.given = f, 0
	return r.open(min(powerOfTwo(f.window), zstdWindow))
}

// zstdBlocks returns the size of the blocks that b begins with.
func zstdBlocks(b []byte) (int, error) {
	const raw, rle, compressed = 0, 1, 2
	for at := 0; ; {
		if at+3 > len(b) {
			return 0, io.ErrUnexpectedEOF
		}
		head := uint32(b[at]) | uint32(b[at+1])<<8 | uint32(b[at+2])<<16
		at += 3
		switch head >> 1 & 3 {
		case rle:
			at++
		case raw, compressed:
			at += int(head >> 3)
		default:
			return 0, zstd.ErrReservedBlockType
		}
		if at > len(b) {
			return 0, io.ErrUnexpectedEOF
		}
		if head&1 != 0 {
			return at, nil
		}
	}
}

func powerOfTwo(n uint64) uint64 {
	if n <= leastZstdWindow {
		return leastZstdWindow
	}
	return 1 << bits.Len64(n-1)
}

// open begins to read the frame with a window.
func (r *zstdReader) open(window uint64) error {
	if r.decoder != nil {
		zstdReaders.put(r.decoder)
		r.decoder = nil
	}
	var err error
	if r.window = window; window > zstdWindow {
		r.scratch.replace(int64(window))
		r.decoder, err = newZstdReader(window)
	} else {
		r.decoder, err = zstdReaders.get()
	}
	if err != nil {
		return err
	}
	r.source = zstdSource{body: r.frame.blocks}
	binary.LittleEndian.PutUint32(r.source.head[:], zstdMagic)
	if r.frame.checksum {
		r.source.head[4] = 1 << 2
	}
	r.source.head[5] = byte(bits.Len64(window)-1-10) << 3
	return r.decoder.Reset(&r.source)
}

// Read implements io.Reader.
func (r *zstdReader) Read(p []byte) (int, error) {
	for {
		n, err := r.decoder.Read(p)
		r.given += int64(n)
		switch {
		case err == nil || n > 0:
			return n, nil // an error comes again
		case err != io.EOF:
			if err = r.widen(err); err != nil {
				return 0, err
			}
		case r.frame.content >= 0 && r.given != r.frame.content:
			return 0, zstd.ErrFrameSizeMismatch
		case len(r.rest) == 0:
			return 0, io.EOF
		default:
			if err := r.next(); err != nil {
				return 0, err
			}
		}
	}
}

// widen reads the frame again with a larger window, up to where it was, if that can
// be why it failed: content that all fits into the window does not reach beyond it.
func (r *zstdReader) widen(cause error) error {
	if r.window >= powerOfTwo(r.frame.window) || r.given+maxZstdBlock <= int64(r.window) {
		return cause
	}
	if err := r.open(min(powerOfTwo(r.frame.window), r.window*zstdGrowth)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r.decoder, r.given); err != nil {
		if errors.Is(err, io.EOF) {
			return cause
		}
		return r.widen(err)
	}
	return nil
}

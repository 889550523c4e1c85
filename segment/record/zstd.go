package record

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// zstd's default level needs a window of 2 MiB and level 19 one of 8 MiB; only
	// the "ultra" levels 20 to 22 need more, up to 128 MiB. For those a decoder is
	// made and thrown away.
	zstdWindow    = 8 << 20
	maxZstdWindow = 128 << 20
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
		zstd.WithDecoderMaxMemory(window), zstd.WithDecoderMaxWindow(window))
}

func (d *Decompressor) openZstd(payload []byte) error {
	var h zstd.Header
	if err := h.Decode(payload); err != nil {
		return err
	}
	need := h.WindowSize
	if h.SingleSegment {
		need = h.FrameContentSize
	}
	var err error
	switch {
	case need > uint64(max(d.bound, zstdWindow)):
		return fmt.Errorf("%w: zstd window of %d bytes", ErrTooLarge, need)
	case need > zstdWindow:
		d.zstd, err = newZstdReader(maxZstdWindow)
	default:
		d.zstd, err = zstdReaders.get()
	}
	if err != nil {
		return err
	}
	d.in = d.zstd
	return d.zstd.Reset(&d.src)
}

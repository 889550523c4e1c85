package read

import (
	"io"
	"net"

	"github.com/coldbrook/coldbrook/tiering/cache"
)

// piece is a run of checked bytes that stay until Release: pinned in the cache, or in the reserve what is too large
// for that.
type piece struct {
	pin *cache.Pinned
	out *outsized
}

// Bytes must not be changed, nor used after Release.
func (p piece) Bytes() []byte {
	if p.out != nil {
		return p.out.b
	}
	return p.pin.Bytes()
}

// Release must be called once.
func (p piece) Release() {
	if p.out != nil {
		p.out.release()
		return
	}
	p.pin.Release()
}

// data is a run of whole batches in such pieces. It is not safe for concurrent use.
type data struct {
	pins []piece
	runs [][]byte
	size int64
	next int64
}

// Len is the number of bytes.
func (d *data) Len() int64 { return d.size }

// NextOffset is the offset after the last batch, or the offset that was asked for when there is none.
func (d *data) NextOffset() int64 { return d.next }

// Pinned is how much memory is held until Release, at least: a peer that does not take it has seconds.
func (d *data) Pinned() int64 { return d.size }

// WriteTo writes the batches without copying them: one writev on a network connection.
func (d *data) WriteTo(w io.Writer) (int64, error) {
	if len(d.runs) == 1 {
		n, err := w.Write(d.runs[0])
		return int64(n), err
	}
	bufs := make(net.Buffers, len(d.runs))
	copy(bufs, d.runs)
	return bufs.WriteTo(w)
}

// AppendTo appends the batches to dst.
func (d *data) AppendTo(dst []byte) ([]byte, error) {
	for _, r := range d.runs {
		dst = append(dst, r...)
	}
	return dst, nil
}

// Release gives the chunks back; the batches must not be used after it.
func (d *data) Release() {
	for _, p := range d.pins {
		p.Release()
	}
	d.pins, d.runs, d.size = nil, nil, 0
}

// add appends run, a part of pin.
func (d *data) add(pin piece, run []byte, next int64) {
	d.pins = append(d.pins, pin)
	d.runs = append(d.runs, run)
	d.size += int64(len(run))
	d.next = next
}

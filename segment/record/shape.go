package record

import "io"

// shape is what validation needs of a record.
type shape struct {
	timestampDelta, offsetDelta int64
	hasKey                      bool
}

// shape reads the next record and checks all of it. A record larger than the window
// is not held but passed through it, so that a few bytes which decompress to a
// huge record cost time and no memory.
func (d *Decompressor) shape() (shape, error) {
	n, err := d.length()
	if err != nil {
		return shape{}, err
	}
	if n > int64(d.hold) {
		return d.pass(n)
	}
	body, err := d.take(n)
	if err != nil {
		return shape{}, err
	}
	var f fields
	if bad := f.parse(body); bad != sound {
		return shape{}, bad
	}
	return shape{f.timestampDelta, f.offsetDelta, f.key.at >= 0}, nil
}

// pass is fields.parse for a record body of n bytes that is not held.
func (d *Decompressor) pass(n int64) (shape, error) {
	p := passing{d: d, left: n}
	var s shape
	p.skip(1, badAttribute)
	s.timestampDelta = p.varint(badTimestamp)
	s.offsetDelta = p.varint(badOffset)
	s.hasKey = p.bytes(badKey) >= 0
	p.bytes(badValue)
	headers := p.varint(badCount)
	if headers < 0 || headers > p.left/2 {
		p.fail(badCount)
	}
	for ; headers > 0 && p.err == nil; headers-- {
		if p.bytes(badHeader) < 0 {
			p.fail(badHeader)
		}
		p.bytes(badHeader)
	}
	if p.left > 0 {
		p.fail(badTail)
	}
	return s, p.err
}

// passing reads a record of which left bytes are to come. After an error it does
// nothing.
type passing struct {
	d    *Decompressor
	left int64
	err  error
}

func (p *passing) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *passing) varint(bad defect) int64 {
	if p.err != nil {
		return 0
	}
	before := p.d.consumed()
	u, err := p.d.uvarint(p.left)
	if err == badLength {
		err = bad
	}
	if err != nil {
		p.fail(err)
		return 0
	}
	p.left -= p.d.consumed() - before
	return unzigzag(u)
}

// bytes passes a length and so many bytes, and returns the length.
func (p *passing) bytes(bad defect) int64 {
	n := p.varint(bad)
	if n < -1 || n > p.left {
		p.fail(bad)
	}
	if n > 0 {
		p.skip(n, bad)
	}
	return n
}

func (p *passing) skip(n int64, bad defect) {
	for p.err == nil && n > 0 {
		if p.d.at == len(p.d.buf) {
			if err := p.d.fill(); err == io.EOF {
				p.fail(bad)
				return
			} else if err != nil {
				p.fail(err)
				return
			}
		}
		k := min(n, int64(len(p.d.buf)-p.d.at))
		p.d.at += int(k)
		p.left -= k
		n -= k
	}
}

// consumed returns how many decompressed bytes were used up.
func (d *Decompressor) consumed() int64 {
	return d.bound - d.left - int64(len(d.buf)-d.at)
}

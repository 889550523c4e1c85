package record

import (
	"encoding/binary"
	"math/bits"
)

// word reads the varint of one to three bytes at the low end of x, which is eight
// bytes loaded little endian, and returns it with its size, or with 0 if it is
// longer. No branch depends on the size: batches mix them.
func word(x uint64) (v uint64, size uint) {
	const stop = 0x808080
	m := ^x & stop
	if m == 0 {
		return 0, 0
	}
	size = uint(bits.TrailingZeros64(m)+1) / 8
	x &= 1<<(8*size) - 1
	return x&0x7f | x>>1&0x3f80 | x>>2&0x1fc000, size
}

// quick is parse for records as nearly all are: short lengths and deltas, and no
// headers. It reports whether b is one; if not, which says nothing about b, parse
// decides. It leaves the position of the headers unset.
func (f *fields) quick(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	// One load holds timestamp delta, offset delta and key length.
	x := binary.LittleEndian.Uint64(b[1:])
	timestamp, n1 := word(x)
	x >>= 8 * n1
	offset, n2 := word(x)
	x >>= 8 * n2
	key, n3 := word(x)
	i := 1 + int(n1+n2+n3)
	if n1 == 0 || n2 == 0 || n3 == 0 || i > 9 {
		return false
	}
	f.timestampDelta, f.offsetDelta = unzigzag(timestamp), unzigzag(offset)
	f.key = span{-1, -1}
	if k := int(unzigzag(key)); k >= 0 {
		f.key = span{i, i + k}
		i += k
	} else if k < -1 {
		return false
	}
	if i+8 > len(b) {
		return false
	}
	value, n := word(binary.LittleEndian.Uint64(b[i:]))
	i += int(n)
	f.value = span{-1, -1}
	if v := int(unzigzag(value)); v >= 0 {
		f.value = span{i, i + v}
		i += v
	} else if v < -1 {
		return false
	}
	f.headerCount = 0
	return n > 0 && i == len(b)-1 && b[i] == 0
}

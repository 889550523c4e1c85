package object

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// bodySum returns the body's checksum. It reads the body unless the caller vouches for the sum and
// the server will compare it.
func bodySum(body Body, o PutOptions, serverCompares bool) (uint32, error) {
	if o.HasCRC && serverCompares {
		return o.CRC32C, nil
	}
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, io.NewSectionReader(source{Body: body}, 0, body.Size()))
	if err != nil {
		return 0, err
	}
	if n < body.Size() {
		return 0, shortBody(nil)
	}
	if o.HasCRC && h.Sum32() != o.CRC32C {
		return 0, ErrChecksum
	}
	return h.Sum32(), nil
}

// encodeCRC writes a checksum as S3's headers have it.
func encodeCRC(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

func decodeCRC(s string) (uint32, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

// confirmed compares the checksum of a store's answer with what was sent. A store that says none
// confirms nothing; one that says another has stored something else.
func confirmed(answer string, sum uint32) (bool, error) {
	got, ok := decodeCRC(answer)
	if ok && got != sum {
		return false, ErrChecksum
	}
	return ok, nil
}

// joinCRC returns the Castagnoli checksum of two runs of bytes of which the first has the sum a
// and the second, of n bytes, the sum b: a is moved past n zero bytes, which multiplies it by
// x^8n modulo the polynomial.
func joinCRC(a, b uint32, n int64) uint32 {
	shift, square := uint32(1)<<31, uint32(1)<<30 // x^0 and x^1, the highest bit is the lowest power
	for bits := 8 * n; bits > 0; bits >>= 1 {
		if bits&1 != 0 {
			shift = mulCRC(square, shift)
		}
		square = mulCRC(square, square)
	}
	return mulCRC(shift, a) ^ b
}

// mulCRC multiplies two polynomials modulo Castagnoli's.
func mulCRC(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		odd := b & 1
		b >>= 1
		if odd != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}

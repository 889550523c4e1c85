package manifest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A JSON object of ours starts with a fixed header; the checksum covers the whole object with its own eight
// digits as zeros, so that any tool can read it and any tool can check it:
//
//	{"format":"coldbrook.manifest.root","version":1,"crc32c":"89abcdef", …
const (
	rootFormat    = "coldbrook.manifest.root"
	nodeFormat    = "coldbrook.manifest.node"
	formatVersion = 1
	// maxObjects bounds the JSON objects in one manifest: 1,000 entries, references and garbage. It keeps
	// what a decoder allocates in proportion, since "{}" is two bytes and an Entry two hundred.
	maxObjects = LeafEntries + maxRefs + 4*maxGarbage + 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var zeroDigits = []byte("00000000")

func header(format string, version int) string {
	return `{"format":"` + format + `","version":` + strconv.Itoa(version) + `,"crc32c":"`
}

// SealJSON encodes v, a JSON object, with the header in front. The result is at most limit bytes.
func SealJSON(format string, v any, limit int) ([]byte, CRC, error) {
	body, err := encode(v)
	if err != nil {
		return nil, 0, fmt.Errorf("encode %s: %w", format, err)
	}
	h := header(format, formatVersion)
	out := make([]byte, 0, len(h)+len(zeroDigits)+len(body)+2)
	out = append(out, h...)
	out = append(out, zeroDigits...)
	out = append(out, `",`...)
	out = append(out, body[1:]...)
	if len(out) > limit {
		return nil, 0, fmt.Errorf("encode %s: %d bytes, want at most %d", format, len(out), limit)
	}
	sum := crc32.Checksum(out, castagnoli)
	copy(out[len(h):], fmt.Appendf(nil, "%08x", sum))
	return out, CRC(sum), nil
}

// OpenJSON checks the header and the checksum of b and decodes the rest into v, with the members that v has no fields for
// in its Unknown. A newer version than this release reads is a VersionError. b is not changed or kept.
func OpenJSON(format string, b []byte, limit int, v any) (CRC, error) {
	return OpenObjects(format, b, limit, maxObjects, v)
}

// OpenObjects is OpenJSON of at most so many JSON objects.
func OpenObjects(format string, b []byte, limit, objects int, v any) (CRC, error) {
	if len(b) > limit {
		return 0, fmt.Errorf("%s of %d bytes, want at most %d: %w", format, len(b), limit, ErrCorrupt)
	}
	version, at, err := readHeader(format, b)
	if err != nil {
		return 0, err
	}
	sum, err := checkSum(format, b, at)
	if err != nil {
		return 0, err
	}
	// Behind the checksum: a version that damage has made is not taken for a newer one.
	if version > formatVersion {
		return 0, &VersionError{Format: format, Version: version, Newest: formatVersion}
	}
	if n := bytes.Count(b, []byte{'{'}); n > objects {
		return 0, fmt.Errorf("%s of %d objects: %w", format, n, ErrCorrupt)
	}
	if err := decode(b[at+len(zeroDigits)+2:], v); err != nil {
		return 0, fmt.Errorf("%s: %w: %w", format, err, ErrCorrupt)
	}
	return CRC(sum), nil
}

// readHeader returns the version and where the checksum's digits are. It is the same in all versions.
func readHeader(format string, b []byte) (version, at int, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"format":"`+format+`","version":`))
	if !ok {
		return 0, 0, fmt.Errorf("not a %s: %w", format, ErrCorrupt)
	}
	digits, _, _ := bytes.Cut(rest[:min(len(rest), 8)], []byte{','})
	version, err = strconv.Atoi(string(digits))
	h := header(format, version)
	if err != nil || version < 1 || !bytes.HasPrefix(b, []byte(h)) {
		return 0, 0, fmt.Errorf("%s of version %q: %w", format, digits, ErrCorrupt)
	}
	return version, len(h), nil
}

// checkSum compares the checksum whose digits are at a position of b with that of b.
func checkSum(format string, b []byte, at int) (uint32, error) {
	if len(b) < at+len(zeroDigits)+3 || b[at+8] != '"' || b[at+9] != ',' {
		return 0, fmt.Errorf("%s cut short: %w", format, ErrCorrupt)
	}
	var digits [4]byte
	if _, err := hex.Decode(digits[:], b[at:at+8]); err != nil {
		return 0, fmt.Errorf("%s: checksum: %w: %w", format, err, ErrCorrupt)
	}
	want := uint32(digits[0])<<24 | uint32(digits[1])<<16 | uint32(digits[2])<<8 | uint32(digits[3])
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, zeroDigits)
	sum = crc32.Update(sum, castagnoli, b[at+8:])
	if sum != want {
		return 0, fmt.Errorf("%s: checksum %08x, want %08x: %w", format, sum, want, ErrCorrupt)
	}
	return sum, nil
}

// Encode validates the root and returns its object.
func (r *Root) Encode() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	b, _, err := SealJSON(rootFormat, r, MaxRootBytes)
	return b, err
}

// DecodeRoot reads a root object. The result holds no reference to b.
func DecodeRoot(b []byte) (*Root, error) {
	r := new(Root)
	if _, err := OpenJSON(rootFormat, b, MaxRootBytes, r); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	return r, nil
}

// Encode validates the node and returns its object and the reference to it under name.
func (n *Node) Encode(name string) ([]byte, Ref, error) {
	s, err := n.validate()
	if err != nil {
		return nil, Ref{}, err
	}
	b, sum, err := SealJSON(nodeFormat, n, maxNodeBytes)
	if err != nil {
		return nil, Ref{}, err
	}
	ref := Ref{
		Level: n.Level, Object: name, Size: int64(len(b)), CRC32C: sum,
		BaseOffset: n.base(), LastOffset: s.next - 1, MaxTimestamp: s.maxTS,
		Bytes: s.bytes, Segments: s.segments, Aborted: s.aborted,
	}
	return b, ref, ref.validate()
}

func (n *Node) base() int64 {
	if n.Level == 1 {
		return n.Entries[0].BaseOffset
	}
	return n.Refs[0].BaseOffset
}

// DecodeNode reads the object that ref stands for, and checks that it is that one.
func DecodeNode(b []byte, ref Ref) (*Node, error) {
	n := new(Node)
	sum, err := OpenJSON(nodeFormat, b, maxNodeBytes, n)
	if err != nil {
		return nil, err
	}
	s, err := n.validate()
	if err != nil {
		return nil, err
	}
	got := Ref{
		Level: n.Level, Object: ref.Object, Size: int64(len(b)), CRC32C: sum,
		BaseOffset: n.base(), LastOffset: s.next - 1, MaxTimestamp: s.maxTS,
		Bytes: s.bytes, Segments: s.segments, Aborted: s.aborted, Unknown: ref.Unknown,
	}
	if got != ref {
		return nil, fmt.Errorf("node %s is not the one referred to: %+v, want %+v: %w", ref.Object, got, ref, ErrCorrupt)
	}
	return n, nil
}
